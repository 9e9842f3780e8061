import dataclasses

import numpy as np
import pytest
import torch
from worlds import build

from dpsynth.generators import ctgan
from dpsynth.generators.ctgan.conditions import Choice, Frequencies, bought_frequencies, independent_rows
from dpsynth.generators.ctgan.settings import Widths


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def players(private=True, **settings):
    small = build(ctgan, ctgan.Config(**settings), private=private)
    return small, small.generator.players


def test_published_settings_without_privacy_and_small_critic_with():
    plain, private = ctgan.Config().resolved(False), ctgan.Config().resolved(True)
    assert (plain.pac, plain.log_frequency, plain.critic_steps, plain.dropout) == (10, True, 1, 0.5)
    assert (private.pac, private.log_frequency, private.representation) == (1, False, "bins")
    assert ctgan.Config().widths(False) == Widths(128, (256, 256), (256, 256))
    assert ctgan.Config().widths(True).critic == (128, 128)


@pytest.mark.parametrize("settings", [{"pac": 10}, {"log_frequency": True}])
def test_packs_and_flattened_frequencies_are_errors_with_privacy(settings):
    with pytest.raises(ValueError, match="differential privacy"):
        build(ctgan, ctgan.Config(**settings), private=True)


def test_condition_of_a_unit_is_its_own_cell():
    small, game = players()
    units = small.units[:300]
    choice = game.conditions.of_rows(units, draw())
    assert set(choice.columns.tolist()) == set(range(game.conditions.num_columns))
    own = units.gather(1, game.conditions.packed[choice.columns].unsqueeze(1)).squeeze(1)
    assert torch.equal(own.long(), choice.codes)
    vector = game.conditions.vector(choice)
    assert vector.sum(dim=1).tolist() == [1.0] * 300
    assert torch.equal(vector.argmax(dim=1), game.conditions.offsets[choice.columns] + choice.codes)


def test_conditions_land_in_every_column_not_only_the_first():
    _, game = players()
    choice = game.choose(500, draw())
    written = game.conditions.write(torch.zeros(500, game.segments.packed_width), choice)
    assert (written > 0).any(dim=0)[game.conditions.packed].all()


def test_frequencies_are_drawn_as_bought():
    """100,000 draws: 7 standard deviations of a share are at most 0.011."""
    shares = [np.array([0.0, 0.7, 0.3]), np.array([1.0]), np.array([0.25, 0.0, 0.75, 0.0])]
    codes = Frequencies(shares).codes(torch.arange(3).expand(100_000, -1), draw())
    for column, share in enumerate(shares):
        found = np.bincount(codes[:, column], minlength=len(share)) / 100_000
        assert found == pytest.approx(share, abs=0.011)
        assert (found[share == 0] == 0).all()


def test_rough_rows_follow_the_shares_to_one_in_a_thousand():
    """100,000 draws: 7 standard deviations of a share, 0.011, beside its rounding, 0.001."""
    shares = [np.array([0.0, 0.7, 0.3]), np.array([1.0]), np.array([0.25, 0.0, 0.75, 0.0])]
    codes = Frequencies(shares).rough_rows(100_000, draw()).long()
    for column, share in enumerate(shares):
        found = np.bincount(codes[:, column], minlength=len(share)) / 100_000
        assert found == pytest.approx(share, abs=0.012)
        assert (found[share == 0] == 0).all()


def test_logarithmic_frequencies_lift_rare_cells():
    small, _ = players(private=False)
    plain, flat = bought_frequencies(small.encoder), bought_frequencies(small.encoder, logarithmic=True)
    town = [s.column for s in small.encoder.layout.segments if s.kind == "onehot"].index("town")
    index = torch.full((20_000,), town)
    rare = [float((f.codes(index, draw()) == 3).float().mean()) for f in (plain, flat)]
    assert rare[1] > 2 * rare[0]


def test_training_by_sampling_finds_rows_that_meet_the_condition():
    small, game = players(private=False)
    plain = small.generator.plain_objective()
    plain.bind(small.units)
    choice = game.choose(1000, draw())
    rows = small.units[plain._matching(1000, choice, draw(1))]
    own = rows.gather(1, game.conditions.packed[choice.columns].unsqueeze(1)).squeeze(1)
    assert torch.equal(own.long(), choice.codes)


def test_every_matching_row_is_drawn():
    small, game = players(private=False)
    plain = small.generator.plain_objective()
    plain.bind(small.units)
    choice = Choice(torch.zeros(20_000, dtype=torch.long), torch.ones(20_000, dtype=torch.long))
    meets = (small.units[:, game.conditions.packed[0]] == 1).nonzero().flatten()
    drawn = plain._matching(20_000, choice, draw()).unique()
    assert torch.equal(drawn, meets)


def test_penalty_is_that_of_one_pack_at_a_time():
    _, game = players(private=False, pac=5, dropout=0.0, critic_dims=(16, 8), gradient_penalty=10.0)
    width = game.segments.width + game.conditions.width
    ends = torch.randn(20, width, generator=draw()), torch.randn(20, width, generator=draw(1))
    found = game.penalty(ends, draw(2))
    shares = torch.rand(4, 1, generator=draw(2))
    norms = []
    for pack in range(4):
        first, second = (end[5 * pack : 5 * pack + 5] for end in ends)
        points = (shares[pack] * first + (1 - shares[pack]) * second).requires_grad_()
        norms.append(torch.autograd.grad(game.critic(points).sum(), points)[0].norm())
    assert found.item() == pytest.approx(10 * ((torch.stack(norms) - 1) ** 2).mean().item(), rel=1e-4)


def test_generator_steps_leave_the_critic_alone():
    small, game = players()
    objective = small.generator.objective()
    before = [p.clone() for p in game.critic.parameters()]
    for step in range(game.config.critic_steps):
        moved = small.generator.state()
        objective.public_step(step, draw())
    assert all(p.grad is None and torch.equal(p, b) for p, b in zip(game.critic.parameters(), before))
    after = small.generator.state()
    assert any(not torch.equal(after[key], moved[key]) for key in after if "weight" in key)


def test_independent_rows_follow_the_bought_frequencies():
    small, game = players()
    rows = independent_rows(small.encoder.layout, game.frequencies, 50_000, draw())
    for index, segment in enumerate(small.encoder.layout.segments):
        found = np.bincount(rows[:, index].int(), minlength=segment.size) / 50_000
        assert found == pytest.approx(small.encoder.frequencies(segment.column), abs=0.02)


def test_a_table_without_categories_needs_no_conditions():
    from worlds import measure

    from dpsynth.data.rows.encoder import TableEncoder
    from dpsynth.data.schema import Integer, Schema

    small = build(ctgan, ctgan.Config(), private=True)
    schema = Schema(columns=(Integer(name="age", min=18, max=90),))
    statistics = measure(small.table, schema)
    encoder = TableEncoder(schema, statistics, "bins")
    generator = ctgan.Generator(ctgan.Config(), encoder, statistics, seed=0, private=True)
    objective, units = generator.objective(), torch.from_numpy(encoder.encode(small.table))
    assert objective.unit_losses(units[:6], draw()).shape == (6,)
    assert objective.penalty(6, draw()).isfinite()
    assert generator.sample(9, seed=0, conditions={"age": 30}).shape == (9, 1)
    generator.plain_objective()


def test_conditions_steer_the_generator_before_they_are_enforced():
    settings = {"representation": "bins", "batch_size": 200, "size": "small", "pac": 1}
    config = ctgan.Config(generator_learning_rate=2e-3, **settings)
    small = build(ctgan, config, private=False)
    plain = small.generator.plain_objective()
    plain.bind(small.units)
    public = draw()
    for _ in range(150):
        plain.step(public)
    game, codes = small.generator.players, small.encoder.condition_codes({"town": "Dover"})
    small.generator.network.eval()
    with torch.no_grad():
        logits = game.logits(500, game.ask(500, codes, public), public)
        rows = game.segments.draw_rows(logits, public)
    ((index, code),) = codes.items()
    assert (rows[:, index] == code).float().mean() > 0.5  # 3 % of the table


def test_settings_are_frozen_and_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ctgan.Config().pac = 3
    with pytest.raises(ValueError, match="pac=3"):
        ctgan.Config(pac=3, batch_size=500)
