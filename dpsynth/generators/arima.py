"""ARIMA by declared parameters: a simulator that reads nothing private, epsilon 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.sequences.encoder import SequenceEncoder, SequenceOptions
from dpsynth.data.sequences.questions import SequenceQuestion
from dpsynth.data.units.encoder import Encoder, OfSequences
from dpsynth.generators.parts.networkless import Untrained


@dataclass(frozen=True, kw_only=True)
class Config:
    """The declared process of every numeric feature, on its declared range scaled to [0, 1]. All public.

    Args:
      ar: coefficients of earlier values, phi_1 … phi_p.
      d: order of integration: 0 varies around `mean`, 1 is a random walk of such steps.
      ma: coefficients of earlier innovations, theta_1 … theta_q.
      mean: of the process (d = 0), or of its first value (d > 0).
      innovation_stddev: of the innovations.
    """

    fits: ClassVar[type[Encoder]] = OfSequences
    ar: tuple[float, ...] = (0.8,)
    d: int = 0
    ma: tuple[float, ...] = ()
    mean: float = 0.5
    innovation_stddev: float = 0.1

    def __post_init__(self) -> None:
        broken = []
        if self.d not in (0, 1, 2):
            broken.append(f"Expected d={self.d} to be 0, 1 or 2.")
        if not self.innovation_stddev > 0:
            broken.append(f"Expected innovation_stddev={self.innovation_stddev} above 0.")
        if self.ar and abs(np.roots([1.0, *(-c for c in self.ar)])).max() >= 1:
            broken.append(f"Expected ar={list(self.ar)} to be stationary: roots inside the unit circle.")
        if broken:
            raise ValueError(" ".join(broken))


class Generator(Untrained):
    """Simulates numbers by ARIMA(p, d, q) with innovations; codes, attributes and lengths are uniform.

    Formal guarantee: uses the schema's declared facts and the configuration alone, so it spends nothing and
    is released at epsilon 0; what the schema leaves open (bounds, values, the number of units) is bought.
    Source: Box & Jenkins (1970), chapter 4.
    """

    name: ClassVar[str] = "arima"
    encoder_type: ClassVar[type[SequenceEncoder]] = SequenceEncoder
    measures: ClassVar[bool] = False

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> SequenceEncoder:
        options = SequenceOptions(apply_example_scaling=False, binary_encoder_cutoff=10**9)
        return SequenceEncoder(schema, statistics, options)

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[SequenceQuestion, ...]:
        return ()

    def __init__(
        self, config: Config, encoder: SequenceEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder = config, encoder

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        random, layout = np.random.default_rng(seed), self.encoder.layout
        fixed = self.encoder.encode_attributes(conditions or {}, num)
        attributes = np.zeros((num, len(layout.attributes)))
        for i, segment in enumerate(layout.attributes):
            codes = random.integers(0, segment.size, num)
            attributes[:, i] = codes if segment.kind == "onehot" else random.random(num)
            if segment.column.endswith("@missing"):
                attributes[:, i] = 0.0
            if segment.column in fixed:
                attributes[:, i] = fixed[segment.column][:, 0]
        features = np.zeros((num, layout.max_length, len(layout.features)))
        for i, segment in enumerate(layout.features):
            if segment.kind == "scalar":
                features[:, :, i] = np.clip(simulate(self.config, num, layout.max_length, random), 0, 1)
            elif not segment.column.endswith("@missing"):
                features[:, :, i] = random.integers(0, segment.size, (num, layout.max_length))
        lengths = random.integers(layout.min_length, layout.max_length + 1, num)
        return layout.join(attributes, np.zeros((num, 0)), lengths, features)


def simulate(
    config: Config, num: int, steps: int, random: np.random.Generator, burn: int = 200
) -> np.ndarray:
    """Simulates [n, step] paths with innovations, after a burn-in that forgets the start."""
    p, q, total = len(config.ar), len(config.ma), burn + steps
    noise = config.innovation_stddev * random.standard_normal((num, total))
    path = np.zeros((num, total))
    for t in range(total):
        path[:, t] = noise[:, t]
        for j in range(min(p, t)):
            path[:, t] += config.ar[j] * path[:, t - 1 - j]
        for j in range(min(q, t)):
            path[:, t] += config.ma[j] * noise[:, t - 1 - j]
    path = path[:, burn:]
    for _ in range(config.d):
        path = np.cumsum(path, axis=1)
    return config.mean + path
