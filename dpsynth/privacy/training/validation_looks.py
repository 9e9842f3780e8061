"""Looks at how good a model is while it trains: on units that may be read freely, or bought."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpsynth.errors import GuaranteeVoid, InvalidInput, Problem
from dpsynth.privacy.noise.entropy import Entropy
from dpsynth.privacy.noise.mechanisms import exact_gaussian
from dpsynth.privacy.noise.secret_draws import SecretDraws
from dpsynth.privacy.plan.plan import TrainingPlan
from dpsynth.privacy.training.objective import PrivateObjective
from dpsynth.privacy.training.sampling import UnitStore

_STEPS = 1 << 20  # whole numbers between a loss of 0 and the bound
_EXAMPLES = 256  # made-up units that set the bound


class FreeLook:
    """The loss on units that may be read freely: public ones under privacy, held-out ones without.

    Raises:
      InvalidInput: the objective has no `validation_loss`.
    """

    def __init__(self, objective: Any, units: Tensor, seed: int):
        if not hasattr(objective, "validation_loss"):
            rule = "This generator cannot be validated: its objective has no validation_loss."
            fix = "Set it to 0, and training.public_validation to null."
            raise InvalidInput("the configuration", [Problem("training.validation_share", rule, fix)])
        self._objective, self._units, self._seed = objective, units, seed

    def __call__(self, number: int) -> float:
        draw = torch.Generator(self._units.device).manual_seed(self._seed)
        with torch.no_grad():
            return float(self._objective.validation_loss(self._units, draw))


class BoughtLook:
    """The noisy mean loss of all private units, at most as often as the plan has paid for.

    Formal guarantee: a unit's loss is turned into a whole number from 0 to 2**20, so adding or removing a
    unit changes the sum by at most that; the sum gets exact Gaussian noise of the plan's multiplier times
    that. `plan.validation_looks` looks are one event, "validation", charged before the first of them. The
    divisor is the public or bought number of units. Losses, like gradients, are drawn under secret seeds.
    Edge cases: losses above the bound count as the bound, below 0 as 0, not finite as the bound. A resumed
    run repeats looks that the crash threw away, which nobody saw.

    Args:
      plan: with its divisor.
      physical: units per forward pass.
      bound: public: the loss that counts as 1; see `loss_bound`.
    """

    def __init__(
        self,
        objective: PrivateObjective,
        store: UnitStore,
        plan: TrainingPlan,
        entropy: Entropy,
        *,
        physical: int,
        bound: float,
    ):
        self._objective, self._store, self._plan, self._entropy = objective, store, plan, entropy
        self._physical, self._bound = physical, bound
        self._draws = SecretDraws(entropy, plan.device)

    def __call__(self, number: int) -> float:
        """Buys the look of that number (1, 2, …).

        Raises:
          GuaranteeVoid: the plan did not pay for so many.
        """
        plan = self._plan
        if number > plan.validation_looks or plan.validation_noise_multiplier is None:
            raise GuaranteeVoid(f"Look {number} was not paid for; the plan has {plan.validation_looks}.")
        total = 0
        with self._draws() as draw, torch.no_grad():
            for part in torch.arange(len(self._store)).split(self._physical) if len(self._store) else ():
                losses = self._objective.validation_losses(self._store.take(part), draw)
                total += self._whole_numbers(losses, len(part))
        noise_stddev = plan.validation_noise_multiplier * _STEPS
        noisy = exact_gaussian(np.array([total]), noise_stddev, entropy=self._entropy)[0]
        num_units = plan.expected_batch_size / plan.sample_rate
        return self._bound * float(noisy) / _STEPS / num_units

    def _whole_numbers(self, losses: Tensor, num: int) -> int:
        if losses.shape != (num,):
            raise GuaranteeVoid("validation_losses must return one loss per unit, a vector.")
        shares = (losses.double() / self._bound).nan_to_num(nan=1.0, posinf=1.0, neginf=0.0)
        return int((shares.clamp_(0.0, 1.0) * _STEPS).round_().long().sum())


def loss_bound(objective: PrivateObjective, *, device: str, seed: int) -> float:
    """Returns the loss that counts as 1: the largest on made-up units before training. Reads nothing."""
    draw = torch.Generator(device).manual_seed(seed)
    units = objective.example_units(_EXAMPLES, draw).to(device)
    with torch.no_grad(), torch.random.fork_rng():
        losses = objective.validation_losses(units, draw)
    return max(float(losses.max()), 1e-6)
