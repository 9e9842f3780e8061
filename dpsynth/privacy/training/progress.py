"""What training reports: progress, logs and the figures that conformance checks hold against the plan."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Conformance:
    """Running statistics of what the mechanism did, to hold against the plan. Internal: never released.

    Args:
      steps: noisy steps taken in this process.
      noise_second_moment: sum over steps of the mean squared noise value, in gradient units squared.
      units_drawn: sum of batch sizes.
      num_units: size of the table.
      max_clipped_norm: the largest contribution of a unit seen.
      clipped_share: sum over steps of the share of units in the batch that were clipped.
      divisor: what the noisy sum was divided by.
    """

    steps: int = 0
    noise_second_moment: float = 0.0
    units_drawn: int = 0
    num_units: int = 0
    max_clipped_norm: float = 0.0
    clipped_share: float = 0.0
    divisor: float = 0.0

    @property
    def noise_stddev(self) -> float:
        """Of the noise that was added to the clipped sums."""
        return math.sqrt(self.noise_second_moment / self.steps) if self.steps else 0.0

    @property
    def inclusion_rate(self) -> float:
        """The mean over steps of the share of units that took part."""
        return self.units_drawn / (self.steps * self.num_units) if self.steps and self.num_units else 0.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What `on_step` is told after each step.

    Args:
      steps_done, steps: public; with the plan they give epsilon so far.
      internal: by name, figures that touched private data without paying (the mean loss of the batch).
    """

    steps_done: int
    steps: int
    internal: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainingLog:
    """What a training did.

    Args:
      steps: public: as planned, or fewer after a stop on units that may be read freely.
      resumed_at: the step from which a checkpoint continued; 0 otherwise.
      divisor: released or public: the constant expected batch size; None without privacy.
      physical_batch_size: public: units per forward pass; None without privacy.
      num_parameters: public: of the private module.
      seconds: wall time of the steps; internal, since it depends on batch sizes.
      losses: of each step of this process (the mean loss, or losses by name); internal.
      validation_losses: pairs of step and loss, on units that may be read freely.
      conformance: internal.
    """

    steps: int
    resumed_at: int = 0
    divisor: float | None = None
    physical_batch_size: int | None = None
    num_parameters: int = 0
    seconds: float = 0.0
    losses: list = field(default_factory=list)
    validation_losses: list[tuple[int, float]] = field(default_factory=list)
    conformance: Conformance | None = None


class Clock:
    """Wall time by stage."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start
