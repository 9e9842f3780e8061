"""Denoised joint histograms are nearer to the truth than bought ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from joints import SCHEMA, buy, exact, make_table

from dpsynth.data.bought.denoising import _shrink, denoised
from dpsynth.data.bought.questions import pair_questions
from dpsynth.data.bought.statistics import Marginal, Question

TABLE = make_table(4_000)


def errors(noise_stddev: float) -> dict[str, tuple[float, float]]:
    """Mean squared error over the noise's variance, bought and denoised, of each histogram."""
    statistics, found = buy(TABLE, noise_stddev=noise_stddev), {}
    bought = {marginal.columns: marginal.counts for marginal in statistics.marginals}
    for marginal, _ in denoised(statistics):
        truth = exact(statistics, TABLE, Question(columns=marginal.columns))
        found[marginal.columns] = tuple(
            float(((counts - truth) ** 2).mean()) / noise_stddev**2
            for counts in (bought[marginal.columns], marginal.counts)
        )
    return found


@pytest.mark.parametrize(("noise_stddev", "share"), [(3.0, 0.95), (20.0, 0.6)])
def test_error_falls_on_average_and_rises_nowhere_by_much(noise_stddev, share):
    found = errors(noise_stddev)
    assert np.mean([after for _, after in found.values()]) < share
    assert all(after < 1.2 * before for before, after in found.values())


def test_columns_that_are_alone_keep_almost_no_noise():
    before, after = errors(20.0)[("\0~pet", "\0~noise", "\0@buys")]
    assert before > 0.5 and after < 0.4 * before


def test_without_noise_counts_come_back_as_they_are():
    statistics = buy(TABLE, noise_stddev=0.0)
    bought = {marginal.columns: marginal.counts for marginal in statistics.marginals}
    for marginal, variance in denoised(statistics):
        assert np.array_equal(marginal.counts, bought[marginal.columns]) and not variance.any()


def test_pure_noise_is_shrunk_away_and_a_strong_signal_is_kept():
    random = np.random.default_rng(0)
    noise = random.standard_normal((12, 10, 2))
    sizes = np.array([3.0, 1.0])
    assert np.square(_shrink(noise, sizes, 1.0)[0]).mean() < 0.15
    signal = 30.0 * random.standard_normal((12, 1, 1)) * random.standard_normal((1, 10, 1)) * sizes
    clean, variance = _shrink(signal + noise, sizes, 1.0)
    assert np.square(clean - signal).mean() < 0.35 * np.square(noise).mean()
    assert 0.0 < variance.max() < 0.5


def test_a_pair_without_the_target_is_denoised_by_its_groups_within_the_target():
    """Rounds ask for plain pairs after all pairs were bought within the target's strata."""
    noise_stddev, random = 60.0, np.random.default_rng(7)
    statistics, question = buy(TABLE, noise_stddev=noise_stddev), Question(columns=("age", "town"))
    truth = exact(statistics, TABLE, question)
    counts = truth + noise_stddev * random.standard_normal(truth.shape)
    asked = Marginal(columns=question.columns, counts=counts, noise_stddev=noise_stddev)
    first = statistics.marginals[: len(pair_questions(SCHEMA))]
    found, variance = denoised(replace(statistics, marginals=(*first, asked)))[-1]
    assert found.columns == question.columns and found.counts.shape == variance.shape == truth.shape
    share = np.square(found.counts - truth).mean() / np.square(counts - truth).mean()
    assert share < 0.8
