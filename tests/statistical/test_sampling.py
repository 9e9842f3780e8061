"""Is it Poisson sampling? Inclusion frequencies, pairs and batch sizes; broken samplers must be caught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from dpsynth.privacy.noise.entropy import AesEntropy
from dpsynth.privacy.training.sampling import PoissonSampler

# One run makes six tests on each of three settings, one of them on both sides; each rejects a true sampler
# with probability 4e-8 at most, so a false alarm in the whole file has probability below 1e-6.
FALSE_ALARM = 4e-8


def inclusions(draw, num_units: int, steps: int) -> np.ndarray:
    """Whether each unit took part, bool [step, unit]."""
    table = np.zeros((steps, num_units), dtype=bool)
    for row in table:
        batch = np.asarray(draw())
        np.add.at(row, batch, True)
    return table


def repeats(draw, steps: int) -> int:
    return sum(len(b) - len(np.unique(b)) for b in (np.asarray(draw()) for _ in range(steps)))


def problems(draw, num_units: int, sample_rate: float, steps: int) -> list[str]:
    """Names what distinguishes `draw` from independent coins.

    Detects, with n = steps * num_units coins: a rate off by 6 / sqrt(n q) relative; one unit favoured by
    8 / sqrt(steps q); a batch size whose variance is off by 8 / sqrt(steps); dependence within random pairs,
    and between consecutive steps, of 6 / sqrt(n) in correlation.
    """
    found = []
    table = inclusions(draw, num_units, steps)
    variance = sample_rate * (1 - sample_rate)
    total = int(table.sum())
    if stats.binomtest(total, steps * num_units, sample_rate).pvalue < FALSE_ALARM:
        found.append("rate")
    squares = (((table.sum(0) - steps * sample_rate) ** 2) / (steps * variance)).sum()
    if 2 * min(stats.chi2.cdf(squares, num_units), stats.chi2.sf(squares, num_units)) < FALSE_ALARM:
        found.append("frequencies")
    counts = table.sum(0)
    for extreme in (counts.min(), counts.max()):
        if num_units * stats.binomtest(int(extreme), steps, sample_rate).pvalue < FALSE_ALARM:
            found.append("one unit")
    sizes = table.sum(1)
    squares = ((sizes - num_units * sample_rate) ** 2).sum() / (num_units * variance)
    if 2 * min(stats.chi2.cdf(squares, steps), stats.chi2.sf(squares, steps)) < FALSE_ALARM:
        found.append("sizes")
    centred = table - sample_rate
    pairs = (centred[:, 0:-1:2] * centred[:, 1::2]).sum() / (
        variance * np.sqrt(steps * len(range(0, num_units - 1, 2)))
    )
    if 2 * stats.norm.sf(abs(pairs)) < FALSE_ALARM:
        found.append("pairs")
    serial = (centred[:-1] * centred[1:]).sum() / (variance * np.sqrt((steps - 1) * num_units))
    if 2 * stats.norm.sf(abs(serial)) < FALSE_ALARM:
        found.append("steps")
    if repeats(draw, 50):
        found.append("repeats")
    return found


SETTINGS = [(400, 0.05, 3000), (60, 0.5, 3000), (25_000, 0.004, 400)]


@pytest.mark.parametrize("num_units, sample_rate, steps", SETTINGS)
def test_the_sampler_tosses_one_independent_coin_per_unit(num_units, sample_rate, steps):
    sampler = PoissonSampler(num_units, sample_rate, AesEntropy())
    assert problems(sampler.draw, num_units, sample_rate, steps) == []


def fixed_size(num_units, sample_rate, steps):
    """A uniform subset of constant size: sizes do not vary, and pairs repel."""
    size = round(num_units * sample_rate)
    return lambda: torch.randperm(num_units)[:size]


def shuffled_epochs(num_units, sample_rate, steps):
    """What data loaders do: without replacement over an epoch."""
    size, queue = round(num_units * sample_rate), []

    def draw():
        if len(queue) < size:
            queue[:] = torch.randperm(num_units).tolist()
        batch = queue[:size]
        del queue[:size]
        return torch.tensor(batch)

    return draw


def with_replacement(num_units, sample_rate, steps):
    rng = np.random.default_rng()
    return lambda: torch.from_numpy(rng.integers(num_units, size=rng.binomial(num_units, sample_rate)))


def blocks_of_two(num_units, sample_rate, steps):
    """Neighbouring units share their coin."""
    rng = np.random.default_rng()
    return lambda: torch.from_numpy(np.flatnonzero(np.repeat(rng.random(num_units // 2) < sample_rate, 2)))


def sticky(num_units, sample_rate, steps):
    """Coins of one step leak into the next."""
    rng, last = np.random.default_rng(), [None]

    def draw():
        fresh = rng.random(num_units) < sample_rate
        if last[0] is not None:
            keep = rng.random(num_units) < 0.1
            fresh = np.where(keep, last[0], fresh)
        last[0] = fresh
        return torch.from_numpy(np.flatnonzero(fresh))

    return draw


def favours_one(num_units, sample_rate, steps):
    rng = np.random.default_rng()
    rates = np.full(num_units, sample_rate)
    rates[0] = min(1.0, 2 * sample_rate)
    return lambda: torch.from_numpy(np.flatnonzero(rng.random(num_units) < rates))


def slightly_too_often(num_units, sample_rate, steps):
    rng = np.random.default_rng()
    return lambda: torch.from_numpy(np.flatnonzero(rng.random(num_units) < 1.05 * sample_rate))


@pytest.mark.parametrize(
    "twin, caught_by",
    [
        (fixed_size, "sizes"),
        (shuffled_epochs, "steps"),
        (with_replacement, "repeats"),
        (blocks_of_two, "pairs"),
        (sticky, "steps"),
        (favours_one, "one unit"),
        (slightly_too_often, "rate"),
    ],
)
def test_a_broken_sampler_is_caught(twin, caught_by):
    num_units, sample_rate, steps = SETTINGS[0]
    assert caught_by in problems(twin(*SETTINGS[0]), num_units, sample_rate, steps)
