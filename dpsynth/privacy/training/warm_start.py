"""Warm start: the private network first learns from rows that the anchored generator makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpsynth.privacy.configs import TrainingConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dpsynth.privacy.training.objective import PrivateObjective

_NUM_UNITS = 20_000  # made ones
_BATCH_SIZE = 500


def warm_started(generator: Any, config: TrainingConfig, seed: int) -> PrivateObjective:
    """Returns the generator's objective; with `warm_start="anchored"`, after plain steps on made rows.

    The rows are weighted to the bought histograms, so that a critic meets what the network alone misses.

    Formal guarantee: post-processing of bought statistics and of public randomness; reads no private unit.

    Args:
      generator: fitted to what was bought.
      seed: public.
    """
    objective = generator.objective()
    if config.warm_start == "none":
        return objective
    import torch

    from dpsynth.privacy.training.memory import cpu_threads

    generator.fit_release()
    draw = torch.Generator(config.device).manual_seed(seed)
    units = _as_units(torch.from_numpy(generator.sample(_NUM_UNITS, seed=seed)), objective, config.device)
    with cpu_threads(config.threads), torch.random.fork_rng():
        torch.manual_seed(seed)  # Dropout
        _fit(objective, units, config.warm_start_steps, draw)
    return objective


def _as_units(rows: Tensor, objective: PrivateObjective, device: str) -> Tensor:
    """Made rows in the shape of units: where those hold several rows, the others are left empty."""
    import torch

    shape = objective.example_units(1, torch.Generator(device).manual_seed(0)).shape[1:]
    if rows.ndim == 1 + len(shape):
        return rows.to(device)
    units = torch.full((len(rows), *shape), torch.nan)
    units[:, 0] = rows
    return units.to(device)


def _fit(objective: PrivateObjective, units: Tensor, steps: int, draw: torch.Generator) -> None:
    """Takes steps of the private module on public units, neither clipped nor noised."""
    import torch

    objective.private.train()
    optimizer = objective.private_optimizer()
    for _ in range(steps):
        index = torch.randint(len(units), (_BATCH_SIZE,), generator=draw, device=units.device)
        loss = objective.unit_losses(units[index], draw).mean()
        fakes = objective.generated_losses(_BATCH_SIZE, draw)
        loss = loss if fakes is None else loss + fakes.mean()
        penalty = objective.penalty(_BATCH_SIZE, draw)
        loss = loss if penalty is None else loss + penalty
        optimizer.zero_grad()
        loss.backward(inputs=list(objective.private.parameters()))
        optimizer.step()
        objective.after_step()
    optimizer.zero_grad()
