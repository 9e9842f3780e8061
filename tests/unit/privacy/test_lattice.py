"""The exact discrete Gaussian against its law and OpenDP's sampler."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from dpsynth.privacy import lattice
from dpsynth.privacy.lattice import discrete_gaussian
from dpsynth.privacy.noise import AesEntropy

NUM, LEVEL = 40_000, 1e-6  # draws per law, and false alarms per test


def law(scale: float, reach: int) -> np.ndarray:
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-(places**2) / (2 * scale**2))
    return weights / weights.sum()


def p_value(draws: np.ndarray, scale: float) -> float:
    """Of a chi-square test over cells of at least 20 expected draws; n = 40,000 detects 3 % of wrong mass."""
    reach = math.ceil(6 * scale)
    expected = law(scale, reach) * len(draws)
    counts = np.bincount(np.clip(draws, -reach, reach) + reach, minlength=2 * reach + 1)
    large = expected >= 20
    counts = np.append(counts[large], counts[~large].sum())
    expected = np.append(expected[large], expected[~large].sum() + 1e-9)
    return float(stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue)


@pytest.mark.parametrize("scale", [1.0, 1.7, 5.25])
def test_small_scales_follow_the_law(scale):
    assert p_value(discrete_gaussian(NUM, scale, AesEntropy().uniform), scale) > LEVEL


def test_a_rounded_laplace_of_the_same_variance_fails():
    draws = np.rint(np.random.default_rng(0).laplace(scale=5.25 / math.sqrt(2), size=NUM)).astype(int)
    assert p_value(draws, 5.25) < LEVEL


def test_large_scales_look_gaussian_and_agree_with_opendp():
    import opendp.prelude as dp

    dp.enable_features("contrib")
    scale = 2.0**24 * 1.3
    draws = discrete_gaussian(NUM, scale, AesEntropy().uniform)
    assert stats.kstest(draws / scale, "norm").pvalue > LEVEL
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    oracle = np.array(dp.m.make_gaussian(*space, scale=scale)([0] * 1500))
    assert stats.ks_2samp(draws, oracle).pvalue > LEVEL
    assert len(np.unique(draws % 1024)) == 1024  # down to the last bits


def test_undecided_coins_are_settled_with_more_bits(monkeypatch):
    monkeypatch.setattr(lattice, "_SLACK", 1.0)  # nothing is decided in float64
    draws = discrete_gaussian(2_000, 1.7, np.random.default_rng(3).random)
    assert p_value(draws, 1.7) > LEVEL


def test_a_tie_in_the_first_bits_is_broken_by_the_next():
    start = Fraction(math.floor(Fraction(Decimal(-1).exp()) * 2**53), 2**53)
    low = lattice._below(start, Fraction(1), lambda _: np.array([0.0]))
    high = lattice._below(start, Fraction(1), lambda _: np.array([1.0 - 2.0**-53]))
    assert low and not high


def test_scales_beyond_the_proof_are_refused():
    with pytest.raises(ValueError, match="Expected scale"):
        discrete_gaussian(1, 0.5, AesEntropy().uniform)
