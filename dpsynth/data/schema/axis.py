"""Numbers and dates on one axis: float64, dates as seconds since 1970, missing as NaN."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dpsynth.data.schema.columns import Column, Continuous, Datetime, Integer
from dpsynth.data.schema.parsing import moments_of

_SECONDS = {"%f": 1e-6, "%S": 1.0, "%T": 1.0, "%X": 1.0, "%c": 1.0, "%M": 60.0, "%H": 3600.0, "%I": 3600.0}
_DAY = 86_400.0


def is_numeric(column: Column) -> bool:
    """Says whether a column lives on the numeric axis (numbers and dates) rather than in a list of values."""
    return isinstance(column, Continuous | Integer | Datetime)


def resolution(column: Column) -> float:
    """The declared distance between neighbouring values of a column; 0 where any real number may occur."""
    if isinstance(column, Integer):
        return 1.0
    if isinstance(column, Datetime):
        return min((step for token, step in _SECONDS.items() if token in column.format), default=_DAY)
    decimals = column.decimals
    return 0.0 if decimals is None else 10.0**-decimals


def to_axis(column: Column, series: pd.Series) -> np.ndarray:
    """Places a column's values on the numeric axis.

    Edge cases: dates may be strings in the declared format or already parsed; missing values become NaN.
    """
    if not isinstance(column, Datetime):
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    parsed = moments_of(series, column.format)
    if (parsed.isna() & series.notna()).any():
        raise ValueError(f"Column {column.name!r} holds values that are not dates in its format.")
    moments = parsed.to_numpy(dtype="datetime64[us]")
    seconds = moments.astype(np.int64) / 1e6
    seconds[np.isnat(moments)] = np.nan
    return seconds


def from_axis(column: Column, values: np.ndarray) -> pd.Series:
    """Turns places on the axis back into a column: integers, rounded numbers or dates; NaN is missing."""
    if isinstance(column, Datetime):
        return pd.Series(pd.to_datetime(np.round(values * 1e6), unit="us"), name=column.name)
    if isinstance(column, Integer):
        whole = pd.Series(np.round(values), name=column.name)
        return whole.astype("Int64") if column.nullable else whole.astype(np.int64)
    if column.decimals is not None:
        values = np.round(values, column.decimals)
    return pd.Series(values, name=column.name)


def declared_bounds(column: Column) -> tuple[float, float] | None:
    """The schema's bounds on the axis, or None where at least one is undeclared."""
    if column.min is None or column.max is None:
        return None
    low, high = to_axis(column, pd.Series([column.min, column.max]))
    return float(low), float(high)
