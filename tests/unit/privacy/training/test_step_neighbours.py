"""What one unit changes in a training: a step's clipped sum by at most C, and never whether a step is taken.

Parameters stay where they are (a learning rate of 0), so that each step of neighbouring tables is comparable;
units bring their coins along. Two faults that other tools have are the broken twins.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import CountingLedger, ToyObjective

from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.plan.plan import TrainingPlan
from dpsynth.privacy.training import train as training
from dpsynth.privacy.training.optimizer import FlatDPOptimizer
from dpsynth.privacy.training.sampling import PoissonSampler
from dpsynth.privacy.training.train import PrivateStep, train

C, STEPS, NUM = 0.5, 12, 30
PLAN = TrainingPlan(
    sample_rate=0.1, steps=STEPS, noise_multiplier=1.0, max_grad_norm=C, expected_batch_size=3.0
)
COINS = np.random.default_rng(0).random((STEPS, NUM)) < 0.1
COINS[5] = False  # an empty batch with and without any unit
ALONE = np.flatnonzero(COINS.sum(axis=1) == 1)  # steps with one unit, which are empty without it
OFTEN = int(COINS.sum(axis=0).argmax())


class Still(ToyObjective):
    """Takes steps of length 0, and loses a lot on every unit, so that all of them are clipped."""

    def __init__(self):
        super().__init__(dropout=0.0)
        self.optimizer = torch.optim.SGD(self.private.parameters(), lr=0.0)

    def unit_losses(self, units, draw):
        return 100.0 * ((self.head(self.net(units)) * self.scale(len(units)) - units) ** 2).sum(1)


def steps_of(units: np.ndarray, patch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Trains on these units; returns the clipped sum of each noisy step."""
    torch.manual_seed(1)
    sums, batches = [], iter([torch.from_numpy(np.flatnonzero(row[units])) for row in COINS])
    honest = FlatDPOptimizer.add_noise

    def noisy(self):
        sums.append(self.private_sum.clone())
        honest(self)

    table = torch.randn(NUM, 5, generator=torch.Generator().manual_seed(2))[torch.from_numpy(units)]
    with patch.context() as inner:
        inner.setattr(FlatDPOptimizer, "add_noise", noisy)
        inner.setattr(PoissonSampler, "draw", lambda self: next(batches))
        inner.setattr(training, "_check_accounted", lambda *_: None)
        train(Still(), table, PLAN, CountingLedger(), FixedEntropy(3), seed=0)
    return sums


def faults(patch: pytest.MonkeyPatch, unit: int, least: float = 0.0) -> list[str]:
    """Compares a training with all units and the one without this; lists what is not paid for."""
    everyone = np.arange(NUM)
    whole, without = (steps_of(units, patch) for units in (everyone, np.delete(everyone, unit)))
    if len(whole) != STEPS or len(without) != STEPS:
        return ["a planned step took no noise"]
    changes = [float((one - other).norm()) for one, other in zip(whole, without)]
    assert max(changes) >= least
    return [f"step {step} changed by more than C" for step, x in enumerate(changes) if x > C * (1 + 1e-5)]


def drop_empty_batches(patch: pytest.MonkeyPatch) -> None:
    """A batch without units is skipped, its noise with it."""
    honest = PrivateStep.__call__

    def step(self, store, index, draw):
        return honest(self, store, index, draw) if len(index) else 0.0

    patch.setattr(PrivateStep, "__call__", step)


def accumulate(patch: pytest.MonkeyPatch) -> None:
    """Several batches make one noisy step, and a unit may be in each of them."""
    honest = PrivateStep.__call__

    def step(self, store, index, draw):
        return honest(self, store, torch.cat([index, index]), draw)

    patch.setattr(PrivateStep, "__call__", step)


UNITS = [0, OFTEN, NUM - 1, int(COINS[ALONE[0]].argmax())]


@pytest.mark.parametrize("unit", UNITS)
def test_one_unit_moves_a_step_by_at_most_the_clip_and_takes_none_away(unit, monkeypatch):
    assert faults(monkeypatch, unit, least=0.99 * C if COINS[:, unit].any() else 0.0) == []


def test_a_step_that_is_left_out_where_a_batch_is_empty_is_caught(monkeypatch):
    drop_empty_batches(monkeypatch)
    assert faults(monkeypatch, UNITS[-1]) == ["a planned step took no noise"]


def test_a_unit_that_enters_a_step_twice_is_caught(monkeypatch):
    accumulate(monkeypatch)
    assert all("more than C" in fault for fault in faults(monkeypatch, OFTEN)) and faults(monkeypatch, OFTEN)


def test_the_plan_of_the_comparison_has_empty_and_single_batches():
    assert len(ALONE) and (COINS.sum(axis=1) == 0).any() and COINS[:, OFTEN].sum() > 1
