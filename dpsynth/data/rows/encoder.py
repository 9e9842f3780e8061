"""Rows to packed numbers and back. There is no `fit`: encoding is arithmetic on the schema and bought facts.

A *packed* row holds one number per segment: the code of a one-hot segment, or the value of a scalar one. It
is what stays in memory; models expand it per batch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from dpsynth.data.bought.grid import POINT_WIDTH, Cells
from dpsynth.data.bought.partition import Codes
from dpsynth.data.bought.statistics import Question, Statistics
from dpsynth.data.rows.conditions import encoded_conditions
from dpsynth.data.rows.modes import Modes, fit_modes
from dpsynth.data.schema import Schema
from dpsynth.data.schema.axis import from_axis, is_numeric, resolution, to_axis
from dpsynth.data.schema.dtypes import restore, value_type
from dpsynth.data.units.encoder import OfRows
from dpsynth.data.units.units import EntityUnits
from dpsynth.errors import InvalidInput, Problem

Representation = Literal["bins", "modes"]
OTHER = "(other)"  # what texts outside a bought list come back as, unless the schema says otherwise
_SPAN, _REACH = 4.0, 0.99  # alpha = (x - mean) / (4 stddev), clipped, as in CTGAN


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of the expanded row: `size` cells of a one-hot, or one scalar."""

    column: str
    kind: Literal["onehot", "scalar"]
    size: int
    start: int


@dataclass(frozen=True)
class Layout:
    """Where everything is: segment i is packed number i and expanded numbers start … start + size."""

    segments: tuple[Segment, ...]

    @cached_property
    def packed_width(self) -> int:
        return len(self.segments)

    @cached_property
    def width(self) -> int:
        return sum(segment.size for segment in self.segments)

    def onehot(self, column: str) -> int:
        """Packed index of a column's one-hot segment."""
        places = ((s.column, s.kind) for s in self.segments)
        return list(places).index((column, "onehot"))

    def codes(self, packed: np.ndarray) -> Codes:
        """Tells the coarse cells of packed rows by column."""

        @functools.cache
        def codes(column: str) -> np.ndarray:
            return packed[:, self.onehot(column)].astype(np.int64)

        return codes


class BinCodec:
    """One one-hot over the coarse cells; decoding draws a fine cell in its group, then a value in that."""

    def __init__(self, cells: Cells, probabilities: np.ndarray):
        self.cells = cells
        self.parts = (("onehot", cells.size),)
        self._order = np.argsort(cells.group_map, kind="stable")
        weights = probabilities[self._order] + 1e-12  # a group without mass is drawn from evenly
        self._cumulative = np.cumsum(weights)
        firsts = np.searchsorted(cells.group_map[self._order], np.arange(cells.size))
        self._first, self._last = firsts, np.append(firsts[1:], len(weights)) - 1
        self._below = np.append(0.0, self._cumulative)[firsts]
        self._mass = self._cumulative[self._last] - self._below
        self.frequencies = np.bincount(cells.group_map, weights=probabilities, minlength=cells.size)
        listed = probabilities[: len(cells.values or ())] + 1e-12
        self._listed = listed / listed.sum()

    def encode(self, series: pd.Series) -> np.ndarray:
        return self.cells.codes(series)[:, None]

    def ask(self, series: pd.Series) -> np.ndarray:
        """Encodes what rows are asked to have; values that were not bought are refused, not made others."""
        listed = (*(self.cells.values or ()), stand_in(self.cells) if self.cells.other else None)
        if self.cells.other and not series.dropna().isin(listed).all():
            raise InvalidInput(
                "the conditions", [Problem(self.cells.column.name, "has no such value.", "Choose another.")]
            )
        return self.encode(series)

    def decode(self, packed: np.ndarray, random: np.random.Generator) -> pd.Series:
        codes = packed[:, 0].astype(np.int64)
        if self.cells.size < self.cells.fine_size:
            targets = self._below[codes] + random.random(len(codes)) * self._mass[codes]
            drawn = np.searchsorted(self._cumulative, targets, side="right")
            codes = np.clip(drawn, self._first[codes], self._last[codes])
        fine = self._order[codes]
        return self._numbers(fine, random) if self.cells.edges is not None else self._values(fine, random)

    def _numbers(self, fine: np.ndarray, random: np.random.Generator) -> pd.Series:
        edges, step = self.cells.edges, resolution(self.cells.column)
        absent = fine >= self.cells.num_present
        fine = np.where(absent, 0, fine)
        low, width = edges[fine], np.diff(edges)[fine]
        if step > 0:
            places = low + step * (0.5 + np.floor(random.random(len(fine)) * np.round(width / step)))
        else:
            point = width <= 1.5 * POINT_WIDTH * (edges[-1] - edges[0])
            share = np.where(point, fine == self.cells.num_present - 1, random.random(len(fine)))
            places = low + share * width
        places[absent] = np.nan
        return from_axis(self.cells.column, places)

    def _values(self, fine: np.ndarray, random: np.random.Generator) -> pd.Series:
        cells, num = self.cells, len(self.cells.values)
        if cells.other and num and cells.column.unlisted == "spread":
            fine = np.where(fine == num, random.choice(num, len(fine), p=self._listed), fine)
        spare = [stand_in(cells)] if cells.other else []
        table = pd.Series([*cells.values, *spare, *([None] if cells.missing else [])], dtype=object)
        return table.infer_objects().take(fine).reset_index(drop=True)


def stand_in(cells: Cells) -> Any:
    """What values outside a bought list come back as, None for missing; never one that was bought."""
    column, values = cells.column, cells.values
    text = isinstance(values[0], str) if values else value_type(column) in (str, None)
    if column.unlisted == "missing" or (column.other is None and not text):
        return None
    if column.other is not None:
        return column.other
    name = OTHER
    while name in values:
        name += "*"
    return name


class _Modal:
    """A scalar within a Gaussian mode, and a one-hot of modes with the missing cell last."""

    def __init__(self, cells: Cells, probabilities: np.ndarray, modes: Modes):
        self.cells, self.modes = cells, modes
        self.parts = (("scalar", 1), ("onehot", len(modes.means) + cells.missing))
        absent = float(probabilities[-1]) if cells.missing else 0.0
        self.frequencies = np.append(modes.weights * (1 - absent), [absent] if cells.missing else [])

    def encode(self, series: pd.Series) -> np.ndarray:
        places = to_axis(self.cells.column, series)
        absent = np.isnan(places)
        places = np.clip(np.nan_to_num(places), self.cells.edges[0], self.cells.edges[-1])
        mode = self.modes.assign(places)
        alpha = (places - self.modes.means[mode]) / (_SPAN * self.modes.stddevs[mode])
        alpha[absent], mode[absent] = 0.0, len(self.modes.means)
        return np.column_stack([np.clip(alpha, -_REACH, _REACH), mode])

    ask = encode

    def decode(self, packed: np.ndarray, random: np.random.Generator) -> pd.Series:
        mode = packed[:, 1].astype(np.int64)
        absent = mode >= len(self.modes.means)
        mode[absent] = 0
        alpha = np.clip(packed[:, 0].astype(np.float64), -1.0, 1.0)
        places = alpha * _SPAN * self.modes.stddevs[mode] + self.modes.means[mode]
        step, edges = resolution(self.cells.column), self.cells.edges
        if step > 0:
            places = np.round(places / step)
            low, high = edges[0] / step + 0.5, edges[-1] / step - 0.5
            places = np.clip(places, np.round(low), np.round(high)) * step
        else:
            places = np.clip(places, edges[0], edges[-1])
        places[absent] = np.nan
        return from_axis(self.cells.column, places)


class TableEncoder(OfRows):
    """Encodes and decodes tables of one schema.

    Formal guarantee: a row's code is a function of that row, the schema and bought statistics.
    Edge cases: rows of one entity are packed beside each other, in the order of the table; places without a
    row are NaN.

    Args:
      representation: `bins` gives each column one one-hot over `statistics.domain`; `modes` gives numbers
        and dates a one-hot of Gaussian modes and a scalar within the mode (Xu et al. 2019, section 4.2).
      modes: fitted before, from `to_dict`; None fits them to the bought fine histograms.
      declared: the statistics were declared, not bought; they are stored with the encoder.
    """

    def __init__(
        self,
        schema: Schema,
        statistics: Statistics,
        representation: Representation = "bins",
        *,
        modes: Mapping[str, Modes] | None = None,
        declared: bool = False,
    ):
        super().__init__(schema)
        self.statistics, self.representation = statistics, representation
        self._declared = declared
        self.codecs: dict[str, BinCodec | _Modal] = {}
        for cells in statistics.domain.cells:
            name = cells.column.name
            probabilities = statistics.fine_probabilities(name)
            if representation == "modes" and is_numeric(cells.column):
                fitted = modes[name] if modes else _fit(cells, probabilities * statistics.num_rows)
                self.codecs[name] = _Modal(cells, probabilities, fitted)
            else:
                self.codecs[name] = BinCodec(cells, probabilities)
        segments, start = [], 0
        for name, codec in self.codecs.items():
            for kind, size in codec.parts:
                segments.append(Segment(column=name, kind=kind, size=size, start=start))
                start += size
        self.layout = Layout(tuple(segments))

    @property
    def rows_per_unit(self) -> int | None:
        """Rows that a packed unit has places for; None where the row is the unit."""
        return self.units.max_rows if isinstance(self.units, EntityUnits) else None

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """Packs units, float32 [row, packed]; [unit, row, packed] where a unit has several rows."""
        packed = self._encode_rows(frame)
        if self.rows_per_unit is None:
            return packed
        return pack_units(packed, self.units.owners(frame), self.rows_per_unit)

    def _encode_rows(self, frame: pd.DataFrame) -> np.ndarray:
        packed, start = np.empty((len(frame), self.layout.packed_width), dtype=np.float32), 0
        for name, codec in self.codecs.items():
            packed[:, start : start + len(codec.parts)] = codec.encode(frame[name])
            start += len(codec.parts)
        return packed

    def decode(
        self, packed: np.ndarray, *, seed: int, conditions: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Turns packed rows into a table of the modelled columns, in the dtypes that the schema declares.

        Args:
          seed: public; draws values inside cells and groups.
          conditions: values that these columns take in every row, exactly.
        """
        columns, start = {}, 0
        for index, (name, codec) in enumerate(self.codecs.items()):
            part = packed[:, start : start + len(codec.parts)]
            start += len(codec.parts)
            column = restore(codec.decode(part, np.random.default_rng([seed, index, 1])), codec.cells.column)
            if conditions and name in conditions:
                value = pd.Series([conditions[name]] * len(column), index=column.index, name=name)
                column = value.astype(column.dtype)
            columns[name] = column
        return pd.DataFrame(columns)

    def frequencies(self, column: str) -> np.ndarray:
        """Bought shares of the cells of a column's one-hot segment; sum to one."""
        return self.codecs[column].frequencies

    def shape(self, question: Question) -> tuple[int, ...]:
        """Cells of each axis of the answer to a question; public."""
        return self.statistics.shape(question)

    def count(self, question: Question, packed: np.ndarray) -> np.ndarray:
        """Answers exactly: rows per joint cell, int64; private until noise is added.

        Formal guarantee: a row adds 1 to one cell, so a unit of m rows changes the answer by at most m (L2).
        """
        rows, shape = self.rows(packed), self.shape(question)
        places = self.statistics.places(question, self.layout.codes(rows), len(rows))
        return np.bincount(places, minlength=math.prod(shape)).reshape(shape)

    @staticmethod
    def rows(packed: np.ndarray) -> np.ndarray:
        """All rows of packed units, [row, packed]."""
        return packed[~np.isnan(packed[:, :, 0])] if packed.ndim == 3 else packed

    def condition_codes(self, conditions: Mapping[str, Any]) -> dict[int, int]:
        """Packed index of each condition's one-hot segment -> the code that it asks for.

        Raises:
          InvalidInput: unknown columns, or values that a column cannot take.
        """
        encode = {name: codec.ask for name, codec in self.codecs.items()}
        rows = encoded_conditions(conditions, self.schema, encode, kind="a generated column")
        return {self.layout.onehot(name): int(row[0, -1]) for name, row in rows.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; schema and statistics are stored beside it."""
        fitted = {name: codec.modes for name, codec in self.codecs.items() if isinstance(codec, _Modal)}
        modes = {
            name: {key: getattr(item, key).tolist() for key in ("means", "stddevs", "weights")}
            for name, item in fitted.items()
        }
        stored = {"declared": self.statistics.to_dict()} if self._declared else {}
        return {"representation": self.representation, "modes": modes} | stored

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any], schema: Schema, statistics: Statistics) -> TableEncoder:
        declared = payload.get("declared")
        if declared is not None:
            statistics = Statistics.from_dict(declared, schema)
        stored = payload["modes"].items()
        modes = {name: Modes(**{key: np.array(v) for key, v in item.items()}) for name, item in stored}
        return cls(schema, statistics, payload["representation"], modes=modes, declared=declared is not None)


def _fit(cells: Cells, mass: np.ndarray) -> Modes:
    return fit_modes((cells.edges[:-1] + cells.edges[1:]) / 2, mass[: cells.num_present])


def pack_units(packed: np.ndarray, owners: np.ndarray, max_rows: int) -> np.ndarray:
    """Gathers rows by unit, float32 [unit, row, packed]; places without a row are NaN.

    Edge cases: rows keep their order; rows of a unit beyond `max_rows` are left out (the table's cap is
    enforced before).

    Args:
      owners: number of the unit of each row, [row].
    """
    order = np.argsort(owners, kind="stable")
    owner = owners[order]
    starts = np.searchsorted(owner, np.arange(owner[-1] + 1 if len(owner) else 0))
    rank = np.arange(len(owner)) - starts[owner]
    kept = rank < max_rows
    gathered = np.full((len(starts), max_rows, packed.shape[1]), np.nan, dtype=np.float32)
    gathered[owner[kept], rank[kept]] = packed[order[kept]]
    return gathered
