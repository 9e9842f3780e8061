"""The gradient penalty of a WGAN critic, without a double backward pass where the critic is piecewise linear.

The slope at x is then a product of weights and of the activations' slopes at x (with dropout masks), which
are piecewise constant. So one pass finds those constants, and the slope is written as that product: one
backward pass through it gives Σ u_l v_lᵀ per layer, what autograd's double backward gives in more passes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_SLOPES: dict[type[nn.Module], Callable[[nn.Module], float]] = {
    nn.ReLU: lambda module: 0.0,
    nn.LeakyReLU: lambda module: module.negative_slope,
}


def slope_penalty(critic: nn.Module, points: Tensor, *, target: float = 1.0) -> Tensor:
    """Returns the mean over points of (‖∇ critic(x)‖ - target)², differentiable in the critic's parameters.

    Analytically if `critic` is an `nn.Sequential` of Linear, ReLU, LeakyReLU and Dropout layers that ends in
    one Linear output, else by autograd, which any critic allows. Both give the same value and gradient.
    Edge cases: a slope of exactly zero has gradient zero.

    Args:
      critic: maps `[point feature]` to one score per point.
      points: where the slope is taken, `[point feature]`; generated samples, or mixtures of such.
    Source: Gulrajani et al. (2017), equation 3.
    """
    plan = _piecewise_linear(critic)
    if plan is None or points.dim() != 2:
        return _by_autograd(critic, points, target)
    slopes = plan[-1][0].weight.expand(len(points), -1)
    for (linear, _, _), mask in zip(plan[-2::-1], reversed(_masks(plan, points.detach()))):
        slopes = (slopes if mask is None else slopes * mask) @ linear.weight
    return (torch.linalg.vector_norm(slopes, dim=1) - target).square().mean()


def _by_autograd(critic: nn.Module, points: Tensor, target: float) -> Tensor:
    points = points.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = torch.linalg.vector_norm(slopes.reshape(len(slopes), -1), dim=1)
    return (norms - target).square().mean()


_Plan = list[tuple[nn.Linear, float | None, list[nn.Dropout]]]


def _piecewise_linear(critic: nn.Module) -> _Plan | None:
    """Reads the critic as Linear layers, each with the negative slope and the dropouts that follow it."""
    plan: _Plan = []
    for module in critic if isinstance(critic, nn.Sequential) else ():
        if type(module) is nn.Linear:
            plan.append((module, None, []))
        elif plan and type(module) is nn.Dropout:
            plan[-1][2].append(module)
        elif plan and type(module) in _SLOPES and plan[-1][1] is None and not plan[-1][2]:
            linear, _, dropouts = plan[-1]
            plan[-1] = (linear, _SLOPES[type(module)](module), dropouts)
        else:
            return None
    ends_linear = plan and plan[-1][0].out_features == 1 and plan[-1][1] is None and not plan[-1][2]
    return plan if ends_linear else None


@torch.no_grad()
def _masks(plan: _Plan, values: Tensor) -> list[Tensor | None]:
    """One forward pass; keeps each hidden layer's slopes `[point unit]` (None where they are all 1)."""
    masks: list[Tensor | None] = []
    for linear, slope, dropouts in plan[:-1]:
        values = nn.functional.linear(values, linear.weight, linear.bias)
        mask = None
        if slope is not None:
            mask = (values > 0).to(values.dtype)
            if slope != 0.0:
                mask.mul_(1.0 - slope).add_(slope)
        for dropout in dropouts:
            if dropout.training and dropout.p > 0.0:
                mask = torch.ones_like(values) if mask is None else mask
                mask = nn.functional.dropout(mask, dropout.p)
        values = values if mask is None else values.mul_(mask)
        masks.append(mask)
    return masks
