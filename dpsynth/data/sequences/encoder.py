"""Sequences as units: rows of an entity in the order of time, packed into one vector per entity.

The encoder has no `fit`: it is arithmetic on the schema, on bought statistics and, for the per-example
scale, on the one entity that is encoded. Axis 0 of what it returns is the unit of privacy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dpsynth.data.bought.grid import Cells
from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.conditions import encoded_conditions
from dpsynth.data.rows.encoder import Segment
from dpsynth.data.schema import Column, Schema
from dpsynth.data.schema.axis import is_numeric
from dpsynth.data.schema.dtypes import restore
from dpsynth.data.sequences.columns import CodeCodec, ScalarCodec, axis_bounds
from dpsynth.data.sequences.layout import (
    MINUSONE_ONE,
    ZERO_ONE,
    ExampleScaled,
    SequenceLayout,
    num_bits,
    scale_examples,
    unscale_examples,
)
from dpsynth.data.sequences.names import GAP, START, attribute_names, feature_names
from dpsynth.data.sequences.questions import SequenceQuestion, answer, shape
from dpsynth.data.sequences.times import SequenceTimes
from dpsynth.data.units.encoder import OfSequences
from dpsynth.data.units.order import ordered_rows

Codec = CodeCodec | ScalarCodec


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """How numbers and categories are encoded. All public.

    Args:
      representation: `scaled`: numbers as scalars (the published DoppelGANger); `bins`: every column as
        codes of the cells in the bought domain, which marginals can anchor.
      normalization: ZERO_ONE or MINUSONE_ONE, the range of scalars.
      apply_feature_scaling: scale numbers from their bounds; off: they lie in the normalised range already.
      apply_example_scaling: scale each numeric feature of each sequence by its own midpoint and half-range.
      binary_encoder_cutoff: lists with more values than this get binary codes instead of one-hot ones.
      max_time_cells: the most cells of modelled start times and gaps in `bins`.
    """

    representation: str = "scaled"
    normalization: str = ZERO_ONE
    apply_feature_scaling: bool = True
    apply_example_scaling: bool = True
    binary_encoder_cutoff: int = 150
    max_time_cells: int = 24

    def __post_init__(self):
        if self.representation not in ("scaled", "bins"):
            raise ValueError(f"Expected representation={self.representation!r} to be 'scaled' or 'bins'.")


class SequenceEncoder(OfSequences):
    """Packs entities into units and unpacks generated units into a long table.

    Formal guarantee: row i of `encode` is a function of entity i, the schema and the statistics.
    Edge cases: a constant sequence survives per-example scaling; padding and missing values enter no
    scale; rows beyond `max_length` (in order of time) are cut, as declared.

    Args:
      schema: public; `schema.sequence` and `schema.unit.column` are set.
      statistics: bought; its domain gives bounds and values that the schema leaves open.
    """

    def __init__(self, schema: Schema, statistics: Statistics, options: SequenceOptions | None = None):
        super().__init__(schema)
        self.statistics = statistics
        self.options = options or SequenceOptions()
        self.times = SequenceTimes(schema, statistics, self.options.max_time_cells)
        derived = self.times.columns

        def codecs(names: tuple[str, ...], feature: bool) -> dict[str, Codec]:
            known = {n: derived.get(n) or (schema.column(n), None) for n in names}
            return {n: self._codec(c, feature=feature, cells=cells) for n, (c, cells) in known.items()}

        self.attributes = codecs(attribute_names(schema), feature=False)
        self.features = codecs(feature_names(schema), feature=True)

    def _codec(self, column: Column, *, feature: bool, cells: Cells | None = None) -> Codec:
        options, bought = self.options, cells is None
        cells = self.statistics.domain[column.name] if bought else cells
        if options.representation == "bins":
            weights = self.statistics.fine_probabilities(column.name) if bought else None
            return CodeCodec(cells=cells, probabilities=weights)
        if not is_numeric(column):
            fine = cells.fine
            return CodeCodec(
                cells=fine, kind="bits" if fine.fine_size > options.binary_encoder_cutoff else "onehot"
            )
        low, high = axis_bounds(cells)
        if bought and not options.apply_feature_scaling:
            low, high = (0.0, 1.0) if options.normalization == ZERO_ONE else (-1.0, 1.0)
        return ScalarCodec(
            column=column, low=low, high=high, scaled=bought and feature and options.apply_example_scaling
        )

    @cached_property
    def scaled_features(self) -> tuple[str, ...]:
        """Features with a midpoint and a half-range among the additional attributes."""
        return tuple(name for name, codec in self.features.items() if codec.scaled)

    @cached_property
    def layout(self) -> SequenceLayout:
        additional = [
            Segment(column=f"{name}{suffix}", kind="scalar", size=1, start=0)
            for name in self.scaled_features
            for suffix in ("@midpoint", "@half_range")
        ]
        sequence = self.schema.sequence
        return SequenceLayout(
            max_length=sequence.max_length,
            min_length=sequence.min_length,
            normalization=self.options.normalization,
            attributes=_placed([s for n, c in self.attributes.items() for s in _segments(n, c)]),
            additional=_placed(additional),
            features=_placed([s for n, c in self.features.items() for s in _segments(n, c)]),
        )

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """Packs a long table, float32 [entity, packed], entities in the order of their first row.

        Raises:
          InvalidInput: attributes that change within an entity, times off the declared calendar, or
            sequences below the declared minimum length; every offending column is named.
        """
        entity, place, table, times = ordered_rows(frame, self.schema)
        num = int(entity.max(initial=-1)) + 1
        length = self.schema.sequence.max_length
        lengths = np.bincount(entity, minlength=num)
        observed = np.arange(length) < lengths[:, None]
        first = place == 0
        attributes = [c.encode(table.loc[first, n]) for n, c in self.attributes.items() if n != START]
        rows = {n: c.encode(table[n]) for n, c in self.features.items() if n != GAP}
        derived = self.times.encode(times, first)
        attributes += [self.attributes[START].encode(derived[START])] if START in derived else []
        rows |= {GAP: self.features[GAP].encode(derived[GAP])} if GAP in derived else {}
        features, additional = [], []
        for name, codec in self.features.items():
            slots = np.zeros((num, length, codec.num_slots))
            slots[entity, place] = rows[name]
            if codec.scaled:
                present = observed & (slots[:, :, 1] < 0.5) if codec.num_slots > 1 else observed
                scaled = scale_examples(slots[:, :, 0], present, self.options.normalization)
                slots[:, :, 0] = scaled.values
                additional += [scaled.midpoint[:, None], scaled.half_range[:, None]]
            elif codec.kind == "scalar":
                slots[:, :, 0] = self._to_range(slots[:, :, 0])
            features.append(slots)
        for slots, codec in zip(attributes, self.attributes.values()):
            if codec.kind == "scalar":
                slots[:, 0] = self._to_range(slots[:, 0])
        empty = np.zeros((num, 0))
        return self.layout.join(
            np.concatenate([empty, *attributes], axis=1),
            np.concatenate([empty, *additional], axis=1),
            lengths,
            np.concatenate([np.zeros((num, length, 0)), *features], axis=2),
        )

    def decode(
        self, units: np.ndarray, *, seed: int, conditions: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Unpacks units into a long table in the schema's order, with fresh entity keys 1, 2, …

        Args:
          seed: public; draws values inside cells and groups.
          conditions: values that these attributes take in every sequence, exactly.
        """
        rng = np.random.default_rng(seed)
        attributes, additional, lengths, features = self.layout.split(np.asarray(units, dtype=np.float64))
        lengths = np.clip(np.round(lengths), self.layout.min_length, self.layout.max_length).astype(np.int64)
        observed = np.arange(self.layout.max_length) < lengths[:, None]
        entity, place = np.nonzero(observed)
        columns: dict[str, pd.Series] = {self.schema.unit.column: pd.Series(entity + 1)}
        start = 0
        for name, codec in self.attributes.items():
            slots = attributes[:, start : start + codec.num_slots].copy()
            if codec.kind == "scalar":
                slots[:, 0] = self._from_range(slots[:, 0])
            columns[name] = codec.decode(slots, rng).take(entity).reset_index(drop=True)
            start += codec.num_slots
        start = 0
        for name, codec in self.features.items():
            slots = features[:, :, start : start + codec.num_slots].copy()
            if codec.scaled:
                index = 2 * self.scaled_features.index(name)
                middle, width = additional[:, index], additional[:, index + 1]
                scaled = ExampleScaled(values=slots[:, :, 0], midpoint=middle, half_range=width)
                slots[:, :, 0] = unscale_examples(scaled, self.options.normalization)
            elif codec.kind == "scalar":
                slots[:, :, 0] = self._from_range(slots[:, :, 0])
            columns[name] = codec.decode(slots[observed], rng)
            start += codec.num_slots
        derived = {name: columns.pop(name) for name in self.times.columns}
        if (times := self.times.decode(derived, place, entity)) is not None:
            columns[self.schema.sequence.time] = times
        for name, value in (conditions or {}).items():
            columns[name] = pd.Series([value] * len(entity))
        return _typed(pd.DataFrame(columns), self.schema)

    def shape(self, question: SequenceQuestion) -> tuple[int, int]:
        """Cells of the two axes of the answer to a question; public."""
        return shape(question, self.layout)

    def count(self, question: SequenceQuestion, units: np.ndarray) -> np.ndarray:
        """Answers exactly, int64 in 1/`units.resolution` entities; private until noise is added."""
        return answer(question, self.layout, units)

    def encode_attributes(self, values: Mapping[str, Any], num: int) -> dict[str, np.ndarray]:
        """Encodes conditions on attributes: slots [num, slot] of each named attribute.

        Raises:
          InvalidInput: names that are no attributes, or values that an attribute cannot take.
        """
        encode = {name: codec.ask for name, codec in self.attributes.items()}
        encoded = {}
        for name, slots in encoded_conditions(values, self.schema, encode, kind="an attribute").items():
            if self.attributes[name].kind == "scalar":
                slots[:, 0] = self._to_range(slots[:, 0])
            encoded[name] = np.repeat(slots, num, axis=0)
        return encoded

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; schema and statistics are stored beside it."""
        return {"options": asdict(self.options)}

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any], schema: Schema, statistics: Statistics) -> SequenceEncoder:
        return cls(schema, statistics, SequenceOptions(**payload["options"]))

    def _to_range(self, unit: np.ndarray) -> np.ndarray:
        return 2 * unit - 1 if self.options.normalization == MINUSONE_ONE else unit

    def _from_range(self, values: np.ndarray) -> np.ndarray:
        return (values + 1) / 2 if self.options.normalization == MINUSONE_ONE else values


def _segments(name: str, codec: Codec) -> list[Segment]:
    if codec.kind == "scalar":
        value = Segment(column=name, kind="scalar", size=1, start=0)
        missing = Segment(column=f"{name}@missing", kind="onehot", size=2, start=0)
        return [value, missing][: codec.num_slots]
    size = num_bits(codec.num_codes) if codec.kind == "bits" else codec.num_codes
    return [Segment(column=name, kind=codec.kind, size=size, start=0)]


def _placed(segments: list[Segment]) -> tuple[Segment, ...]:
    starts = np.cumsum([0, *(s.size for s in segments)])
    return tuple(replace(s, start=int(start)) for s, start in zip(segments, starts))


def _typed(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Orders columns as declared and gives them back their dtypes; keys of entities are numbers or text."""
    typed = {name: frame[name] for name in schema.names if name in frame}
    for name in typed:
        if schema.column(name).modelled and name != schema.unit.column:
            typed[name] = restore(typed[name], schema.column(name))
        elif schema.column(name).dtype in ("str", "object", "string"):
            typed[name] = typed[name].astype("str")
    return pd.DataFrame(typed)
