"""Book-kept clipping against one-unit-at-a-time autograd, and the back ends against each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toys import ToyObjective, UnitParameter

from dpsynth.errors import GuaranteeVoid, InvalidInput
from dpsynth.privacy.training.backends import BACKENDS, make_backend
from dpsynth.privacy.training.clipping import BookKeeper, clip_factors
from dpsynth.privacy.training.layers import trainable_layers


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def clipped_one_by_one(module, losses, num, bound):
    """The oracle: every unit's gradient by autograd in float64, clipped and summed."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    value, total = losses(), 0.0
    for unit in range(num):
        pieces = torch.autograd.grad(value[unit], parameters, retain_graph=True, allow_unused=True)
        flat = torch.cat(
            [(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in zip(pieces, parameters)]
        ).double()
        total = total + flat * min(1.0, bound / max(float(flat.norm()), 1e-30))
    return total


def book_kept(module, losses, num, bound):
    keeper = BookKeeper(module)
    out = keeper.flat.zeros()
    clipped = keeper.clipped_sum(losses, num, bound, out)
    keeper.close()
    return out, clipped


def relative(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-12))


@st.composite
def networks(draw):
    """Random small MLPs with their units: widths, activations, biases, dropout, rows, a unit parameter."""
    seed = draw(st.integers(0, 2**31))
    widths = draw(st.lists(st.integers(1, 7), min_size=2, max_size=4))
    rows = draw(st.sampled_from([None, 1, 3]))
    torch.manual_seed(seed)
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b, bias=draw(st.booleans())), draw(st.sampled_from([nn.ReLU(), nn.Tanh()]))]
        layers += [nn.Dropout(0.4)] if draw(st.booleans()) else []
    net = nn.ModuleDict({"net": nn.Sequential(*layers), "scale": UnitParameter(widths[-1])})
    num = draw(st.integers(1, 6))
    shape = (num, widths[0]) if rows is None else (num, rows, widths[0])
    units = torch.randn(*shape) * 10.0 ** draw(st.integers(-3, 3))
    bound = 10.0 ** draw(st.integers(-2, 2))

    def losses(units):
        torch.manual_seed(seed)
        output = net["net"](units)
        scale = net["scale"](len(units))
        output = output * (scale if output.ndim == 2 else scale.unsqueeze(1))
        return (output**2).reshape(len(units), -1).sum(1) + output.reshape(len(units), -1).sum(1)

    return net, losses, units, bound


@settings(max_examples=60, deadline=None)
@given(networks())
def test_book_kept_sum_equals_the_sum_of_clipped_unit_gradients(case):
    net, losses, units, bound = case
    found, _ = book_kept(net, lambda: losses(units), len(units), bound)
    expected = clipped_one_by_one(net, lambda: losses(units), len(units), bound)
    # Units may cancel in the sum, so the error is held against what they contribute, not against the sum.
    assert float((found - expected).norm()) <= 1e-5 * bound * len(units) + 1e-6


@settings(max_examples=60, deadline=None)
@given(networks(), st.integers(0, 5), st.floats(-1e4, 1e4))
def test_changing_one_unit_changes_one_contribution_of_norm_at_most_the_bound(case, place, value):
    net, losses, units, bound = case
    place %= len(units)
    changed = units.clone()
    changed[place] = value
    contributions = []
    for table in (units, changed):
        keeper = BookKeeper(net)
        out = keeper.flat.zeros()
        # `losses` repeats its draws, so each unit can be weighted alone by masking the others' losses.
        rows = []
        for unit in range(len(table)):
            mask = torch.zeros(len(table)).index_fill_(0, torch.tensor([unit]), 1.0)
            keeper.clipped_sum(lambda: losses(table) * mask, len(table), bound, out.zero_())  # noqa: B023
            rows.append(out.clone())
        contributions.append(torch.stack(rows))
        keeper.close()
    norms = contributions[0].double().norm(dim=1)
    assert bool((norms <= bound * (1 + 1e-6)).all())
    assert float(contributions[1][place].double().norm()) <= bound * (1 + 1e-6)
    others = torch.arange(len(units)) != place
    # Matrix products over other rows may round otherwise; 1e-6 of the bound is far below any real leak.
    torch.testing.assert_close(
        contributions[0][others], contributions[1][others], atol=1e-6 * bound, rtol=1e-5
    )


@pytest.mark.parametrize("rows", [None, 4])
@pytest.mark.parametrize("num", [1, 9])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e3, 1e-3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_back_ends_agree_with_dropout_and_latents(backend, size, num, rows):
    torch.manual_seed(3)
    objective = ToyObjective(rows=rows)
    units = torch.randn(num, *objective.shape) * size
    if size == 0.0:
        for parameter in objective.scale.parameters():
            parameter.data.zero_()  # then the loss and all its gradients vanish
    sums = {}
    for name in {"fast", backend}:
        keeper = BookKeeper(objective.private)
        engine = make_backend(name, objective.private, keeper, 0.7)
        torch.manual_seed(11)
        draw = torch.Generator().manual_seed(12)
        out = keeper.flat.zeros()
        engine.clipped_sum(lambda u: objective.unit_losses(u, draw), units, 0.7, out)  # noqa: B023
        engine.close()
        keeper.close()
        sums[name] = out
    expected = sums["fast"]
    assert float((sums[backend] - expected).norm()) <= 1e-5 * max(float(expected.norm()), 1e-3)
    if size == 0.0:
        assert float(expected.norm()) == 0.0


@pytest.mark.parametrize("backend", ["fast", "opacus_hooks", "vmap"])
def test_back_ends_agree_when_a_layer_is_called_twice(backend):
    torch.manual_seed(3)
    objective = ToyObjective(twice=True, dropout=0.0)
    units = torch.randn(5, 5)

    def losses(units):
        return objective.unit_losses(units, torch.Generator().manual_seed(0))

    keeper = BookKeeper(objective.private)
    engine = make_backend(backend, objective.private, keeper, 1.0)
    out = keeper.flat.zeros()
    engine.clipped_sum(losses, units, 1.0, out)
    engine.close()
    keeper.close()
    assert relative(out, clipped_one_by_one(objective.private, lambda: losses(units), 5, 1.0)) < 1e-5


def test_without_a_bound_the_sum_is_the_plain_gradient():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    units = torch.randn(7, 4)
    found, clipped = book_kept(net, lambda: net(units).square().sum(1), 7, math.inf)
    plain = torch.autograd.grad(net(units).square().sum(), list(net.parameters()))
    torch.testing.assert_close(found, torch.cat([g.reshape(-1) for g in plain]), rtol=1e-5, atol=1e-6)
    assert bool((clipped.factors == 1.0).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("backend", ["fast", "opacus_hooks", "vmap"])
def test_a_unit_with_a_non_finite_gradient_contributes_zero(backend, bad):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    units = torch.randn(6, 3)
    good = torch.tensor([0, 1, 3, 4, 5])
    units[2, 1] = bad
    keeper = BookKeeper(net)
    engine = make_backend(backend, net, keeper, 1.0)
    out = keeper.flat.zeros()
    clipped = engine.clipped_sum(lambda u: net(u).square().sum(1) * u.sum(1), units, 1.0, out)
    engine.close()
    keeper.close()
    rest = units[good]
    expected = clipped_one_by_one(net, lambda: net(rest).square().sum(1) * rest.sum(1), 5, 1.0)
    assert relative(out, expected) < 1e-5
    assert float(clipped.factors[2]) == 0.0


def test_a_gradient_whose_square_overflows_is_clipped_not_dropped():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    units = torch.randn(4, 3)
    factor = torch.tensor([1.0, 1e25, 1.0, 1e-30])
    found, clipped = book_kept(net, lambda: net(units).sum(1) * factor, 4, 0.5)
    expected = clipped_one_by_one(net.double(), lambda: net(units.double()).sum(1) * factor.double(), 4, 0.5)
    assert relative(found, expected) < 1e-5
    assert clipped.summary()[2] <= 0.5


def test_rows_that_cancel_do_not_hide_a_gradient_above_the_bound():
    # Σ_r g_r a_rᵀ is tiny beside its terms: float32 Gram entries lose it, so the norm is recomputed.
    torch.manual_seed(0)
    net = nn.Linear(4, 3, bias=False)
    a = torch.randn(2, 1, 4) * 1e5
    units = torch.cat([a, -a + torch.randn(2, 1, 4)], dim=1)
    found, clipped = book_kept(net, lambda: net(units).sum((1, 2)), 2, 1e-3)
    net, units = net.double(), units.double()
    expected = clipped_one_by_one(net, lambda: net(units).sum((1, 2)), 2, 1e-3)
    assert relative(found, expected) < 1e-5
    assert clipped.summary()[2] <= 1e-3 * (1 + 1e-5)


def test_clip_factors_never_lift_a_norm_above_the_bound():
    norms = torch.logspace(-8, 30, 20001)
    assert bool((norms.double() * clip_factors(norms, 1.0).double() <= 1.0).all())


class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.inner = nn.Linear(2, 2)


class SubLinear(nn.Linear):
    pass


@pytest.mark.parametrize(
    "module",
    [
        nn.BatchNorm1d(3),
        nn.BatchNorm1d(3, affine=False),
        nn.BatchNorm1d(3, affine=False, track_running_stats=False),
        nn.InstanceNorm1d(3, affine=False),
        nn.LSTM(3, 3),
        nn.Conv1d(3, 3, 1),
        nn.Embedding(3, 3),
        nn.LayerNorm(3),
        nn.PReLU(),
        Loose(),
        SubLinear(3, 3),
        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1, inplace=True),
    ],
    ids=lambda module: type(module).__name__,
)
def test_unknown_or_coupling_modules_are_named_before_training(module):
    with pytest.raises(InvalidInput) as caught:
        trainable_layers(nn.Sequential(nn.Linear(3, 3), module))
    assert "1" in str(caught.value) and type(module).__name__ in str(caught.value)


def test_all_problems_of_a_network_are_listed_at_once():
    with pytest.raises(InvalidInput) as caught:
        trainable_layers(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.LSTM(3, 3)))
    assert len(caught.value.problems) == 2


def test_tied_parameters_are_refused():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    with pytest.raises(InvalidInput, match="shares a parameter"):
        trainable_layers(nn.Sequential(first, second))


def test_a_frozen_network_is_refused():
    with pytest.raises(InvalidInput, match="no trainable parameter"):
        trainable_layers(nn.Linear(2, 2).requires_grad_(False))


def test_frozen_layers_and_plain_layer_norm_are_allowed():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 4).requires_grad_(False), nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 2)
    )
    units = torch.randn(5, 3)
    found, _ = book_kept(net, lambda: net(units).square().sum(1), 5, 0.1)
    assert relative(found, clipped_one_by_one(net, lambda: net(units).square().sum(1), 5, 0.1)) < 1e-5


def test_a_reduced_loss_is_refused():
    net = nn.Linear(3, 1)
    with pytest.raises(GuaranteeVoid, match="one loss per unit"):
        book_kept(net, lambda: net(torch.randn(4, 3)).mean(), 4, 1.0)


def test_units_flattened_into_rows_are_refused():
    net = nn.Linear(3, 1)
    units = torch.randn(4, 2, 3)
    with pytest.raises(GuaranteeVoid, match="must be the unit"):
        book_kept(net, lambda: net(units.reshape(8, 3)).reshape(4, 2).sum(1), 4, 1.0)


def test_an_input_overwritten_after_its_layer_is_refused():
    net = nn.Linear(3, 1)

    def losses():
        units = torch.randn(4, 3)
        value = net(units).square().sum(1)
        units.zero_()
        return value

    with pytest.raises(GuaranteeVoid, match="overwritten in place"):
        book_kept(net, losses, 4, 1.0)
