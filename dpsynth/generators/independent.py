"""Columns drawn one by one from their bought histograms: the floor that every trained model must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dpsynth.data.bought.statistics import Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Schema
from dpsynth.data.units.encoder import Encoder, OfRows
from dpsynth.generators.parts.networkless import Untrained


@dataclass(frozen=True, kw_only=True)
class Config:
    """Nothing to choose."""

    fits: ClassVar[type[Encoder]] = OfRows


class Generator(Untrained):
    """Samples each column from its bought 1-way marginal; all dependence between columns is lost.

    Formal guarantee: post-processing of bought statistics; reads no private unit.
    """

    name: ClassVar[str] = "independent"
    encoder_type: ClassVar[type[TableEncoder]] = TableEncoder

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        return TableEncoder(schema, statistics)

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[Question, ...]:
        return ()

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.encoder = encoder
        self.probabilities = [encoder.frequencies(s.column) for s in encoder.layout.segments]

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        random = np.random.default_rng(seed)
        rows = np.empty((num, len(self.probabilities)), dtype=np.float32)
        for index, probabilities in enumerate(self.probabilities):
            cumulative = np.cumsum(probabilities)
            drawn = np.searchsorted(cumulative, random.random(num) * cumulative[-1], side="right")
            rows[:, index] = np.minimum(drawn, len(probabilities) - 1)
        for index, code in self.encoder.condition_codes(conditions or {}).items():
            rows[:, index] = code
        return rows
