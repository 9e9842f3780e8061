"""The analytic penalty against autograd's double backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dpsynth.generators.parts.gradient_penalty import _by_autograd, _piecewise_linear, slope_penalty

CRITICS = {
    "leaky": lambda: nn.Sequential(
        nn.Linear(5, 7), nn.LeakyReLU(0.2), nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 1)
    ),
    "dropout": lambda: nn.Sequential(
        *(
            nn.Linear(5, 7),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.5),
            nn.Linear(7, 6),
            nn.Dropout(0.3),
            nn.Linear(6, 1),
        )
    ),
    "no bias": lambda: nn.Sequential(nn.Linear(5, 7, bias=False), nn.ReLU(), nn.Linear(7, 1, bias=False)),
    "linear": lambda: nn.Sequential(nn.Linear(5, 1)),
}


def value_and_gradients(penalty, critic, points):
    torch.manual_seed(5)  # the same dropout masks
    value = penalty(critic, points, 0.7)
    found = torch.autograd.grad(3.0 * value, list(critic.parameters()), allow_unused=True)
    return value.detach(), [
        torch.zeros_like(p) if g is None else g for g, p in zip(found, critic.parameters())
    ]


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("num", [1, 9])
def test_value_and_gradient_equal_autograd(name, num):
    torch.manual_seed(0)
    critic, points = CRITICS[name]().double(), torch.randn(num, 5, dtype=torch.float64)
    assert _piecewise_linear(critic) is not None
    fast = value_and_gradients(lambda c, x, t: slope_penalty(c, x, target=t), critic, points)
    slow = value_and_gradients(_by_autograd, critic, points)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "critic",
    [
        nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1), nn.ReLU()),
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.LeakyReLU(), nn.Linear(4, 1)),
        nn.Sequential(nn.ReLU(), nn.Linear(5, 1)),
        nn.Bilinear(5, 5, 1),
    ],
    ids=["tanh", "relu last", "two outputs", "two activations", "activation first", "no sequence"],
)
def test_other_critics_are_left_to_autograd(critic):
    assert _piecewise_linear(critic) is None


def test_a_smooth_critic_gets_the_same_penalty_by_autograd():
    torch.manual_seed(0)
    critic, points = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(6, 5)
    fast = value_and_gradients(lambda c, x, t: slope_penalty(c, x, target=t), critic, points)
    torch.testing.assert_close(fast, value_and_gradients(_by_autograd, critic, points))


def test_a_flat_critic_has_gradient_zero_not_nan():
    critic = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
    for parameter in critic.parameters():
        parameter.data.zero_()
    value = slope_penalty(critic, torch.randn(3, 5))
    value.backward()
    assert value.item() == 1.0
    assert all(p.grad is None or not bool(p.grad.any()) for p in critic.parameters())


def test_points_get_no_gradient():
    points = torch.randn(3, 5, requires_grad=True)
    value = slope_penalty(CRITICS["leaky"](), points)
    value.backward()
    assert points.grad is None
