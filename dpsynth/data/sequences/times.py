"""Times of sequences: modelled as a start and the gaps between rows, or read off a declared calendar.

Neither way keeps the times of a real sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from dpsynth.data.bought.grid import Cells, fine_domain
from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Column, Continuous, Integer, Schema
from dpsynth.data.schema.axis import from_axis, resolution, to_axis
from dpsynth.data.sequences.columns import axis_bounds
from dpsynth.data.sequences.names import GAP, START, models_times

_OCTAVES = 24  # below the longest gap, of times without steps


class SequenceTimes:
    """The time column as two derived columns, an attribute and a feature, and back.

    Args:
      schema: public; with a sequence.
      statistics: bought; bounds of times that the schema leaves open.
      max_cells: the most cells of each derived column.
    """

    def __init__(self, schema: Schema, statistics: Statistics, max_cells: int):
        self.sequence = schema.sequence
        self.column = None if self.sequence.time is None else schema.column(self.sequence.time)
        self._modelled, self._max_cells = models_times(schema), max_cells
        if self._modelled:
            self._bounds = axis_bounds(statistics.domain[self.sequence.time])
            self._step = resolution(self.column)

    @cached_property
    def columns(self) -> dict[str, tuple[Column, Cells]]:
        """Start and gap with their cells; none where a calendar is declared, no gap for single rows."""
        if not self._modelled:
            return {}
        low, high = self._bounds
        gap: Column = Continuous(name=GAP, min=0.0, max=high - low)
        if self._step > 0:
            gap = Integer(name=GAP, min=0, max=int(round((high - low) / self._step)))
        start = replace(self.column, name=START)
        domain = fine_domain(
            Schema(columns=(start,)), bounds={START: self._bounds}, max_cells=self._max_cells
        )
        found = {START: (start, domain.cells[0])}
        if self.sequence.max_length > 1:
            found[GAP] = (gap, Cells(column=gap, edges=_gap_edges(gap, self._max_cells)))
        return found

    def encode(self, times: np.ndarray, first: np.ndarray) -> dict[str, pd.Series]:
        """Starts of sequences and gaps of rows, from ordered places on the axis; `first` marks first rows."""
        found = {}
        if START in self.columns:
            found[START] = from_axis(self.columns[START][0], times[first])
        if GAP in self.columns:
            before = times[np.maximum(np.arange(len(times)) - 1, 0)]
            gaps = np.where(first, 0.0, times - before) / (self._step or 1.0)
            found[GAP] = from_axis(self.columns[GAP][0], gaps)
        return found

    def decode(
        self, derived: Mapping[str, pd.Series], place: np.ndarray, entity: np.ndarray
    ) -> pd.Series | None:
        """Times of rows: `place` counts within an entity, `entity` from 0. None without a time column.

        Edge cases: a sequence that would pass the last bound starts earlier; gaps are at least one step of a
        column that has steps, so that all times of a sequence differ.
        """
        if self.column is None:
            return None
        if not self._modelled:
            return pd.Series(self.sequence.calendar).take(place).reset_index(drop=True)
        (low, high), step = self._bounds, self._step
        start, gaps = to_axis(self.columns[START][0], derived[START]), np.zeros(len(place))
        if GAP in derived:
            gaps = derived[GAP].to_numpy(dtype=np.float64)
            gaps = np.where(place == 0, 0.0, np.maximum(gaps, 1.0 if step > 0 else 0.0)) * (step or 1.0)
        total = np.cumsum(gaps)
        elapsed = total - total[np.arange(len(place)) - place]
        span = np.zeros(entity.max(initial=-1) + 1)
        np.maximum.at(span, entity, elapsed)
        start = np.maximum(np.minimum(start, high - span[entity]), low)  # the last row stays in bounds
        after = np.bincount(entity)[entity] - 1 - place if len(entity) else place  # and all times differ
        return from_axis(self.column, np.minimum(start + elapsed, high - after * step))


def _gap_edges(gap: Column, max_cells: int) -> np.ndarray:
    """Cells of gaps: one per value where those are few, else each twice as wide as the one before it.

    Gaps are hours in a span of years: of equal-width cells one would hold them all, and spread them.
    """
    if isinstance(gap, Integer):
        if gap.max < max_cells:
            return np.arange(gap.max + 2) - 0.5
        doubled = 2 ** np.arange(max(int(np.log2(gap.max + 1)), 1) + 1)
        return np.unique([0, *doubled[doubled <= gap.max], gap.max + 1]) - 0.5
    return np.append(0.0, gap.max * 2.0 ** -np.arange(_OCTAVES, -1, -1.0))
