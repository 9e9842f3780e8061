"""Projections that bound a critic's slope."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dpsynth.generators.parts.lipschitz import LipschitzProjection


def critic(scale):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), nn.LeakyReLU(0.2), nn.Linear(9, 1))
    for parameter in net.parameters():
        parameter.data.mul_(scale)
    return net


def largest(layer):
    return torch.linalg.matrix_norm(layer.weight, ord=2).item()


def test_spectral_projection_bounds_every_layer_and_follows_it_over_steps():
    net = critic(10.0)
    project = LipschitzProjection(net, "spectral", 1.5)
    for _ in range(20):
        project()
        # Power iteration from below: after its warm-up it is within a few per cent on such matrices.
        assert all(largest(layer) <= 1.5 * 1.05 for layer in net if isinstance(layer, nn.Linear))
        for parameter in net.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)


def test_spectral_projection_bounds_the_slope():
    net = critic(10.0)
    LipschitzProjection(net, "spectral", 1.0)()
    points = torch.randn(200, 6, requires_grad=True)
    (slopes,) = torch.autograd.grad(net(points).sum(), points)
    assert float(slopes.norm(dim=1).max()) <= 1.1


def test_small_weights_are_left_alone():
    net = critic(0.01)
    before = [p.clone() for p in net.parameters()]
    LipschitzProjection(net, "spectral", 1.0)()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters()))


def test_clipping_clamps_every_parameter():
    net = critic(10.0)
    LipschitzProjection(net, "clip", 0.2)()
    assert max(float(p.abs().max()) for p in net.parameters()) == pytest.approx(0.2)


def test_a_bound_of_zero_is_refused():
    with pytest.raises(ValueError, match="bound"):
        LipschitzProjection(critic(1.0), "clip", 0.0)


@pytest.mark.parametrize("kind, bound", [("spectral", 1.0), ("clip", 0.01)])
@pytest.mark.parametrize("private", [True, False])
def test_ctgan_trains_under_a_projection_instead_of_the_penalty(kind, bound, private):
    from dpsynth.data.bought.statistics import Statistics
    from dpsynth.data.schema import Categorical, Schema
    from dpsynth.generators.ctgan import Config, Generator

    columns = tuple(Categorical(name=name, values=("x", "y", "z")) for name in "ab")
    schema = Schema(version=1, columns=columns)
    statistics = Statistics.made_up(schema)
    config = Config(lipschitz=kind, weight_bound=bound, size="small", batch_size=20)
    encoder = Generator.encoder(config, schema, statistics, private=private)
    generator = Generator(config, encoder, statistics, seed=0, private=private)
    made = generator.players.critic
    for parameter in made.parameters():
        parameter.data.mul_(50.0)
    draw = torch.Generator().manual_seed(0)
    objective = generator.objective()
    if private:
        assert objective.penalty(20, draw) is None
        objective.after_step()
    else:
        plain = generator.plain_objective()
        plain.bind(objective.example_units(40, draw))
        plain.step(draw)
    layers = [module for module in made.modules() if isinstance(module, nn.Linear)]
    if kind == "spectral":
        assert all(largest(layer) <= bound * 1.05 for layer in layers)
    else:
        assert all(p.abs().max().item() <= bound * (1 + 1e-6) for p in made.parameters())
