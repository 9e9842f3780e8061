"""A training step as Opacus' documentation writes it, on a Poisson batch from its own loader's law."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from .contenders import Contender


def stock_opacus(contender: Contender, units: Tensor, batch_size: int, *, ghost: bool) -> Callable[[], None]:
    """Returns one step with Opacus' own module wrapper, clipping, noise and optimizer.

    Args:
      ghost: ghost clipping (two backward passes) in place of per-sample gradients by hooks.
    """
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    objective = contender.objective
    module = objective.private.train()
    draw, rate = torch.Generator().manual_seed(4), batch_size / len(units)
    given = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "expected_batch_size": batch_size}
    if ghost:
        wrapped = GradSampleModuleFastGradientClipping(module, max_grad_norm=1.0, strict=False)
        optimizer = DPOptimizerFastGradientClipping(objective.private_optimizer(), **given)
    else:
        wrapped = GradSampleModule(module, strict=False)
        optimizer = DPOptimizer(objective.private_optimizer(), **given)

    def run() -> None:
        batch = units[torch.rand(len(units), generator=draw) < rate]
        losses = objective.unit_losses(batch, draw)
        optimizer.zero_grad()
        if ghost:
            DPTensorFastGradientClipping(wrapped, optimizer, losses).backward()
        else:
            losses.mean().backward()
        optimizer.step()

    return run
