"""Columns cut into equal-width bins and declared categories, so that two tables can be counted alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dpsynth.data.schema import Boolean, Categorical, Column, Datetime, Schema
from dpsynth.data.schema.axis import is_numeric, to_axis
from dpsynth.data.schema.parsing import moments_of


def as_numbers(series: pd.Series, column: Column) -> np.ndarray:
    """Returns a number or date column on its axis, float64; nan for missing and for what does not parse."""
    if not isinstance(column, Datetime):
        series = pd.to_numeric(series, errors="coerce")
    else:
        series = moments_of(series, column.format)
    return to_axis(column, series)


@dataclass(frozen=True, kw_only=True)
class ColumnBins:
    """One column's cells: bins or categories, then `other` (values not listed), then missing.

    Args:
      bounds: of a numeric or datetime column; values outside fall into the first or last bin.
      values: of a categorical or boolean column, in declared order.
    """

    column: Column
    bounds: tuple[float, float] | None
    values: tuple | None
    num_bins: int

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def size(self) -> int:
        """Number of cells, the missing cell included."""
        return self.num_bins + 1 if self.values is None else len(self.values) + 2

    @property
    def missing(self) -> int:
        """Code of the missing cell, the last."""
        return self.size - 1

    def codes(self, series: pd.Series) -> np.ndarray:
        """Returns int64 [row], each in [0, size)."""
        return self._codes_of_numbers(series) if self.values is None else self._codes_of_values(series)

    def _codes_of_numbers(self, series: pd.Series) -> np.ndarray:
        numbers = as_numbers(series, self.column)
        low, high = self.bounds
        known = ~np.isnan(numbers)
        share = (np.where(known, numbers, low) - low) / (high - low) if high > low else np.zeros(len(numbers))
        codes = np.floor(np.clip(share, 0.0, 1.0) * self.num_bins).astype(np.int64)
        return np.where(known, np.minimum(codes, self.num_bins - 1), self.missing)

    def _codes_of_values(self, series: pd.Series) -> np.ndarray:
        positions = {value: code for code, value in enumerate(self.values)}
        codes, uniques = pd.factorize(series)
        other = len(self.values)
        lookup = np.array([positions.get(value, other) for value in uniques] + [self.missing], dtype=np.int64)
        return lookup[codes]  # factorize gives -1 for missing, which is the last entry

    def labels(self) -> list[str]:
        """Returns one label per cell; edges of numeric bins."""
        if self.values is not None:
            return [*(str(value) for value in self.values), "(other)", "(missing)"]
        edges = np.linspace(*self.bounds, self.num_bins + 1)
        return [f"[{a:.4g}, {b:.4g}{']' if b == edges[-1] else ')'}" for a, b in zip(edges, edges[1:])] + [
            "(missing)"
        ]


@dataclass(frozen=True, kw_only=True)
class Binning:
    """The bins of every compared column."""

    columns: tuple[ColumnBins, ...]

    def __getitem__(self, name: str) -> ColumnBins:
        return next(bins for bins in self.columns if bins.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(bins.name for bins in self.columns)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(bins.size for bins in self.columns)

    def codes(self, table: pd.DataFrame) -> np.ndarray:
        """Returns int64 [column, row]: a column's codes lie side by side in memory."""
        codes = np.empty((len(self.columns), len(table)), dtype=np.int64)
        for position, bins in enumerate(self.columns):
            codes[position] = bins.codes(table[bins.name])
        return codes


def make_binning(
    schema: Schema,
    train: pd.DataFrame,
    *,
    num_bins: int = 20,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    values: Mapping[str, tuple] | None = None,
) -> Binning:
    """Cuts every modelled column.

    Args:
      train: private; read only for columns whose bounds or values are neither declared nor given, so
        everything computed from such a binning is internal.
      bounds, values: bought ones, for what the schema does not declare.
    """
    columns = []
    for column in schema.modelled:
        if column.name not in train.columns:
            continue
        if is_numeric(column):
            limits = (bounds or {}).get(column.name) or _bounds(column, train[column.name])
            columns.append(ColumnBins(column=column, bounds=limits, values=None, num_bins=num_bins))
        else:
            listed = (values or {}).get(column.name) or _values(column, train[column.name])
            columns.append(ColumnBins(column=column, bounds=None, values=tuple(listed), num_bins=len(listed)))
    return Binning(columns=tuple(columns))


def _bounds(column: Column, series: pd.Series) -> tuple[float, float]:
    declared = [column.min, column.max]
    if isinstance(column, Datetime):
        parsed = as_numbers(pd.Series(declared, dtype=object), column)
        declared = [None if np.isnan(edge) else edge for edge in parsed]
    if None in declared:
        numbers = as_numbers(series, column)
        numbers = numbers[np.isfinite(numbers)]
        seen = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 1.0)
        declared = [edge if edge is not None else seen[i] for i, edge in enumerate(declared)]
    return float(declared[0]), float(declared[1])


def _values(column: Column, series: pd.Series) -> tuple:
    if isinstance(column, Boolean):
        return (False, True)
    if isinstance(column, Categorical) and column.values is not None:
        return column.values
    return tuple(sorted(pd.unique(series.dropna()), key=str))
