"""Values of one column turned into numbers, truth values, moments or text.

Each value is read by itself. Equal values come out equal, whatever they looked like: 1, 1.0 and True are one
number, 0 and -0.0 too, and two texts of one day are one moment.
"""

from __future__ import annotations

import unicodedata
from numbers import Number

import numpy as np
import pandas as pd
from pandas.api import types

# How files write false and true.
FLAGS = (("false", "true"), ("0", "1"), ("0.0", "1.0"), ("n", "y"), ("no", "yes"), ("f", "t"))
_TRUTH = {word: value for pair in FLAGS for word, value in zip(pair, (False, True))}


def is_text(series: pd.Series) -> bool:
    """Says whether the dtype is one of text; columns of Python objects are not."""
    return series.dtype != object and types.is_string_dtype(series.dtype)


def numbers_of(series: pd.Series, *, truth: bool = False) -> np.ndarray:
    """Reads values as float64; missing values and what is no number become NaN.

    Args:
      truth: True and False are 1 and 0, otherwise no numbers; as text they never are.
    """
    if types.is_bool_dtype(series.dtype) and not truth:
        return np.full(len(series), np.nan)
    if types.is_numeric_dtype(series.dtype):
        return series.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0
    if is_text(series):
        words = series.str.strip()
        series = words.mask(words.str.lower().isin(["true", "false"])).astype(object)
    else:
        kept = (Number, np.bool_) if truth else Number
        series = series.map(
            lambda v: v if isinstance(v, kept) and (truth or not isinstance(v, bool)) else None
        )
    return pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan) + 0.0


def truth_of(series: pd.Series) -> pd.Series | None:
    """Reads true and false, as files write them, as `boolean`; None where a value is something else."""
    if types.is_bool_dtype(series.dtype):
        return series.astype("boolean")
    if is_text(series):
        found = series.str.strip().str.lower().map(_TRUTH)
    else:
        numbers = pd.Series(numbers_of(series, truth=True), index=series.index)
        found = numbers.map({1.0: True, 0.0: False})
    if (found.isna() & series.notna()).any():
        return None
    return found.astype(object).where(series.notna(), None).astype("boolean").rename(series.name)


def moments_of(series: pd.Series, style: str) -> pd.Series:
    """Reads dates as moments of UTC without a zone, `datetime64[us]`; what is no date in `style` is missing.

    Dates without a zone are taken as they stand. Numbers are read by their digits: 20240131 is a day.
    """
    if types.is_integer_dtype(series.dtype):
        series = series.astype("Int64").astype("string")
    if not types.is_datetime64_any_dtype(series.dtype):
        codes, listed = pd.factorize(series.astype(object))  # dates repeat
        parsed = pd.to_datetime(pd.Series(listed, dtype=object), format=style, errors="coerce", utc=True)
        taken = parsed.astype("datetime64[us, UTC]").array.take(codes, allow_fill=True)
        series = pd.Series(taken, index=series.index, name=series.name)
    plain = series if series.dt.tz is None else series.dt.tz_convert(None)
    return plain.astype("datetime64[us]")


def text_of(series: pd.Series, form: str | None) -> pd.Series | None:
    """Returns values as `str` in a Unicode normal form, if one is declared; None where one is not text."""
    if not is_text(series):
        if series.dtype != object or not series.dropna().map(lambda v: isinstance(v, str)).all():
            return None
        series = series.astype("str")
    return (
        series if form is None else series.map(lambda v: unicodedata.normalize(form, v), na_action="ignore")
    )
