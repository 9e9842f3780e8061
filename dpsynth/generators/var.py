"""A vector autoregression in normal scores, from bought second moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.sequences.encoder import SequenceEncoder, SequenceOptions
from dpsynth.data.sequences.marginals import SequenceMarginals, draw_codes, normal_scores
from dpsynth.data.sequences.questions import SequenceQuestion, default_questions
from dpsynth.data.units.encoder import Encoder, OfSequences
from dpsynth.generators.parts.networkless import Untrained


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the autoregression.

    Args:
      ridge: added to the eigenvalues of covariances that noise made indefinite.
    """

    fits: ClassVar[type[Encoder]] = OfSequences
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise ValueError(f"Expected ridge={self.ridge} above 0.")


class Generator(Untrained):
    """x_t = B a + y_t, y_t = D y_(t-1) + e_t: normal scores of features x given attributes a; D diagonal.

    Codes are the quantiles of the scores under each step's bought histogram, so margins are as bought. The
    moments are read off bought pair histograms: pairs at one step, a feature with itself one step later,
    attributes with features. Steps are simulated with innovations from the stationary start.

    Formal guarantee: post-processing of bought statistics; reads no private unit.
    Deviations: D is diagonal, since cross-lagged pairs are not bought; unordered categories are scored in
      the order of their codes.
    """

    name: ClassVar[str] = "var"
    encoder_type: ClassVar[type[SequenceEncoder]] = SequenceEncoder

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> SequenceEncoder:
        return SequenceEncoder(schema, statistics, SequenceOptions(representation="bins"))

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[SequenceQuestion, ...]:
        return default_questions(schema, lags=(1,))

    def __init__(
        self, config: Config, encoder: SequenceEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder = config, encoder
        self.marginals = SequenceMarginals(encoder.layout, statistics.marginals)
        layout = encoder.layout
        attributes = [s.column for s in layout.attributes]
        features = [s.column for s in layout.features]

        def moment(row: str, column: str, lag: int = 0) -> float:
            return self.marginals.correlation(row, column, lag) or 0.0

        def matrix(rows: list[str], columns: list[str]) -> np.ndarray:
            same = [[1.0 if r == c else moment(r, c) for c in columns] for r in rows]
            return np.array(same).reshape(len(rows), len(columns))

        # one joint covariance, made definite, so that all conditionals are consistent
        joint = self._definite(matrix([*attributes, *features], [*attributes, *features]))
        a = len(attributes)
        self.between = joint[:a, :a]
        self.loading = joint[a:, :a] @ np.linalg.pinv(joint[:a, :a]) if a else np.zeros((len(features), 0))
        explained = self.loading @ joint[:a, a:]
        within = self._definite(joint[a:, a:] - explained)
        memory = np.array([moment(f, f, 1) for f in features]) - np.diag(explained)
        self.memory = np.clip(memory / np.maximum(np.diag(within), 1e-6), -0.98, 0.98)
        self.within = within
        self.innovation = self._definite(within - self.memory[:, None] * within * self.memory[None, :])

    def _definite(self, matrix: np.ndarray) -> np.ndarray:
        """The matrix with its eigenvalues raised to `ridge`."""
        if not matrix.size:
            return matrix
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return (vectors * np.maximum(values, self.config.ridge)) @ vectors.T

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        random, layout = np.random.default_rng(seed), self.encoder.layout
        codes = np.zeros((num, len(layout.attributes)))
        scores = _normal(self.between, num, random)
        fixed = self.encoder.encode_attributes(conditions or {}, num)
        for i, segment in enumerate(layout.attributes):
            shares = self.marginals.alone(segment.column)
            if segment.column in fixed:
                codes[:, i] = fixed[segment.column][:, 0]
                scores[:, i] = normal_scores(shares)[codes[:, i].astype(int)]
            else:
                codes[:, i] = _quantiles(scores[:, i], shares, random)
        mean = scores @ self.loading.T
        features = np.zeros((num, layout.max_length, len(layout.features)))
        state = _normal(self.within, num, random)
        scale = np.sqrt(
            np.maximum(np.diag(self.within) + np.diag(self.loading @ self.between @ self.loading.T), 1e-9)
        )
        steps = [self.marginals.by_step(s.column) for s in layout.features]
        for step in range(layout.max_length):
            if step:
                state = self.memory * state + _normal(self.innovation, num, random)
            for i in range(len(layout.features)):
                features[:, step, i] = _quantiles((mean + state)[:, i] / scale[i], steps[i][step], random)
        lengths = self.marginals.draw_lengths(num, random)
        return layout.join(codes, np.zeros((num, 0)), lengths, features)


def _quantiles(scores: np.ndarray, shares: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return draw_codes(np.tile(shares, (len(scores), 1)), random, np.minimum(special.ndtr(scores), 1 - 1e-12))


def _normal(covariance: np.ndarray, num: int, random: np.random.Generator) -> np.ndarray:
    if not covariance.size:
        return np.zeros((num, 0))
    values, vectors = np.linalg.eigh(covariance)
    return random.standard_normal((num, len(values))) * np.sqrt(np.maximum(values, 0)) @ vectors.T
