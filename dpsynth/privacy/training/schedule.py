"""What changes over the steps of a training: learning rates, weight averages, and when to stop.

Learning rates follow the step number, never a private loss. Averages are post-processing. Stopping looks at
units that may be read freely (public ones under privacy, held-out ones without), or at a bought loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from dpsynth.privacy.configs import TrainingConfig

SCHEDULES = ("constant", "linear", "cosine")
_PATIENCE = 3  # validations in a row without improvement before training stops


def learning_rate_factor(step: int, *, steps: int, schedule: str, warmup_steps: int) -> float:
    """Returns what the base learning rate is multiplied by at `step` (0, 1, …).

    Rises linearly over the warm-up to 1, then stays, or falls to 0 at `steps` in a line or a half cosine.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    raise ValueError(f'Expected training.schedule="{schedule}" to be one of {", ".join(SCHEDULES)}.')


class LearningRates:
    """Scales the learning rates of an objective's optimizers by step."""

    def __init__(self, objective: Any, config: TrainingConfig, steps: int):
        self._steps, self._schedule, self._warmup = steps, config.schedule, config.warmup_steps
        learning_rate_factor(0, steps=steps, schedule=config.schedule, warmup_steps=0)
        self._groups = []
        if config.schedule != "constant" or config.warmup_steps > 0:
            for optimizer in _optimizers(objective):
                for group in optimizer.param_groups:
                    group.setdefault("initial_lr", group["lr"])
                    self._groups.append(group)

    def set(self, step: int) -> None:
        """Sets the rates of step `step`."""
        factor = learning_rate_factor(
            step, steps=self._steps, schedule=self._schedule, warmup_steps=self._warmup
        )
        for group in self._groups:
            group["lr"] = group["initial_lr"] * factor


def _optimizers(objective: Any) -> list[torch.optim.Optimizer]:
    optimizers = list(objective.optimizers()) if hasattr(objective, "optimizers") else []
    if hasattr(objective, "private_optimizer"):
        private = objective.private_optimizer()
        if not any(private is each for each in optimizers):
            optimizers.append(private)
    return optimizers


class WeightAverage:
    """Exponential average of the released module's weights; free, because it only sees what is paid for.

    Statistics of BatchNorm layers are averaged along, so that they fit the averaged parameters.
    The decay warms up as (1 + t) / (10 + t), so that a short run is not dominated by the initial weights.
    """

    def __init__(self, objective: Any, decay: float):
        self._decay, self._updates = decay, 0
        module = objective.averaged() if decay > 0.0 and hasattr(objective, "averaged") else None
        weights = [] if module is None else [*module.parameters(), *module.buffers()]
        self._weights = [w.detach() for w in weights if w.is_floating_point()]
        self._averages = [w.clone() for w in self._weights]

    def update(self) -> None:
        """Takes the current weights into the average."""
        if self._weights:
            self._updates += 1
            decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
            torch._foreach_lerp_(self._averages, self._weights, 1.0 - decay)

    def apply(self) -> None:
        """Writes the averages into the module."""
        if self._updates:
            torch._foreach_copy_(self._weights, self._averages)

    def state(self) -> dict[str, Any]:
        return {"updates": self._updates, "averages": self._averages}

    def load_state(self, state: dict[str, Any]) -> None:
        self._updates = state["updates"]
        for average, saved in zip(self._averages, state["averages"]):
            average.copy_(saved)


class EarlyStopping:
    """Stops when looks at the loss fail to improve by `early_stop_delta` three times in a row.

    Without looks, or with early_stop_delta null, it never stops. The steps that are not taken stay paid for:
    the charge is an upper bound.

    Args:
      look: returns the loss at the look of a number (1, 2, …); see
        `dpsynth.privacy.training.validation_looks`.
    """

    def __init__(self, look: Callable[[int], float] | None, config: TrainingConfig):
        self.look = look
        self._every, self._delta = config.validation_every, config.early_stop_delta
        self._best, self._waited = math.inf, 0
        self.stopped = False
        self.losses: list[tuple[int, float]] = []

    def after(self, done: int) -> None:
        """Looks after `done` steps if it is time to."""
        if self.look is None or done % self._every:
            return
        loss = self.look(done // self._every)
        self.losses.append((done, loss))
        if self._delta is None:
            return
        if loss < self._best - self._delta:
            self._best, self._waited = loss, 0
        else:
            self._waited += 1
            self.stopped = self._waited >= _PATIENCE

    def state(self) -> dict[str, Any]:
        return {
            "best": self._best,
            "waited": self._waited,
            "stopped": self.stopped,
            "losses": [list(pair) for pair in self.losses],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._best, self._waited, self.stopped = state["best"], state["waited"], state["stopped"]
        self.losses = [(step, loss) for step, loss in state["losses"]]
