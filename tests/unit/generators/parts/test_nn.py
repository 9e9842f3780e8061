import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import nn
from worlds import SCHEMA, make_table, measure

from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.generators.parts.nn import PerUnitParameter, Segments, count_parameters, flat_rows, mlp, per_unit


@pytest.fixture(params=["bins", "modes"])
def made(request):
    table = make_table(200)
    encoder = TableEncoder(SCHEMA, measure(table), request.param)
    return Segments(encoder.layout), torch.from_numpy(encoder.encode(table))


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def wild_logits(segments, num):
    """Columns hundreds apart, where a maximum over the whole row would underflow."""
    logits = 5 * torch.randn(num, segments.width, generator=draw())
    return (logits + 400 * (torch.arange(segments.width) % 7 == 0)).requires_grad_()


def tame_logits(segments, num):
    return (5 * torch.randn(num, segments.width, generator=draw())).requires_grad_()


@pytest.mark.parametrize("some_logits", [wild_logits, tame_logits])
def test_losses_are_those_of_a_loop_over_columns(made, some_logits):
    segments, rows = made
    logits = some_logits(segments, len(rows))
    parts = [
        nn.functional.cross_entropy(
            logits[:, s.start : s.start + s.size], rows[:, i].long(), reduction="none"
        )
        for i, s in enumerate(segments.layout.segments)
        if s.kind == "onehot"
    ]
    loop, fast = torch.stack(parts, 1), segments.cross_entropy(logits, segments.targets(rows))
    assert torch.allclose(loop, fast, atol=1e-4)
    weights = torch.randn(loop.shape, generator=draw())
    gradients = [torch.autograd.grad((value * weights).sum(), logits)[0] for value in (loop, fast)]
    assert torch.allclose(*gradients, atol=1e-5)


def test_soft_rows_are_those_of_a_loop_over_columns(made):
    segments, rows = made
    logits = wild_logits(segments, len(rows))
    parts = []
    for s in segments.layout.segments:
        part = logits[:, s.start : s.start + s.size]
        parts.append(part.tanh() if s.kind == "scalar" else (part / 0.2).softmax(-1))
    loop, fast = torch.cat(parts, 1), segments.soft(logits, 0.2)
    weights = torch.randn(loop.shape, generator=draw())
    assert torch.allclose(loop, fast, atol=1e-5)
    gradients = [torch.autograd.grad((value * weights).sum(), logits)[0] for value in (loop, fast)]
    assert torch.allclose(*gradients, atol=1e-4)


def test_expanding_is_undone_by_the_likeliest_cells(made):
    segments, rows = made
    wide = segments.expand(rows)
    assert wide.shape == (len(rows), segments.width)
    back = segments.likeliest_rows(wide, draw())
    assert torch.equal(back[:, segments.packed_onehots], rows[:, segments.packed_onehots])
    assert torch.equal(wide[:, segments.scalars], rows[:, segments.packed_scalars])


def test_cells_are_drawn_by_their_probabilities(made):
    """Chi-square of 20,000 draws per column at 1e-7: at most 8 columns, false alarms below 1e-6."""
    segments, _ = made
    logits = torch.randn(1, segments.width, generator=draw(1))
    shares = segments.probabilities(logits)[0].double()
    rows = segments.draw_rows(logits.expand(20_000, -1).contiguous(), draw(2))
    for index, segment in enumerate(segments.layout.segments):
        if segment.kind == "onehot" and segment.size > 1:
            expected = 20_000 * shares[segment.start : segment.start + segment.size].numpy()
            counts = np.bincount(rows[:, index].int().numpy(), minlength=segment.size)
            statistic = ((counts - expected) ** 2 / expected).sum()
            assert statistic < chi2.isf(1e-7, segment.size - 1)


def test_gumbel_rows_are_nearly_hard_and_seeded(made):
    segments, _ = made
    logits = torch.randn(50, segments.width, generator=draw())
    first, again = (segments.soft(logits, 0.2, draw(3)) for _ in range(2))
    assert torch.equal(first, again)
    sums = first @ segments.member
    assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)


def test_padding_rows_do_not_count():
    units = torch.zeros(3, 2, 4)
    units[1, 1], units[2] = torch.nan, torch.nan
    losses = torch.tensor([[1.0, 3.0], [5.0, torch.nan], [torch.nan, torch.nan]])
    assert per_unit(losses, units).tolist() == [2.0, 5.0, 0.0]
    assert len(flat_rows(units)) == 3
    assert per_unit(torch.tensor([1.0, 2.0]), torch.zeros(2, 4)).tolist() == [1.0, 2.0]


def test_per_unit_parameter_gives_each_unit_its_own_gradient():
    module = PerUnitParameter(torch.ones(3))
    leaf = module(4)
    assert leaf.shape == (4, 3) and module.per_unit_parameter
    (leaf * torch.arange(4.0).unsqueeze(1)).sum().backward()
    assert module.parameter.grad.tolist() == [6.0] * 3


def test_parameters_are_counted():
    assert count_parameters(nn.Sequential(*mlp(3, (5, 2), nn.ReLU(), 0.1))) == 3 * 5 + 5 + 5 * 2 + 2
