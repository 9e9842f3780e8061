"""The anchor, the fit of the release and the marginal network, on a table with known dependence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from joints import SCHEMA, buy, exact, make_table

from dpsynth.data.bought.questions import pair_questions
from dpsynth.data.bought.statistics import Question
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.generators import ctgan, independent, marginal_net, tvae
from dpsynth.generators.base import public_draw
from dpsynth.generators.marginals import marginal_fit
from dpsynth.generators.marginals.anchor import Anchor, make_anchor
from dpsynth.generators.marginals.marginal_fit import MarginalFit
from dpsynth.generators.parts.nn import Segments

TABLE = make_table(3_000)
STATISTICS = buy(TABLE, noise_stddev=4.0)
ENCODER = TableEncoder(SCHEMA, STATISTICS)
ROWS = ENCODER.encode(TABLE)
NET = marginal_net.Config(width=64, anchor_steps=150, anchor_batch_size=400, fit_pool=6_000)


def hard(rows: np.ndarray) -> torch.Tensor:
    return Segments(ENCODER.layout).expand(torch.from_numpy(rows))


def alone(num: int, seed: int) -> np.ndarray:
    generator = independent.Generator(independent.Config(), ENCODER, STATISTICS, seed=0, private=True)
    return generator.sample(num, seed=seed)


def distance(rows: np.ndarray) -> float:
    """Mean total variation of all pairs by target from the real rows."""
    shares = []
    for question in pair_questions(SCHEMA):
        names = tuple(name.removeprefix("\0~") for name in question.columns)
        real, made = (ENCODER.count(Question(columns=names), part) for part in (ROWS, rows))
        shares.append(0.5 * np.abs(real / len(ROWS) - made / len(rows)).sum())
    return float(np.mean(shares))


def test_the_anchor_answers_as_the_encoder_counts():
    statistics = buy(TABLE, noise_stddev=0.0)
    encoder = TableEncoder(SCHEMA, statistics)
    rows = Segments(encoder.layout).expand(torch.from_numpy(encoder.encode(TABLE)))
    anchor = Anchor(encoder.layout, statistics)
    assert float(anchor.loss(torch.cat([rows, rows]))) == pytest.approx(0.0, abs=1e-9)
    assert float(anchor.loss(torch.cat([rows[:300], rows[:300]]))) > 1e-4


def test_the_loss_does_not_grow_as_batches_shrink():
    """Unbiased: the mean over 200 small batches is that of all rows within 5 standard errors (alarm 6e-7)."""
    anchor, random = Anchor(ENCODER.layout, STATISTICS), np.random.default_rng(0)
    soft = hard(ROWS)
    losses = [float(anchor.loss(soft[torch.from_numpy(random.choice(len(ROWS), 60))])) for _ in range(200)]
    whole = float(anchor.loss(torch.cat([soft, soft])))
    error = np.std(losses) / np.sqrt(len(losses))
    assert abs(np.mean(losses) - whole) < 5 * error
    halves = [float(anchor.loss(torch.cat([part, part]))) for part in soft.split(60)[:50]]
    assert np.mean(halves) - whole > 5 * error  # the plain square, which charges sampling noise


def test_rows_that_are_alone_are_farther_than_real_ones():
    anchor = Anchor(ENCODER.layout, STATISTICS)
    assert float(anchor.loss(hard(alone(3_000, 0)))) > 2 * float(anchor.loss(hard(ROWS)))


def test_there_is_no_anchor_without_joint_histograms_or_privacy():
    nothing = replace(STATISTICS, marginals=())
    assert make_anchor(ENCODER.layout, nothing, private=True) is None
    assert make_anchor(ENCODER.layout, STATISTICS, private=False) is None


def test_the_fit_brings_independent_rows_to_what_was_bought():
    fit = MarginalFit(ENCODER.layout, STATISTICS, pool_rows=8_000, seed=0)
    fit.solve(alone)
    rows = fit.sample(alone, 3_000, seed=1)
    assert rows.shape == ROWS.shape
    assert distance(rows) < 0.8 * distance(alone(3_000, 1))


def test_the_fit_is_stored_and_gives_the_same_rows_again():
    fit, again = (MarginalFit(ENCODER.layout, STATISTICS, pool_rows=4_000, seed=0) for _ in range(2))
    fit.solve(alone)
    assert again.load_state(fit.state() | {"weight": torch.ones(1)}) == {"weight": torch.ones(1)}
    for num in (1, 50):
        assert np.array_equal(fit.sample(alone, num, seed=3), again.sample(alone, num, seed=3))
    assert not fit.sample(alone, 50, seed=4).tolist() == fit.sample(alone, 50, seed=3).tolist()


def test_the_marginal_network_learns_pairs_and_survives_a_release():
    generator = marginal_net.Generator(NET, ENCODER, STATISTICS, seed=0, private=True)
    generator.fit_public()
    before = distance(generator.sample(3_000, seed=1))
    generator.fit_release()
    after = distance(generator.sample(3_000, seed=1))
    assert before < 0.75 * distance(alone(3_000, 1)) and after < 1.02 * before
    again = marginal_net.Generator(NET, ENCODER, STATISTICS, seed=9, private=True)
    again.load_state(generator.state())
    assert np.array_equal(again.sample(40, seed=2), generator.sample(40, seed=2))
    wanted = generator.sample(40, seed=2, conditions={"town": "f"})
    assert (ENCODER.decode(wanted, seed=0)["town"] == "f").all()


@pytest.mark.parametrize("module", [tvae, ctgan])
def test_neural_generators_start_from_the_anchor_and_keep_to_it(module):
    config = module.Config(size="small", anchor_steps=120, anchor_batch_size=400, fit_pool=0)
    generator = module.Generator(config, ENCODER, STATISTICS, seed=0, private=True)
    raw = distance(generator.sample(3_000, seed=1))
    generator.fit_public()
    assert distance(generator.sample(3_000, seed=1)) < 0.7 * raw
    objective, draw = generator.objective(), public_draw(0)
    before = {name: value.clone() for name, value in generator.state().items()}
    for step in range(5):
        objective.public_step(step, draw)
    assert any(not torch.equal(value, before[name]) for name, value in generator.state().items())
    objective.load_state(objective.state())


def test_nothing_is_asked_without_privacy_or_weight():
    for module in (tvae, ctgan):
        assert module.Generator.questions(module.Config(), SCHEMA, private=True) == pair_questions(SCHEMA)
        assert module.Generator.questions(module.Config(), SCHEMA, private=False) == ()
        assert module.Generator.questions(module.Config(anchor_weight=0.0), SCHEMA, private=True) == ()


def test_refined_histograms_answer_the_same_rows():
    refined = [marginal for marginal in STATISTICS.marginals if not marginal.columns[0].startswith("\0~")]
    assert refined
    for marginal in refined:
        truth = exact(STATISTICS, TABLE, Question(columns=marginal.columns))
        assert np.abs(marginal.counts - truth).max() < 6 * marginal.noise_stddev


def test_a_wide_table_is_fitted_to_the_pairs_that_hang_together_most(monkeypatch):
    """Otherwise the pool of rows would have to be small."""
    monkeypatch.setattr(marginal_fit, "_HISTOGRAMS", 2)
    statistics = buy(TABLE, noise_stddev=1.0)
    encoder = TableEncoder(SCHEMA, statistics)
    fit = marginal_fit.MarginalFit(encoder.layout, statistics, pool_rows=1_000, seed=0)
    kept = [marginal.counts.shape for _, marginal in fit._marks[fit._num_raked :]]
    singles = len(statistics.domain.names) - bool(statistics.crossed)
    assert fit._num_raked == singles and len(kept) == 2
    joint = [m for m in statistics.marginals if {n.lstrip("\0~") for n in m.columns[:2]} == {"age", "town"}]
    assert sorted(kept) == sorted(m.counts.shape for m in joint)
