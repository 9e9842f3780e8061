"""Opacus' DPOptimizer, fed with book-kept sums and noised from our entropy."""

from __future__ import annotations

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.noise.entropy import Entropy
from dpsynth.privacy.training.layers import FlatParameters


class FlatDPOptimizer(DPOptimizer):
    """A `DPOptimizer` over flat buffers: clipped sum, noise, constant divisor, public terms, in that order.

    `step`, `pre_step`, step hooks, accountants and the wrapped optimizer are Opacus' own. What differs: the
    clipped sum arrives in `private_sum` instead of per-unit gradients (back ends add to it, one call per
    physical batch), noise is one draw into one buffer from `entropy`, and `public_gradient` is added after
    the noise and the division.

    Formal guarantee: if what is added to `private_sum` between two steps has sensitivity `max_grad_norm`, the
    gradient handed to the wrapped optimizer is a post-processing of one Gaussian mechanism with the given
    noise multiplier. Every step draws noise, whether or not anything was added (an empty batch).

    Args:
      optimizer: over exactly the trainable parameters of the private module.
      flat: the layout of the buffers.
      expected_batch_size: public or bought constant; never the size of a batch.
      entropy: where the noise comes from.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        flat: FlatParameters,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        entropy: Entropy,
    ):
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction="mean",
        )
        owned = {id(p) for p in self.params}
        if owned != {id(p) for p in flat.parameters} or len(self.params) != len(flat.parameters):
            raise GuaranteeVoid(
                "The private optimizer must hold exactly the trainable parameters of the private module. "
                "Build it from private.parameters()."
            )
        self.entropy = entropy
        self.private_sum = flat.zeros()
        self.public_gradient = flat.zeros()
        self.gradient = flat.zeros()
        self._parameters = flat.parameters
        self._sum_views = flat.views(self.private_sum)
        self._gradient_views = flat.views(self.gradient)
        self.public_views = flat.views(self.public_gradient)
        self.noise_second_moment = 0.0  # of the noise alone, in gradient units squared; internal
        self.has_public_terms = False  # set by whoever adds to `public_gradient`, for good
        self.zero_grad()

    @property
    def grad_samples(self) -> list[Tensor]:
        """What Opacus checks before a step; here the clipped sums."""
        return self._sum_views

    @property
    def accumulated_iterations(self) -> int:
        """One: physical batches are parts of one Poisson batch, and accountants see one step."""
        return 1

    def clip_and_accumulate(self) -> None:
        """Hands over the clipped sum of this step; it can be used once."""
        for parameter, view in zip(self._parameters, self._sum_views):
            if parameter.summed_grad is not None:
                raise GuaranteeVoid("A clipped sum was used twice. Call zero_grad() after every step.")
            parameter.summed_grad = view

    def add_noise(self) -> None:
        """Draws noise_multiplier * max_grad_norm * N(0, I) once for all parameters; adds the clipped sum."""
        stddev, noise = self.noise_multiplier * self.max_grad_norm, self.gradient
        self.entropy.normal_(noise, 1.0)
        self.noise_second_moment = stddev**2 * float(torch.dot(noise, noise)) / noise.numel()
        torch.add(self.private_sum, noise, alpha=stddev, out=noise)
        for parameter, view in zip(self._parameters, self._gradient_views):
            parameter.grad = view

    def scale_grad(self) -> None:
        """Divides by the constant, then adds the gradient that read no private unit."""
        self.gradient.div_(self.expected_batch_size)
        if self.has_public_terms:
            self.gradient.add_(self.public_gradient)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Clears the sums for the next step."""
        self.private_sum.zero_()
        if self.has_public_terms:
            self.public_gradient.zero_()
        for parameter in self._parameters:
            parameter.grad = None
            parameter.summed_grad = None
            parameter.grad_sample = None
