"""A long table as arrays [entity, step], and weighted pair statistics in which every entity counts once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dpsynth.data.schema import Boolean, Categorical, Column, Schema
from dpsynth.data.schema.axis import is_numeric, to_axis
from dpsynth.evaluation.binning import Binning, as_numbers


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Sequences side by side; steps past the end are NaN, or -1 in codes.

    Args:
      lengths: [entity].
      numbers: numbers, dates and yes/no features by name, [entity, step].
      codes: cells of every feature by name, [entity, step].
      attributes: cells of every attribute by name, [entity].
    """

    lengths: np.ndarray
    numbers: dict[str, np.ndarray]
    codes: dict[str, np.ndarray]
    attributes: dict[str, np.ndarray]
    max_length: int

    @property
    def num_entities(self) -> int:
        return len(self.lengths)


def feature_columns(schema: Schema) -> list[Column]:
    """Columns that change along a sequence, without the time."""
    sequence = schema.sequence
    return [c for c in schema.modelled if c.name not in (*sequence.attributes, sequence.time)]


def make_panel(table: pd.DataFrame, schema: Schema, binning: Binning) -> Panel:
    """Orders a long table by entity and time, cut at the declared maximum length."""
    sequence = schema.sequence
    entity = pd.factorize(table[schema.unit.column])[0]
    time = np.arange(len(table), dtype=np.float64)
    if sequence.time is not None:
        time = to_axis(schema.column(sequence.time), table[sequence.time])
    order = np.lexsort((time, entity))
    entity, time = entity[order], time[order]
    place = np.arange(len(entity)) - np.searchsorted(entity, entity, side="left")
    kept = place < sequence.max_length
    table, entity, place, time = table.iloc[order[kept]], entity[kept], place[kept], time[kept]
    num = int(entity.max(initial=-1)) + 1

    def wide(values: np.ndarray, fill: float) -> np.ndarray:
        array = np.full((num, sequence.max_length), fill, dtype=np.asarray(values).dtype)
        array[entity, place] = values
        return array

    features = feature_columns(schema)
    numbers = {c.name: wide(as_values(table[c.name], c), np.nan) for c in features if has_values(c)}
    if sequence.time is not None and sequence.calendar is None:
        times = wide(time, np.nan)
        gaps = np.full_like(times, np.nan)
        gaps[:, 1:] = np.diff(times, axis=1)
        numbers[f"{sequence.time} (gap)"] = gaps
    first = place == 0
    return Panel(
        lengths=np.bincount(entity, minlength=num),
        numbers=numbers,
        codes={c.name: wide(binning[c.name].codes(table[c.name]), -1) for c in features},
        attributes={n: binning[n].codes(table.loc[first, n]) for n in sequence.attributes},
        max_length=sequence.max_length,
    )


def has_values(column: Column) -> bool:
    """Whether a mean makes sense: numbers, dates, yes/no, and categories coded by two numbers."""
    if isinstance(column, Categorical):
        return column.values is not None and len(column.values) == 2
    return is_numeric(column) or isinstance(column, Boolean)


def as_values(series: pd.Series, column: Column) -> np.ndarray:
    """Places on the axis; a two-valued column becomes 0 and 1."""
    if is_numeric(column):
        return as_numbers(series, column)
    second = True if isinstance(column, Boolean) else column.values[1]
    numbers = (series == second).to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(series.isna().to_numpy(), np.nan, numbers)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation over all steps where both are known, [entity, step] each; every entity weighs 1.

    Edge cases: fewer than two pairs, or a constant side -> nan.
    """
    known = np.isfinite(first) & np.isfinite(second)
    pairs = known.sum(axis=1)
    weights = known / np.maximum(pairs, 1)[:, None]
    total = weights.sum()
    if known.sum() < 2 or total == 0:
        return np.nan
    x, y = np.where(known, first, 0.0), np.where(known, second, 0.0)
    x = np.where(known, x - (weights * x).sum() / total, 0.0)
    y = np.where(known, y - (weights * y).sum() / total, 0.0)
    scale = np.sqrt((weights * x * x).sum() * (weights * y * y).sum())
    return float((weights * x * y).sum() / scale) if scale > 1e-12 else np.nan


def frequencies(rows: np.ndarray, columns: np.ndarray, num_rows: int, num_columns: int) -> np.ndarray:
    """Joint frequencies of two code arrays [entity, step]; pairs with a -1 are skipped; entities weigh 1."""
    known = (rows >= 0) & (columns >= 0)
    weights = known / np.maximum(known.sum(axis=1), 1)[:, None]
    cells = (rows * num_columns + columns)[known]
    table = np.bincount(cells, weights=weights[known], minlength=num_rows * num_columns)
    return table.reshape(num_rows, num_columns) / max(table.sum(), 1e-12)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Total variation between two frequency tables."""
    return 0.5 * float(np.abs(first - second).sum())
