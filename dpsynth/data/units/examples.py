"""Made-up units at the extremes, by a schema alone: what the most that one unit can do is tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dpsynth.data.schema.axis import declared_bounds, from_axis, is_numeric, to_axis
from dpsynth.data.schema.columns import Boolean, Column

if TYPE_CHECKING:
    from dpsynth.data.units.units import Units

_OPEN = (-(2.0**40), 2.0**40)  # stands in for bounds that a schema leaves open
# How long a unit is, and what is in its rows; places count from 0 (least) to 1 (most), None is missing.
_PATTERNS = (("most", "low"), ("most", "high"), ("most", "all"), ("most", "missing"), ("few", "low"))
_PATTERNS += (("few", "all"), ("few", "missing"))


def example(units: Units, num: int) -> pd.DataFrame:
    """Returns `num` made-up units: long and short ones, with equal, different and missing values.

    Edge cases: what cannot be missing is at its least instead; attributes of sequences are constant, and
    times are those of the calendar, or spread evenly.
    """
    schema = units.schema
    few, most = _lengths(units)
    kinds = [_PATTERNS[i % len(_PATTERNS)] for i in range(num)]
    lengths = np.array([most if length == "most" else few for length, _ in kinds], dtype=np.int64)
    owner = np.repeat(np.arange(num), lengths)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    content = np.array([what for _, what in kinds])[owner]
    share = np.where(content == "high", 1.0, 0.0)
    turned = (place + owner) % max(most, 2) / (max(most, 2) - 1)
    share = np.where(content == "all", turned, share)
    share[content == "missing"] = np.nan
    constant = share[np.arange(len(owner)) - place]
    fixed = schema.sequence.attributes if units.ordered else ()
    columns = {}
    for column in schema.columns:
        if column.name not in schema.names:
            continue
        if column.name == units.name or not column.modelled:
            columns[column.name] = pd.Series(owner)
        elif units.ordered and column.name == schema.sequence.time:
            columns[column.name] = _times(column, schema.sequence.calendar, place, most)
        else:
            columns[column.name] = _values(column, constant if column.name in fixed else share)
    return pd.DataFrame(columns)


def _lengths(units: Units) -> tuple[int, int]:
    """Rows of a short and of a long unit."""
    if units.ordered:
        return units.schema.sequence.min_length, units.schema.sequence.max_length
    return 1, units.max_rows


def _times(column: Column, calendar: tuple | None, place: np.ndarray, most: int) -> pd.Series:
    if calendar is not None:
        return pd.Series(calendar).take(place).reset_index(drop=True)
    return _values(column, place / max(most - 1, 1))


def _values(column: Column, share: np.ndarray) -> pd.Series:
    """A column's value at each share of its way from the first to the last; NaN is missing, or the first."""
    absent = np.isnan(share) & column.nullable
    share = np.nan_to_num(share)
    if is_numeric(column):
        low, high = declared_bounds(column) or _made_up_bounds(column)
        return from_axis(column, np.where(absent, np.nan, low + share * (high - low)))
    values = (False, True) if isinstance(column, Boolean) else column.values or ("a", "b", "c")
    listed = pd.Series([*values, None], dtype=object)
    found = listed.take(np.where(absent, len(values), np.round(share * (len(values) - 1)).astype(int)))
    return found.reset_index(drop=True)


def _made_up_bounds(column: Column) -> tuple[float, float]:
    """The declared bound and one beyond it on the other side, where it is open."""
    low, high = _OPEN
    if column.kind == "datetime":
        low, high = 0.0, 2.0**31
    if column.min is not None:
        low = float(to_axis(column, pd.Series([column.min]))[0])
        high = max(high, low)
    if column.max is not None:
        high = float(to_axis(column, pd.Series([column.max]))[0])
        low = min(low, high)
    return low, high
