"""Lengths, attributes and every step's features drawn one by one: the floor for sequence generators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.sequences.encoder import SequenceEncoder, SequenceOptions
from dpsynth.data.sequences.marginals import SequenceMarginals, draw_codes
from dpsynth.data.sequences.names import attribute_names, feature_names
from dpsynth.data.sequences.questions import LENGTH, STEP, SequenceQuestion
from dpsynth.data.units.encoder import Encoder, OfSequences
from dpsynth.generators.parts.networkless import Untrained


@dataclass(frozen=True, kw_only=True)
class Config:
    """Nothing to choose."""

    fits: ClassVar[type[Encoder]] = OfSequences


class Generator(Untrained):
    """Samples each feature at each step from its bought histogram; all dependence is lost.

    Formal guarantee: post-processing of bought statistics; reads no private unit.
    """

    name: ClassVar[str] = "sequence_independent"
    encoder_type: ClassVar[type[SequenceEncoder]] = SequenceEncoder

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> SequenceEncoder:
        return SequenceEncoder(schema, statistics, SequenceOptions(representation="bins"))

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[SequenceQuestion, ...]:
        sequence = schema.sequence
        alone = (LENGTH,) if sequence.min_length < sequence.max_length else ()
        asked = [SequenceQuestion(row=name, column=name) for name in (*alone, *attribute_names(schema))]
        return (*asked, *(SequenceQuestion(row=STEP, column=name) for name in feature_names(schema)))

    def __init__(
        self, config: Config, encoder: SequenceEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.encoder = encoder
        self.marginals = SequenceMarginals(encoder.layout, statistics.marginals)

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        random, layout = np.random.default_rng(seed), self.encoder.layout
        fixed = self.encoder.encode_attributes(conditions or {}, num)
        attributes = np.zeros((num, len(layout.attributes)))
        for i, segment in enumerate(layout.attributes):
            shares = np.tile(self.marginals.alone(segment.column), (num, 1))
            known = segment.column in fixed
            attributes[:, i] = fixed[segment.column][:, 0] if known else draw_codes(shares, random)
        features = np.zeros((num, layout.max_length, len(layout.features)))
        for i, segment in enumerate(layout.features):
            by_step = self.marginals.by_step(segment.column)
            for step in range(layout.max_length):
                features[:, step, i] = draw_codes(np.tile(by_step[step], (num, 1)), random)
        lengths = self.marginals.draw_lengths(num, random)
        return layout.join(attributes, np.zeros((num, 0)), lengths, features)
