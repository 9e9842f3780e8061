"""What a generator hands to the training core: its losses, never its data loop.

Generators satisfy these protocols structurally and import nothing from here.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class PrivateObjective(Protocol):
    """A training problem whose `private` module learns from real units under DP-SGD.

    One step of the core, in this order:

    1. draw a Poisson batch of units, call `unit_losses`, clip each unit's gradient to C, sum, add noise,
       divide by the constant expected batch size;
    2. add the mean of the clipped gradients of `generated_losses`, and the plain gradient of `penalty`;
    3. step `private_optimizer()`, then `after_step()`;
    4. `public_step(step, draw)`.

    Formal guarantee: holds if `unit_losses(units, draw)[i]` is a function of `units[i]`, of the parameters
    and of draws that are independent across units, and if nothing else here reads `units`. The core checks
    this on `example_units` before it charges or reads anything (`dpsynth.privacy.training.unit_separation`).

    What `private` may contain: `nn.Linear` (exact type), modules whose class sets `per_unit_parameter = True`
    (`dpsynth.generators.parts.nn.PerUnitParameter`: `forward(batch)` returns `parameter.expand(batch, -1)`),
    and anything without trainable parameters that treats units apart (activations, Dropout, `LayerNorm`
    without affine). BatchNorm of any kind, recurrent and convolution layers, embeddings and loose parameters
    are errors that name the module. Axis 0 of every Linear's input is the unit; further axes may follow (rows
    of an entity, steps of a sequence), and a Linear may be called several times per forward pass.
    """

    private: nn.Module

    def private_optimizer(self) -> torch.optim.Optimizer:
        """Returns the one plain torch optimizer over exactly `private`'s trainable parameters.

        The same object on every call; prefer `fused=True`. The core wraps it in Opacus' `DPOptimizer`.
        """
        ...

    def example_units(self, num: int, draw: torch.Generator) -> Tensor:
        """Makes up `num` valid, distinct units from the layout alone (uniform codes, say), reading no data.

        Same shape and domain as the resident units `[unit ...]`. The validator and the memory estimate use
        them.
        """
        ...

    def unit_losses(self, units: Tensor, draw: torch.Generator) -> Tensor:
        """Returns one loss per unit, `[unit]`, from a forward pass of `private` in train mode.

        `units` is `[unit ...]`, any number of them but never zero (the core handles the empty batch).
        `draw` is secret here (reseeded from the entropy at every step; so is torch's global generator, for
        Dropout): under a public seed, removing a unit would hand everyone else's latents to their
        neighbour. No mean, sum or normalisation over axis 0.
        """
        ...

    def generated_losses(self, num: int, draw: torch.Generator) -> Tensor | None:
        """Returns one loss per generated sample, `[num]`, through `private`; None if there is no such term.

        The core clips each to C and adds their mean without noise: fakes are public, but unclipped they would
        outweigh the clipped real ones. `draw` comes from the public seed. The generator must not need a
        gradient.
        """
        ...

    def penalty(self, num: int, draw: torch.Generator) -> Tensor | None:
        """Returns a scalar on `num` generated samples whose plain gradient is added (a penalty), or None.

        Called right after `generated_losses(num, draw)`, whose samples it may use again. Neither clipped nor
        noised. May reach the parameters any way autograd knows, double backward included;
        see `dpsynth.generators.parts.gradient_penalty` for the fast form.
        """
        ...

    def after_step(self) -> None:
        """Projects `private`'s parameters after the step (spectral norm, weight clipping); data-free."""
        ...

    def public_step(self, step: int, draw: torch.Generator) -> None:
        """Does whatever reads no real unit, after private step `step` (0, 1, …): generator steps, anchoring.

        `draw` comes from the public seed. The objective decides how many private steps go to one of its own.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Returns everything needed to resume: modules and optimizers; tensors and plain values only."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned, in place: parameters and optimizers stay the same objects."""
        ...


@runtime_checkable
class PlainObjective(Protocol):
    """The published, non-private training step of a model (`privacy=none`); may couple units as it likes."""

    def bind(self, units: Tensor) -> None:
        """Takes the units `[unit ...]` to train on; may index them (training by sampling, packs)."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Number of `step` calls that make one epoch over the bound units."""
        ...

    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Does one published training step (critic rounds and generator) and returns its losses by name."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns everything needed to resume; tensors and plain values only."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned, in place."""
        ...


# Optional methods, looked up by name on either objective:
#   optimizers() -> list[Optimizer]        all optimizers, private and public, that a schedule scales
#   averaged() -> nn.Module                the released module whose parameters `training.ema_decay` averages
#   validation_loss(units, draw) -> float  loss on units that may be read freely (public ones under privacy,
#                                          held-out ones without), without gradient, modes restored after
#   validation_losses(units, draw) -> [unit]  one loss per unit, in which unit i depends on unit i alone; its
#                                          noisy mean can be bought while training
OPTIONAL_METHODS = ("optimizers", "averaged", "validation_loss", "validation_losses")
