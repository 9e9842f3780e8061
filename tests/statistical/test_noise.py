"""Laws of the noise against exact probabilities; each test names n and has a broken twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from dpsynth.privacy.noise.entropy import AesEntropy, TorchEntropy

FALSE_ALARM = 1e-6
SOURCES = [AesEntropy, TorchEntropy]


def lattice_p_value(draws: np.ndarray, scale: float) -> float:
    """Chi-square of integer draws against the discrete Gaussian, tails pooled at four deviations."""
    edge = math.ceil(3 * scale)
    support = np.arange(-edge, edge + 1)
    weights = np.exp(-(np.arange(-60, 61) ** 2) / (2 * scale**2))
    inside = np.exp(-(support**2) / (2 * scale**2)) / weights.sum()
    expected = np.append(inside, 1 - inside.sum()) * len(draws)
    observed = [(draws == k).sum() for k in support]
    return stats.chisquare([*observed, len(draws) - sum(observed)], expected).pvalue


@pytest.mark.parametrize("scale", [0.7, 3.0])
def test_measurement_noise_is_the_discrete_gaussian(scale):
    """n = 20,000; detects a cell probability off by 0.02."""
    draws = AesEntropy().lattice_gaussian(np.zeros(20_000, dtype=np.int64), scale)
    assert lattice_p_value(draws, scale) > FALSE_ALARM


def test_a_rounded_normal_is_not_the_discrete_gaussian():
    """Broken twin: the same test finds rounding, which adds a variance of 1/12, at n = 20,000."""
    draws = np.rint(0.7 * np.random.default_rng().standard_normal(20_000)).astype(int)
    assert lattice_p_value(draws, 0.7) < FALSE_ALARM


def normal_p_value(draws: np.ndarray) -> float:
    return stats.kstest(draws, "norm").pvalue


@pytest.mark.parametrize("source", SOURCES)
def test_training_noise_is_normal(source):
    """n = 200,000, Kolmogorov-Smirnov; detects a deviation off by 3 % (see the twin)."""
    draws = source().normal_(torch.empty(200_000), 1.0).double().numpy()
    assert normal_p_value(draws) > FALSE_ALARM
    assert normal_p_value(draws[:-1:2] * math.sqrt(0.5) + draws[1::2] * math.sqrt(0.5)) > FALSE_ALARM


@pytest.mark.parametrize("source", SOURCES)
def test_training_noise_reaches_into_the_tails(source):
    """n = 2,000,000: draws beyond 4 deviations are binomial with mean 127; two-sided."""
    draws = source().normal_(torch.empty(2_000_000), 1.0).numpy()
    beyond = int((np.abs(draws) > 4.0).sum())
    assert stats.binomtest(beyond, len(draws), 2 * stats.norm.sf(4.0)).pvalue > FALSE_ALARM


def test_noise_of_a_wrong_deviation_or_a_cut_tail_is_found():
    """Broken twins of the two tests above."""
    draws = np.random.default_rng().standard_normal(2_000_000)
    assert normal_p_value(0.97 * draws[:200_000]) < FALSE_ALARM
    cut = int((np.abs(np.clip(draws, -4.0, 4.0)) > 4.0).sum())
    assert stats.binomtest(cut, len(draws), 2 * stats.norm.sf(4.0)).pvalue < FALSE_ALARM


@pytest.mark.parametrize("source", SOURCES)
def test_successive_draws_are_uncorrelated(source):
    """n = 200,000, lag 1 and half a call: the standard error of r is 0.0022; 5 of them is 6e-7."""
    draws = source().normal_(torch.empty(200_000), 1.0).double().numpy()
    for lag in (1, len(draws) // 2):
        pairs = len(draws) - lag
        assert abs(np.dot(draws[:-lag], draws[lag:]) / pairs) < 5 / math.sqrt(pairs)
    smoothed = draws[:-1] + 0.1 * draws[1:]  # broken twin: a little of the next draw
    assert abs(np.dot(smoothed[:-1], smoothed[1:]) / len(smoothed)) > 5 / math.sqrt(len(smoothed))


@pytest.mark.parametrize("source", SOURCES)
def test_coins_and_choices_have_their_law(source):
    """n = 5,000 batch sizes, 2,000 draws of 3 out of 12 (inclusions against 500 each, chi-square)."""
    entropy = source()
    sizes = np.array([entropy.binomial(40, 0.3) for _ in range(5_000)])
    support = np.arange(5, 20)
    inside = stats.binom.pmf(support, 40, 0.3)
    observed = [(sizes == k).sum() for k in support]
    expected = np.append(inside, 1 - inside.sum()) * len(sizes)
    assert stats.chisquare([*observed, len(sizes) - sum(observed)], expected).pvalue > FALSE_ALARM
    chosen = np.bincount(np.concatenate([entropy.choice(12, 3) for _ in range(2_000)]), minlength=12)
    assert stats.chisquare(chosen).pvalue > FALSE_ALARM
    fixed_size = np.full(5_000, 12)  # broken twin: the batch size that shuffling would give
    assert (
        stats.chisquare([(fixed_size == k).sum() + 1e-9 for k in support] + [0.0], None).pvalue < FALSE_ALARM
    )
