"""Checks, before anything is charged or read, that an objective keeps units apart."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.training.backends import RandomTape
from dpsynth.privacy.training.clipping import BookKeeper
from dpsynth.privacy.training.objective import PrivateObjective

_UNITS = 6
_TOLERANCE = 1e-4  # float32 sums in another order differ by about 1e-6 of their size


def validate_objective(objective: PrivateObjective, keeper: BookKeeper, *, device: str, seed: int) -> None:
    """Runs `unit_losses` on made-up units and checks the promises that sensitivity rests on.

    1. One loss per unit. 2. Replacing one unit, with all draws repeated, changes no other loss: this finds
    batch statistics, packing, and means inside the loss, however they were written. 3. Leaving the last unit
    out, everyone else keeping their draws, changes no other loss: this finds a division by the batch size.
      4. The book-kept gradient equals autograd's: this finds parameters that are used outside their layer.
      The forward pass leaves buffers as they were.

    Formal guarantee: reads no private unit, so an error says nothing about one.

    Raises:
      GuaranteeVoid: names the promise that is broken.
    """
    with torch.random.fork_rng(devices=_cuda_index(device)):
        _validate(objective, keeper, device, seed)


def _cuda_index(device: str) -> list[int]:
    if torch.device(device).type != "cuda":
        return []
    return [torch.device(device).index or 0]


def _validate(objective: PrivateObjective, keeper: BookKeeper, device: str, seed: int) -> None:
    draw = torch.Generator(device)
    units = objective.example_units(2 * _UNITS, draw.manual_seed(seed)).to(device)
    if len(units) != 2 * _UNITS:
        raise GuaranteeVoid("example_units(num, draw) must return num units. Make up as many as asked for.")
    first, other = units[:_UNITS], units[_UNITS:]
    buffers = [b.clone() for b in objective.private.buffers()]

    def losses(some: Tensor) -> Tensor:
        torch.manual_seed(seed)
        value = objective.unit_losses(some, draw.manual_seed(seed))
        if value.shape != (len(some),):
            raise GuaranteeVoid("unit_losses must return one loss per unit, a vector. Do not reduce axis 0.")
        return value

    reference = losses(first)
    for unit in range(_UNITS):
        changed = first.clone()
        changed[unit] = other[unit]
        with torch.no_grad():
            difference = ~_close(losses(changed), reference)
        difference[unit] = False
        if bool(difference.any()):
            raise GuaranteeVoid(
                "Changing one unit changes the loss of another. Remove batch statistics, packing and means "
                "over axis 0 from unit_losses."
            )
    _check_removal(losses, first)
    _check_coverage(keeper, lambda: losses(first))
    for before, after in zip(buffers, objective.private.buffers()):
        if not torch.equal(before, after):
            raise GuaranteeVoid(
                "A forward pass writes to a buffer of the private module. Keep no statistics."
            )


def _check_removal(losses, units: Tensor) -> None:
    """Compares losses with and without the last unit, every other unit keeping its own draws."""
    with torch.no_grad(), RandomTape() as tape:
        whole = losses(units)
    num = len(units)
    kept = [draw[:-1] if draw.ndim and len(draw) == num else draw for draw in tape.draws]
    with torch.no_grad(), RandomTape(kept):
        rest = losses(units[:-1])
    if not bool(_close(rest, whole[:-1]).all()):
        raise GuaranteeVoid(
            "Leaving one unit out changes the loss of another. Do not divide by the number of units, and "
            "draw randomness with the unit as axis 0."
        )


def _check_coverage(keeper: BookKeeper, losses) -> None:
    """Compares the unclipped book-kept sum with autograd's gradient."""
    kept = keeper.flat.zeros()
    keeper.clipped_sum(losses, _UNITS, float("inf"), kept)
    gradients = torch.autograd.grad(losses().sum(), keeper.flat.parameters, allow_unused=True)
    for name, view, gradient in zip(keeper.names, keeper.flat.views(kept), gradients):
        gradient = torch.zeros_like(view) if gradient is None else gradient
        scale = torch.linalg.vector_norm(gradient) + torch.linalg.vector_norm(view)
        if bool(torch.linalg.vector_norm(view - gradient) > _TOLERANCE * scale):
            raise GuaranteeVoid(
                f"Parameter {name} reaches the loss around its layer: its gradient per unit is unknown. Use "
                "it only by calling its layer, and not under no_grad or in place."
            )


def _close(a: Tensor, b: Tensor) -> Tensor:
    return torch.isclose(a, b, rtol=_TOLERANCE, atol=1e-6, equal_nan=True)
