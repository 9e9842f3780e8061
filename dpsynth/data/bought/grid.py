"""Columns cut into cells, from declared facts or bought statistics alone.

A column has *fine* cells, the resolution at which its histogram is bought and its values are restored, and
optionally *groups*: a map from fine to coarse codes. Models live on the coarse codes. Numbers and
categories are treated alike: quantile bins are groups of equal-width cells, merged rare categories are
groups of values, and whoever decodes draws a fine cell inside its group by the bought histogram.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dpsynth.data.bought.merging import merge_alike, merge_neighbours, merge_rare
from dpsynth.data.schema import Boolean, Column, Schema
from dpsynth.data.schema.axis import declared_bounds, is_numeric, resolution, to_axis
from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from dpsynth.data.bought.statistics import Marginal

POINT_WIDTH = 1e-9  # of the range: the width of a cell that stands for one value of a continuous column
_PER_OCTAVE, _OCTAVES = 4, 12  # geometric cells per doubling, and doublings


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """The cells of one column.

    Codes count the numeric cells or the values, then OTHER, then the missing cell, which is always last.

    Args:
      column: public, from the schema.
      edges: numbers and dates: K + 1 places on the axis; cell k is [e_k, e_k+1), the last one closed.
        Columns with a resolution have edges half a step below their values.
      values: categories, in their own dtype.
      other: values outside a bought list have a cell of their own.
      missing: missing values have a cell of their own.
      groups: coarse code of each fine code, or None where the two are the same.
    """

    column: Column
    edges: np.ndarray | None = None
    values: tuple | None = None
    other: bool = False
    missing: bool = False
    groups: np.ndarray | None = None

    @property
    def num_present(self) -> int:
        """Number of fine cells without the missing one."""
        return len(self.edges) - 1 if self.edges is not None else len(self.values) + self.other

    @property
    def fine_size(self) -> int:
        return self.num_present + self.missing

    @property
    def size(self) -> int:
        """Number of codes of a model: groups where cells are grouped, else fine cells."""
        return self.fine_size if self.groups is None else int(self.groups.max()) + 1

    @property
    def fine(self) -> Cells:
        """The same column without groups."""
        return self if self.groups is None else replace(self, groups=None)

    @property
    def group_map(self) -> np.ndarray:
        """Coarse code of each fine code."""
        return np.arange(self.fine_size, dtype=np.int32) if self.groups is None else self.groups

    def codes(self, series: pd.Series) -> np.ndarray:
        """Codes of a column's values, int32; numbers beyond the edges go to the first or last cell.

        Raises:
          InvalidInput: a value outside a declared list, or a missing value in a column without a cell for it.
        """
        fine = self._numeric_codes(series) if self.edges is not None else self._value_codes(series)
        return fine if self.groups is None else self.groups[fine]

    def _numeric_codes(self, series: pd.Series) -> np.ndarray:
        places = to_axis(self.column, series)
        codes = np.searchsorted(self.edges, places, side="right").astype(np.int32) - 1
        np.clip(codes, 0, self.num_present - 1, out=codes)
        return self._with_missing(codes, np.isnan(places))

    def _value_codes(self, series: pd.Series) -> np.ndarray:
        seen, uniques = pd.factorize(series)  # each distinct value is looked up once; missing is -1
        known = {value: code for code, value in enumerate(self.values)}
        table = np.array([known.get(value, -1) for value in uniques] + [0], dtype=np.int32)
        if (table < 0).any():
            if not self.other:
                self._refuse("has values outside its list.", "Declare them in the schema.")
            table[table < 0] = len(self.values)
        return self._with_missing(table[seen], seen < 0)

    def _with_missing(self, codes: np.ndarray, absent: np.ndarray) -> np.ndarray:
        if absent.any():
            if not self.missing:
                self._refuse("has missing values but is not nullable.", "Declare it nullable.")
            codes[absent] = self.fine_size - 1
        return codes

    def _refuse(self, rule: str, fix: str) -> None:
        raise InvalidInput("the table", [Problem(self.column.name, rule, fix)])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; the column itself is in the schema."""
        return {
            "column": self.column.name,
            "edges": None if self.edges is None else self.edges.tolist(),
            "values": None if self.values is None else list(self.values),
            "other": self.other,
            "missing": self.missing,
            "groups": None if self.groups is None else self.groups.tolist(),
        }

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any], schema: Schema) -> Cells:
        edges, values, groups = payload["edges"], payload["values"], payload["groups"]
        made = cls(
            column=schema.column(payload["column"]),
            edges=None if edges is None else np.array(edges, dtype=np.float64),
            values=None if values is None else tuple(values),
            other=payload["other"],
            missing=payload["missing"],
            groups=None if groups is None else np.array(groups, dtype=np.int32),
        )
        found = made.group_map
        if found.shape != (made.fine_size,) or (found < 0).any() or (found >= made.fine_size).any():
            raise ValueError("The groups of a column's cells are not among its cells.")
        return made


@dataclass(frozen=True)
class Domain:
    """The cells of all modelled columns, in the schema's order."""

    cells: tuple[Cells, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(cells.column.name for cells in self.cells)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(cells.size for cells in self.cells)

    @property
    def fine(self) -> Domain:
        """The same columns without groups: the resolution at which histograms are bought."""
        return Domain(tuple(cells.fine for cells in self.cells))

    def __getitem__(self, name: str) -> Cells:
        return self.cells[self.names.index(name)]

    def codes(self, frame: pd.DataFrame) -> np.ndarray:
        """Codes of a table's rows, int32 [row, column]."""
        table = np.empty((len(frame), len(self.cells)), dtype=np.int32)
        for index, cells in enumerate(self.cells):
            table[:, index] = cells.codes(frame[cells.column.name])
        return table

    def to_dict(self) -> list[dict[str, Any]]:
        return [cells.to_dict() for cells in self.cells]

    @classmethod
    def from_dict(cls, payload: list[Mapping[str, Any]], schema: Schema) -> Domain:
        return cls(tuple(Cells.from_dict(item, schema) for item in payload))


def fine_domain(
    schema: Schema,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    values: Mapping[str, tuple] | None = None,
    *,
    max_cells: int = 512,
) -> Domain:
    """Cuts every modelled column into fine cells, without a look at the data.

    Numbers get one cell per possible value where those are at most `max_cells`; else equal-width cells,
    with a cell each for the lower bound, zero and the upper bound (where real columns have their spikes)
    and geometrically finer cells towards zero, or towards the lower bound where zero is outside.

    Args:
      bounds: bought bounds on the axis, for numbers and dates that the schema leaves open.
      values: bought values, for categories that the schema leaves open; these columns get an OTHER cell.
      max_cells: the most cells of a number or date.
    Raises:
      InvalidInput: columns that are neither declared nor bought.
    """
    problems, domain = [], []
    for column in schema.modelled:
        if is_numeric(column):
            limits = declared_bounds(column) or (bounds or {}).get(column.name)
            if limits is not None:
                edges = _fine_edges(*limits, resolution(column), max_cells)
                domain.append(Cells(column=column, edges=edges, missing=column.nullable))
                continue
        else:
            declared = (False, True) if isinstance(column, Boolean) else column.values
            listed = declared if declared is not None else (values or {}).get(column.name)
            if listed is not None:
                other = declared is None
                domain.append(
                    Cells(column=column, values=tuple(listed), other=other, missing=column.nullable)
                )
                continue
        problems.append(Problem(column.name, "is neither declared nor bought.", "Declare it in the schema."))
    if problems:
        raise InvalidInput("the schema", problems)
    return Domain(tuple(domain))


def _fine_edges(low: float, high: float, step: float, max_cells: int) -> np.ndarray:
    if step > 0:  # count in steps; half a step below keeps rounded floats away from the edges
        first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
        last = max(first, last)
        if last - first < max_cells:
            return (np.arange(first, last + 2) - 0.5) * step
        cuts = np.round(_cuts(first, last + 1, 1.0, max_cells))
        return (np.unique(cuts) - 0.5) * step
    if high <= low:
        return np.array([low, low])
    return np.unique(_cuts(low, high, POINT_WIDTH * (high - low), max_cells))


def _cuts(low: float, end: float, point: float, max_cells: int) -> np.ndarray:
    """Equal-width cuts of [low, end], finer ones near the anchor, and cells one `point` wide for spikes."""
    spikes = [low, low + point, end - point, end]
    anchor = low
    if low < 0 < end:
        anchor, spikes = 0.0, [*spikes, 0.0, point]
    num_geometric = min(max_cells // 4, _OCTAVES * _PER_OCTAVE) // (2 if low < anchor else 1)
    num_equal = max(max_cells - len(spikes) - num_geometric * (2 if low < anchor else 1), 1)
    width = (end - low) / num_equal
    ratio = 2.0 ** (-1 / _PER_OCTAVE)
    distances = width / (1 - ratio) * ratio ** np.arange(num_geometric)
    distances = distances[distances > 2 * point]
    near = np.concatenate([anchor + distances, anchor - distances])
    near = near[(near > low + point) & (near < end - point)]
    return np.unique(np.concatenate([np.linspace(low, end, num_equal + 1), near, spikes]))


def coarsen(
    domain: Domain,
    histograms: Mapping[str, Marginal],
    max_cells: int = 32,
    *,
    num_rows: float | None = None,
    min_noise: float = 5.0,
    crossed: Mapping[str, Marginal] | None = None,
) -> Domain:
    """Groups fine cells by their bought counts: the domain that models use.

    Formal guarantee: post-processing; reads bought counts only. Numbers, dates and ordered categories
    merge neighbours: where they were bought crossed with the target, those least different in density and
    target; else the smallest pair first, so groups are alike in mass. A spike keeps a cell of its own.
    Other categories merge their rarest values into one group. Nothing is lost: decoding draws a fine cell
    inside its group. The missing cell is never merged.

    Args:
      max_cells: the most groups per column, the missing one not counted.
      num_rows: the bought number of rows; a histogram's own sum is noisier.
      min_noise: groups hold at least this many noise standard deviations of rows.
      crossed: histograms of columns by target, [fine cell, target cell].
    """
    coarse = []
    for cells in domain.cells:
        marginal = histograms[cells.column.name]
        num = cells.num_present
        ordered = cells.edges is not None or getattr(cells.column, "ordered", False)
        by_target = (crossed or {}).get(cells.column.name)
        if ordered and by_target is not None:
            widths = np.ones(num) if cells.edges is None else np.diff(cells.edges)
            groups = merge_alike(by_target.counts[:num], widths, by_target.noise_stddev, max_cells)
        else:
            total = marginal.counts.sum() if num_rows is None else num_rows
            mass = project_to_simplex(marginal.counts, max(total, 1.0))[:num]
            merge = merge_neighbours if ordered else merge_rare
            groups = merge(mass, max_cells, min_noise * marginal.noise_stddev)
        if cells.missing:
            groups = np.append(groups, groups.max(initial=-1) + 1)
        coarse.append(replace(cells, groups=groups.astype(np.int32)))
    return Domain(tuple(coarse))


def project_to_simplex(counts: np.ndarray, total: float = 1.0) -> np.ndarray:
    """The non-negative array of the given sum that is nearest to noisy counts (Euclidean).

    Edge cases: any shape; counts that are all far below zero still give a valid result.
    Source: Duchi, Shalev-Shwartz, Singer & Chandra (2008), Efficient projections onto the l1-ball, Fig. 1.
    """
    flat = np.asarray(counts, dtype=np.float64).ravel()
    descending = np.sort(flat)[::-1]
    excess = np.cumsum(descending) - total
    rank = np.arange(1, flat.size + 1)
    last = np.nonzero(descending * rank > excess)[0][-1]
    return np.maximum(flat - excess[last] / (last + 1), 0.0).reshape(np.shape(counts))
