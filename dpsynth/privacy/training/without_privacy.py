"""Training without privacy: the published step of a model, and the usual controls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dpsynth.privacy.configs import TrainingConfig
from dpsynth.privacy.training.memory import cpu_threads
from dpsynth.privacy.training.objective import PlainObjective
from dpsynth.privacy.training.progress import Progress, TrainingLog
from dpsynth.privacy.training.schedule import EarlyStopping, LearningRates, WeightAverage
from dpsynth.privacy.training.validation_looks import FreeLook


def train_without_privacy(
    objective: PlainObjective,
    units: Tensor,
    config: TrainingConfig,
    *,
    seed: int,
    on_step: Callable[[Progress], None] | None = None,
    validation: Tensor | None = None,
) -> TrainingLog:
    """Trains a model as published, with no privacy at all; what comes out is NON-PRIVATE.

    Formal guarantee: none.

    Args:
      units: all units, on the CPU; a share of them may be held out for validation.
      config: `steps`, or `epochs` times the objective's steps per epoch; schedule, average, validation and
        early stopping; `gradient_accumulation` batches for each optimizer step. Batch sizes belong to the
        objective here.
      seed: public; the split, latents and order.
      on_step: called after each step with the step's losses.
      validation: other units to validate on, in place of a share of `units`.
    Raises:
      ValueError: neither steps nor epochs.
    """
    draw = torch.Generator(config.device).manual_seed(seed)
    training, held_out = _split(units.to(config.device), config.validation_share, seed)
    held_out = held_out if validation is None else validation.to(config.device)
    devices = list(range(torch.cuda.device_count())) if config.device != "cpu" else []
    with cpu_threads(config.threads), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        objective.bind(training)
        with _accumulation(objective, config.gradient_accumulation):
            return _run(objective, held_out, config, draw, seed, on_step)


def _run(objective, held_out, config, draw, seed, on_step) -> TrainingLog:
    steps = _num_steps(objective, config)
    rates = LearningRates(objective, config, steps)
    average = WeightAverage(objective, config.ema_decay)
    stopping = EarlyStopping(None if held_out is None else FreeLook(objective, held_out, seed), config)
    losses, done, began = [], 0, time.perf_counter()
    while done < steps and not stopping.stopped:
        rates.set(done)
        found = objective.step(draw)
        losses.append(found)
        average.update()
        done += 1
        stopping.after(done)
        if on_step:
            on_step(Progress(steps_done=done, steps=steps, internal=found))
    average.apply()
    return TrainingLog(
        steps=done,
        seconds=time.perf_counter() - began,
        losses=losses,
        validation_losses=stopping.losses,
    )


@contextmanager
def _accumulation(objective: PlainObjective, batches: int) -> Iterator[None]:
    """Lets every optimizer of the objective step once in `batches` calls, on the mean of their gradients."""
    optimizers = objective.optimizers() if batches > 1 else []
    for optimizer in optimizers:
        _accumulate(optimizer, batches)
    try:
        yield
    finally:
        for optimizer in optimizers:
            del optimizer.step, optimizer.zero_grad


def _accumulate(optimizer: torch.optim.Optimizer, batches: int) -> None:
    step, zero_grad, taken = optimizer.step, optimizer.zero_grad, [0]

    def later_step(*args: Any) -> None:
        taken[0] += 1
        if taken[0] % batches == 0:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
            torch._foreach_div_([g for g in gradients if g is not None], float(batches))
            step(*args)

    def later_zero_grad(*args: Any, **kwargs: Any) -> None:
        if taken[0] % batches == 0:
            zero_grad(*args, **kwargs)

    optimizer.step, optimizer.zero_grad = later_step, later_zero_grad


def _num_steps(objective: PlainObjective, config: TrainingConfig) -> int:
    if config.steps is not None:
        return config.steps
    if config.epochs is None:
        raise ValueError("Expected training.steps or training.epochs.")
    return max(1, round(config.epochs * objective.steps_per_epoch))


def _split(units: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor | None]:
    """Holds a share of units out, by a public shuffle."""
    if not 0.0 <= share < 1.0:
        raise ValueError(f"Expected training.validation_share={share} in [0, 1).")
    num = int(share * len(units))
    if num == 0:
        return units, None
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed)).to(units.device)
    return units[order[num:]], units[order[:num]]
