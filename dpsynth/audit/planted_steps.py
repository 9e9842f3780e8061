"""Broken training steps and their sound twins: plans that are not followed, samplers, sizes, losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dpsynth.privacy.plan.plan import TrainingPlan


def example_plan(noise_multiplier: float = 0.937) -> TrainingPlan:
    """A plan of 100 steps at rate 0.1; 0.937 claims epsilon = 8 at delta = 1e-5."""
    from dpsynth.privacy.plan.plan import TrainingPlan

    return TrainingPlan(
        sample_rate=0.1,
        steps=100,
        noise_multiplier=noise_multiplier,
        max_grad_norm=1.0,
        expected_batch_size=50.0,
    )


def scale_noise(plan: TrainingPlan, factor: float) -> TrainingPlan:
    """Adds `factor` times the planned noise."""
    return replace(plan, noise_multiplier=plan.noise_multiplier * factor)


def widen_clip(plan: TrainingPlan, factor: float = 5.0) -> TrainingPlan:
    """Clips `factor` times too wide and keeps the stddev of the noise."""
    return replace(
        plan, max_grad_norm=plan.max_grad_norm * factor, noise_multiplier=plan.noise_multiplier / factor
    )


def raise_rate(plan: TrainingPlan, factor: float = 2.0) -> TrainingPlan:
    """Samples `factor` times too often."""
    return replace(plan, sample_rate=plan.sample_rate * factor)


def hide_steps(plan: TrainingPlan, factor: float = 2.0) -> TrainingPlan:
    """Takes `factor` times the charged steps, as accumulation that nobody counts does."""
    return replace(plan, steps=round(plan.steps * factor))


BREAKS: Mapping[str, Callable[[Any], Any]] = {
    "noise_off": lambda plan: scale_noise(plan, 0.0),
    "noise_halved": lambda plan: scale_noise(plan, 0.5),
    "noise_over_1.25": lambda plan: scale_noise(plan, 0.8),
    "clip_5_times_too_wide": widen_clip,
    "rate_doubled": raise_rate,
    "steps_uncounted": hide_steps,
}


class ShuffledBatches:
    """Cuts a shuffled list into batches of one size, as loaders do; the rate is right, the law is not."""

    def __init__(self, num_units: int, sample_rate: float, rng: np.random.Generator):
        self._size, self._num, self._rng = round(num_units * sample_rate), num_units, rng
        self._left: list[int] = []

    def draw(self) -> list[int]:
        if len(self._left) < self._size:
            self._left = self._rng.permutation(self._num).tolist()
        batch, self._left = self._left[: self._size], self._left[self._size :]
        return batch


def stock_opacus(num_units: int, batch_size: int = 100) -> tuple[float, int, float]:
    """Returns (sample rate, steps per epoch, divisor) as `make_private` of Opacus 1.6 derives them.

    From the length of the data loader, hence from the exact number of units.
    """
    steps = -(-num_units // batch_size)
    return 1 / steps, steps, float(int(num_units / steps))


def planned_facts(num_units: int) -> tuple[float, int, float]:
    """Returns what dpsynth derives for the same table: everything from the declared size, nothing from N."""
    from dpsynth.data.schema import Continuous, Schema
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
    from dpsynth.privacy.plan.make_plan import make_plan
    from dpsynth.privacy.plan.plan import Request

    schema = Schema(columns=(Continuous(name="x", min=0.0, max=1.0),), num_units=1000)
    config = TrainingConfig(sample_rate=None, expected_batch_size=100, epochs=1.0)
    training = make_plan(PrivacyConfig(epsilon=1.0), config, schema, Request(trains=True)).training
    return training.sample_rate, training.steps, training.expected_batch_size


def packed_losses(units):
    """Scores ten units as one sample, as CTGAN's pac = 10 does (here: pairs)."""
    pairs = units.reshape(len(units) // 2, -1)
    return pairs.square().sum(dim=1).repeat_interleave(2)


def batchnorm_losses(units):
    """Normalises by the batch."""
    return ((units - units.mean(dim=0)) / (units.std(dim=0) + 1e-5)).square().sum(dim=1)
