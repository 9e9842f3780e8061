"""Checks a table against its schema and lists everything wrong with it at once.

What is an error depends on the schema and on single values, never on how the values are spread: constant
columns, columns missing throughout (where nullable) and rare values are fine, because a release must behave
the same whether or not one unit makes a column constant. A refusal is shown to the holder of the table and
releases nothing; messages name the column and the rule, never a value, a row or a count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Number

import numpy as np
import pandas as pd
from pandas.api import types

from dpsynth.data.columns import MAX_INTEGER
from dpsynth.data.dtypes import dtype_name, restore
from dpsynth.data.schema import (
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Identifier,
    Integer,
    Schema,
)
from dpsynth.errors import Problem

# What text files write where a value is missing; a declared category of the same text is a value.
MISSING_TEXTS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "<NA>")

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_DECLARE = "Declare nullable: true, or complete the column."


@dataclass(frozen=True)
class Checked:
    """A column's values in their storage dtype, and what is wrong with them."""

    values: pd.Series
    problems: tuple[Problem, ...]


def check_columns(frame: pd.DataFrame, schema: Schema, *, text: bool) -> tuple[pd.DataFrame, list[Problem]]:
    """Checks every declared column of a frame; returns the frame in storage dtypes and all problems.

    Args:
      frame: private; columns the schema does not name are left out.
      schema: public.
      text: whether all values are text, as read from a CSV file.
    """
    done = [check_column(frame[n], schema.column(n), schema, text=text) for n in frame if n in schema.names]
    problems = [problem for checked in done for problem in checked.problems]
    values = {checked.values.name: checked.values.reset_index(drop=True) for checked in done}
    return pd.DataFrame(values), problems


def check_column(series: pd.Series, column: Column, schema: Schema, *, text: bool) -> Checked:
    """Checks one column and converts it to its storage dtype."""
    if not text and column.dtype is None:
        column = replace(column, dtype=dtype_name(series.dtype))
    series = _with_missing(series, column, schema, text=text)
    rules: list[tuple[str, str]] = []
    if not column.nullable and series.isna().any():
        names_unit = column.name == schema.unit.column
        fix = "Every row belongs to a unit: complete it." if names_unit else _DECLARE
        rules.append(("Has missing values, but is not nullable.", fix))
    for kind, check in _CHECKS.items():
        if isinstance(column, kind):
            series, found = check(series, column, text)
            rules += found
    if not rules:
        try:
            series = restore(series, column)
        except (TypeError, ValueError, OverflowError):
            rules.append(
                (f"Its values do not fit in dtype {column.dtype}.", "Correct dtype, or leave it out.")
            )
    return Checked(series, tuple(Problem(f"column {column.name!r}", rule, fix) for rule, fix in rules))


_Found = tuple[pd.Series, list[tuple[str, str]]]


def _with_missing(series: pd.Series, column: Column, schema: Schema, *, text: bool) -> pd.Series:
    """Turns texts that stand for missing values into missing values, unless they are declared values."""
    texts = set(schema.missing) | (set(MISSING_TEXTS) if text else set())
    texts -= set(getattr(column, "values", None) or ())
    if not texts or not (_is_text(series) or _is_category(series) or series.dtype == object):
        return series
    gone = series.isin(list(texts))
    if _is_category(series):
        return series.cat.remove_categories([c for c in series.cat.categories if c in texts])
    return series.mask(gone) if gone.any() else series


def _check_numbers(series: pd.Series, column: Continuous | Integer, text: bool) -> _Found:
    rules: list[tuple[str, str]] = []
    if types.is_bool_dtype(series.dtype):
        return series, [("Its dtype is bool.", "Declare it boolean.")]
    if not text and types.is_datetime64_any_dtype(series.dtype):
        return series, [(f"Its dtype is {dtype_name(series.dtype)}.", "Declare it datetime.")]
    if not text and _is_text(series) and series.notna().any():
        return series, [("Its dtype is text.", "Convert it to numbers, or declare it categorical.")]
    numbers = _to_numbers(series)
    absent = series.isna().to_numpy()
    if (np.isnan(numbers) & ~absent).any():
        rules.append(
            ("Holds values that are not numbers.", "Write numbers with a decimal point, or declare missing.")
        )
    if np.isinf(numbers).any():
        rules.append(("Holds infinite numbers.", "Replace them by finite or missing values."))
    known = numbers[np.isfinite(numbers)]
    if isinstance(column, Integer):
        if (known != np.round(known)).any():
            rules.append(("Holds numbers that are not whole.", "Declare it continuous."))
        elif (np.abs(known) > MAX_INTEGER).any():
            rules.append(("Holds numbers beyond ±2^53.", "Declare it identifier, or rescale."))
    low = -np.inf if column.min is None else column.min
    high = np.inf if column.max is None else column.max
    outside = (numbers < low) | (numbers > high)  # infinities count once, as infinities
    if outside[np.isfinite(numbers)].any():
        if not column.clip:
            rules.append(
                (_bounds_rule(column), "Widen the bounds, correct the values, or declare clip: true.")
            )
        elif not rules:
            clipped = np.clip(numbers, low, high)
            series = pd.Series(clipped, name=series.name).mask(absent) if text else _clip(series, low, high)
            numbers = clipped
    if text and not rules:
        whole = isinstance(column, Integer)
        series = pd.Series(numbers, name=series.name).astype("Int64" if whole else "float64")
    return series, rules


def _clip(series: pd.Series, low: float, high: float) -> pd.Series:
    if series.dtype == object or _is_category(series):
        return pd.Series(np.clip(_to_numbers(series), low, high), name=series.name)
    return series.clip(None if np.isinf(low) else low, None if np.isinf(high) else high)


def _to_numbers(series: pd.Series) -> np.ndarray:
    """Reads values as float64; missing values, truth values and what is no number become NaN."""
    if _is_category(series):
        series = series.astype(object)
    if types.is_numeric_dtype(series.dtype):
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    if _is_text(series):
        words = series.str.strip()
        series = words.mask(words.str.lower().isin(["true", "false"])).astype(object)
    else:
        series = series.map(lambda v: v if isinstance(v, Number) and not isinstance(v, bool) else None)
    return pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _is_text(series: pd.Series) -> bool:
    """Says whether the dtype is one of text; columns of Python objects are not."""
    return series.dtype != object and types.is_string_dtype(series.dtype) and not _is_category(series)


def _is_category(series: pd.Series) -> bool:
    return isinstance(series.dtype, pd.CategoricalDtype)


def _check_dates(series: pd.Series, column: Datetime, text: bool) -> _Found:
    rules: list[tuple[str, str]] = []
    if types.is_datetime64_any_dtype(series.dtype):
        moments = series if series.dt.tz is None else series.dt.tz_convert(None)
    elif _is_text(series) or _is_category(series) or series.dtype == object or series.isna().all():
        moments = pd.to_datetime(series.astype(object), format=column.format, errors="coerce")
        if (moments.isna() & series.notna()).any():
            fix = "Correct the values or the format, or declare it categorical."
            rules.append((f"Holds values that are not dates in format {column.format!r}.", fix))
    else:
        fix = "Convert it to dates or text, or declare it integer."
        return series, [(f"Its dtype {dtype_name(series.dtype)} is neither dates nor text.", fix)]
    for key, side in (("min", -1), ("max", 1)):
        if getattr(column, key) is None:
            continue
        bound = pd.Timestamp(column.parse(getattr(column, key)))
        outside = (moments < bound) if side < 0 else (moments > bound)
        if not outside.any():
            continue
        if not column.clip:
            rules.append(
                (_bounds_rule(column), "Widen the bounds, correct the values, or declare clip: true.")
            )
            break
        if types.is_datetime64_any_dtype(series.dtype):
            limit = bound if moments is series else bound.tz_localize("UTC").tz_convert(series.dt.tz)
        else:
            limit = getattr(column, key)
        series = series.mask(outside, limit)
    return series, rules


def _check_booleans(series: pd.Series, column: Boolean, text: bool) -> _Found:
    fix = "Write true and false, or declare it categorical with its values."
    known = pd.Series(series.dropna().unique())
    if text:
        known = known.astype("str").str.strip().str.lower()
        if not known.isin(list(_TRUTH)).all():
            return series, [("Holds values other than true, false, 1 and 0.", fix)]
        truth = series.astype("str").str.strip().str.lower().map(_TRUTH)
        return truth.astype(object).where(series.notna(), None).astype("boolean"), []
    if any(not isinstance(v, bool | np.bool_ | int | float | np.number) or v not in (0, 1) for v in known):
        return series, [("Holds values other than true and false.", fix)]
    return series, []


def _check_values(series: pd.Series, column: Categorical, text: bool) -> _Found:
    if column.values is None:
        return series, []
    own = type(column.values[0])
    if text and own is bool:
        series, rules = _check_booleans(series, Boolean(name=column.name), text)
        if rules:
            return series, rules
    elif text and own is not str:
        numbers = _to_numbers(series)
        if (np.isnan(numbers) & series.notna().to_numpy()).any():
            return series, [
                (f"Holds values that are not of type {own.__name__}.", "Quote the declared values.")
            ]
        whole = own is int and not (numbers[~np.isnan(numbers)] % 1).any()
        series = pd.Series(numbers, name=series.name).astype("Int64" if whole else "float64")
    seen = list(series.dropna().unique())
    if seen and all(isinstance(v, str) for v in seen) != (own is str):
        found = dtype_name(series.dtype)
        return series, [
            (f"Its dtype is {found}, its declared values are {own.__name__}.", "Make them the same.")
        ]
    known = set(column.values)
    if any(value not in known for value in seen):
        fix = "Declare every value, correct the table, or leave values out and let them be bought."
        return series, [("Holds values that the schema does not declare.", fix)]
    return series, []


def _check_keys(series: pd.Series, column: Identifier, text: bool) -> _Found:
    return series, []


def _bounds_rule(column: Continuous | Integer | Datetime) -> str:
    low = "-inf" if column.min is None else column.min
    high = "inf" if column.max is None else column.max
    return f"Holds values outside the declared [{low}, {high}]."


_CHECKS: dict[type | tuple[type, ...], Callable[..., _Found]] = {
    (Continuous, Integer): _check_numbers,
    Datetime: _check_dates,
    Boolean: _check_booleans,
    Categorical: _check_values,
    Identifier: _check_keys,
}
