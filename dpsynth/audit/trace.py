"""Canaries with a gradient each, trained by the real DP step while the attacker looks at every noisy sum.

Each canary's gradient points along a direction of its own with the largest norm, so that the coordinates of
the noisy sum are independent experiments, one per canary, in a single run. Units are made up, so nothing
private is read and nothing needs to be charged; everything else (sampling, clipping, noise, division, the
optimizer) is `dpsynth.privacy.training.train` at work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit import curves

if TYPE_CHECKING:
    from dpsynth.privacy.plan.plan import TrainingPlan
    from dpsynth.privacy.training.progress import TrainingLog

_LOUD = 10.0  # canary gradients before clipping, in clipping norms


class _CanaryObjective:
    """An objective whose unit i has the gradient `units[i]`; shows the attacker each noised sum."""

    def __init__(self, num: int, plan: TrainingPlan, watch: Any):
        import torch
        from torch import nn

        self.private = nn.Linear(num, 1, bias=False)
        nn.init.zeros_(self.private.weight)
        self._optimizer = torch.optim.SGD(self.private.parameters(), lr=1.0)
        self._scale = -plan.expected_batch_size / plan.max_grad_norm
        self._watch, self._norm = watch, _LOUD * plan.max_grad_norm

    def private_optimizer(self):
        return self._optimizer

    def example_units(self, num, draw):
        import torch

        rows = torch.arange(num) % self.private.in_features
        return self._norm * torch.eye(self.private.in_features)[rows] * (1 + torch.arange(num) // 7)[:, None]

    def unit_losses(self, units, draw):
        return self.private(units)[:, 0]

    def generated_losses(self, num, draw):
        return None

    def penalty(self, num, draw):
        return None

    def after_step(self):
        """The step was -noised sum / divisor: read it in clipping norms, and start again from zero."""
        weight = self.private.weight.data
        self._watch((weight[0] * self._scale).numpy().astype(np.float64))
        weight.zero_()

    def public_step(self, step, draw):
        pass

    def state(self):
        return {"private": self.private.state_dict()}

    def load_state(self, state):
        self.private.load_state_dict(state["private"])


class _NothingToCharge:
    """Stands in for a ledger: the units are made up, so no one's privacy is spent."""

    id = "synthetic canaries"

    def charge(self, name: str):
        return None

    def void(self, reason: str) -> None:
        pass


def trace_scores(
    claimed: TrainingPlan, actual: TrainingPlan, included: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, TrainingLog]:
    """Trains on the included canaries under `actual` and scores all by the claimed likelihood ratio.

    Returns (scores, log of the training); score_i = sum over steps of log(1 - q + q exp((x_i - 1/2) / s^2))
    with x the noised sum in clipping norms, q and s the claimed rate and noise multiplier.
    """
    import torch

    from dpsynth.privacy.noise.entropy import make_entropy
    from dpsynth.privacy.training.train import train

    q, sigma = claimed.sample_rate, max(claimed.noise_multiplier, 1e-3)
    scores = np.zeros(len(included))

    def watch(sums: np.ndarray) -> None:
        scores.__iadd__(curves.step_score(sums, q, sigma))

    objective = _CanaryObjective(len(included), actual, watch)
    rows = torch.from_numpy(np.flatnonzero(included))
    units = torch.zeros(len(rows), len(included))
    units[torch.arange(len(rows)), rows] = _LOUD * claimed.max_grad_norm
    log = train(objective, units, actual, _NothingToCharge(), make_entropy(actual.noise), seed=seed)
    return scores, log
