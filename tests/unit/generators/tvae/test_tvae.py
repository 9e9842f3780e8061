import numpy as np
import pytest
import torch
from worlds import build

from dpsynth.generators import tvae
from dpsynth.generators.parts.nn import count_parameters
from dpsynth.generators.tvae.settings import Widths


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_loss_is_the_published_one():
    small = build(tvae, tvae.Config(), private=False)
    objective, layout = small.generator.objective(), small.encoder.layout
    units = small.units[:40]
    found = objective.unit_losses(units, draw(1))
    network, rows = small.generator.network, objective.segments.expand(units)
    mean, log_variance = network.encoder(rows)
    noise = torch.randn(mean.shape, generator=draw(1))
    logits = network.decoder(mean + torch.exp(0.5 * log_variance) * noise)
    expected, scalar = torch.zeros(40), 0
    for index, s in enumerate(layout.segments):
        if s.kind == "scalar":
            sigma = network.decoder.stddev.parameter[scalar]
            scalar += 1
            error = rows[:, s.start] - torch.tanh(logits[:, s.start])
            expected = expected + error**2 / 2 / sigma**2 + torch.log(sigma)
        else:
            part = logits[:, s.start : s.start + s.size]
            target = units[:, index].long()
            expected = expected + torch.nn.functional.cross_entropy(part, target, reduction="none")
    divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp(), dim=1)
    assert torch.allclose(found, 2 * expected + divergence, rtol=1e-4)


def test_scale_stays_within_its_clamp():
    generator = build(tvae, tvae.Config(), private=False).generator
    objective, scale = generator.objective(), generator.decoder.stddev.parameter
    assert (scale == 0.1).all()
    scale.data[0], scale.data[1] = -3.0, 7.0
    objective.after_step()
    assert scale[0].item() == pytest.approx(0.01) and scale[1].item() == 1.0


def test_sizes_resolve_and_can_be_overridden():
    assert tvae.Config().widths(False) == Widths(128, (128, 128), (128, 128))
    mixed = tvae.Config(size="small", decoder_dims=(16,)).widths(True)
    assert mixed == Widths(32, (64, 64), (16,))
    counts = [
        count_parameters(build(tvae, tvae.Config(size=size), private=True).generator.network)
        for size in ("small", "medium", "large")
    ]
    assert counts == sorted(counts) and counts[0] < counts[2] / 4


def test_settings_out_of_range_are_listed_together():
    with pytest.raises(ValueError, match="learning_rate.*loss_factor"):
        tvae.Config(learning_rate=0.0, loss_factor=-1.0)


def test_training_learns_the_dependence_between_columns():
    small = build(tvae, tvae.Config(size="small", representation="bins"), private=False, num=1000)
    plain, public = small.generator.plain_objective(), draw()
    plain.bind(small.units)
    assert plain.steps_per_epoch == 2
    for _ in range(250):
        plain.step(public)
    made = small.encoder.decode(small.generator.sample(2000, seed=0), seed=0)
    gap = made[made["town"] == "Cork"]["age"].mean() - made[made["town"] == "Ayr"]["age"].mean()
    assert gap > 10  # 20 years in the table; 0 where columns are independent


def test_likeliest_cells_can_be_asked_for():
    chosen = build(tvae, tvae.Config(draw_categories=False), private=True).generator.sample(300, seed=0)
    drawn = build(tvae, tvae.Config(), private=True).generator.sample(300, seed=0)
    assert len(np.unique(chosen, axis=0)) < len(np.unique(drawn, axis=0))


def test_soft_rows_have_gradients_to_the_decoder_alone():
    generator = build(tvae, tvae.Config(), private=True).generator
    rows = generator.soft_rows(9, draw())
    assert rows.shape == (9, generator.encoder.layout.width)
    rows.square().sum().backward()
    assert all(p.grad is not None for p in generator.decoder.parameters())
    assert all(p.grad is None for p in generator.network.encoder.parameters())
