"""How one column of a sequence table becomes slots of a packed unit, and back.

A codec is arithmetic on the schema and on bought statistics; none has a `fit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dpsynth.data.bought.grid import Cells
from dpsynth.data.rows.encoder import BinCodec
from dpsynth.data.schema import Column
from dpsynth.data.schema.axis import declared_bounds, from_axis, resolution, to_axis
from dpsynth.data.sequences.layout import num_bits


class CodeCodec:
    """A column as one code per value: cells of the domain, or the values of a list.

    Args:
      cells: groups are honoured: the code is the group's.
      probabilities: of the fine cells, for drawing a fine cell inside its group; uniform if None.
      kind: `onehot`, or `bits` for a binary code.
    """

    num_slots = 1
    scaled = False

    def __init__(self, cells: Cells, probabilities: np.ndarray | None = None, kind: str = "onehot"):
        self.cells, self.kind = cells, kind
        weights = np.zeros(cells.fine_size) if probabilities is None else probabilities
        self._bins = BinCodec(cells, weights)

    @property
    def num_codes(self) -> int:
        return self.cells.size

    @property
    def num_ordered(self) -> int:
        """Number of codes, the first ones, whose order counts; 0 for a list of values without order."""
        ordered = self.cells.edges is not None or getattr(self.cells.column, "ordered", False)
        return self.num_codes - self.cells.missing if ordered else 0

    def encode(self, series: pd.Series) -> np.ndarray:
        return self.cells.codes(series).astype(np.float64)[:, None]

    def ask(self, series: pd.Series) -> np.ndarray:
        """Encodes what rows are asked to have; values that were not bought are refused."""
        return self._bins.ask(series).astype(np.float64)

    def decode(self, slots: np.ndarray, rng: np.random.Generator) -> pd.Series:
        """Draws a fine cell inside each code's group, and a place inside a numeric cell."""
        codes = np.round(slots[:, :1])
        if self.kind == "bits":  # a code that names no value loses its leading digit
            codes = np.where(codes < self.num_codes, codes, codes - 2 ** (num_bits(self.num_codes) - 1))
        codes = np.clip(codes, 0, self.num_codes - 1)
        return self._bins.decode(codes, rng)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScalarCodec:
    """A number or date as one scalar slot on [0, 1], with an indicator slot (1: missing) if it is nullable.

    Args:
      column: public.
      low, high: the global scale on the axis: declared or bought bounds.
      scaled: whether each sequence is scaled once more by its own midpoint and half-range.
    """

    column: Column
    low: float
    high: float
    scaled: bool = False

    kind = "scalar"
    num_ordered = 0

    @property
    def num_slots(self) -> int:
        return 1 + self.column.nullable

    def encode(self, series: pd.Series) -> np.ndarray:
        places = to_axis(self.column, series)
        missing = np.isnan(places)
        width = self.high - self.low
        unit = np.clip((places - self.low) / width, 0, 1) if width > 0 else np.full(len(places), 0.5)
        unit = np.where(missing, 0.5, unit)
        return np.stack([unit, missing], axis=1)[:, : self.num_slots]

    ask = encode

    def decode(self, slots: np.ndarray, rng: np.random.Generator) -> pd.Series:
        place = self.low + np.clip(slots[:, 0], 0, 1) * (self.high - self.low)
        if self.column.nullable:
            place = np.where(slots[:, 1] > 0.5, np.nan, place)
        return _bounded(self.column, place)


def _bounded(column: Column, place: np.ndarray) -> pd.Series:
    bounds = declared_bounds(column)
    if bounds is not None:
        place = np.clip(place, *bounds)
    return from_axis(column, place)


def axis_bounds(cells: Cells) -> tuple[float, float]:
    """The global scale of a numeric column: declared bounds, else those its cells were bought with."""
    declared = declared_bounds(cells.column)
    if declared is not None:
        return declared
    half = resolution(cells.column) / 2
    return float(cells.edges[0] + half), float(cells.edges[-1] - half)
