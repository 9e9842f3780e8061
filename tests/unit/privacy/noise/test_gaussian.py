"""The vectorised normals against the exact law; a twin with short tails must fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from dpsynth.privacy.noise.gaussian import _CHUNK, NormalStream

NUM = 1_000_000
# Each check below rejects a true normal with probability at most 1e-7: four checks, under 1e-6 together.
FALSE_ALARM = 1e-7


def problems(draws: np.ndarray) -> list[str]:
    """Names the checks that reject `draws` as standard normals."""
    found, z = [], stats.norm.isf(FALSE_ALARM / 2)
    draws = draws.astype(np.float64)
    if abs(draws.mean()) > z / math.sqrt(NUM):
        found.append("mean")
    if abs(draws.var() - 1.0) > z * math.sqrt(2.0 / NUM):
        found.append("variance")
    if stats.kstest(draws, "norm").pvalue < FALSE_ALARM:
        found.append("law")
    beyond = int((np.abs(draws) > 4.0).sum())
    if stats.binomtest(beyond, NUM, 2 * stats.norm.sf(4.0)).pvalue < FALSE_ALARM:
        found.append("tail")
    return found


def test_draws_follow_the_normal_law():
    assert problems(NormalStream().fill_(torch.empty(NUM)).numpy()) == []


def test_the_checks_find_a_wrong_scale_and_a_missing_tail():
    draws = NormalStream().fill_(torch.empty(NUM)).numpy()
    assert "variance" in problems(draws * 1.01)  # n = 1e6 detects 1 % of variance with certainty
    assert "tail" in problems(np.clip(draws, -4.0, 4.0))


def test_neighbouring_draws_are_uncorrelated():
    draws = NormalStream().fill_(torch.empty(NUM)).double()
    half = _CHUNK // 2  # the two of a Box-Muller pair lie this far apart
    for lag in (1, half):
        correlation = float((draws[:-lag] * draws[lag:]).mean())
        assert abs(correlation) < stats.norm.isf(FALSE_ALARM / 2) / math.sqrt(NUM - lag)


@pytest.mark.parametrize("num", [0, 1, 2, 3, _CHUNK - 1, _CHUNK, _CHUNK + 1])
def test_every_place_is_filled_at_any_length(num):
    out = torch.full((num,), math.nan)
    assert bool(torch.isfinite(NormalStream().fill_(out)).all())


class Words:
    """In place of the cipher: gives out the words that it was handed."""

    def __init__(self, word: int):
        self._word = word

    def update(self, zeros: bytes) -> bytes:
        return np.full(len(zeros) // 4, self._word, dtype=np.int32).tobytes()


def radii(lots: list[int], low: int) -> torch.Tensor:
    """What the stream makes of these words for radii, at angle zero."""
    stream, num = NormalStream(), len(lots)
    stream._words[: 2 * num] = torch.tensor([*lots, *[0] * num], dtype=torch.int32)
    stream._cipher = Words(low)
    out = torch.empty(2 * num)
    stream._box_muller_(out)
    assert float(out[num:].abs().max()) == 0.0
    return out[:num]


@pytest.mark.parametrize("low", [0, -(2**31), 2**31 - 1, -1])
def test_the_extreme_words_give_finite_draws_out_to_nine(low):
    found = radii([0, 1, -1, -(2**31), 2**31 - 1], low)
    assert bool(torch.isfinite(found).all()) and bool((found >= 0.0).all())
    assert float(found.min()) == 0.0 and float(found.max()) < 9.7
    assert 6.5 < float(found[0]) and (low not in (0, -1) or 9.0 < float(found[0]))


@pytest.mark.parametrize("low", [-(2**31), 0, 2**31 - 1])
def test_radii_are_those_of_their_uniforms_in_and_out_of_the_tail(low):
    lots = [1, 7, 1_000, 65_000, 65_535, 65_537, 10**6, 10**9, 2**31 - 1]
    within = [(low + 0.5) * 2.0**-32 if lot < 65_536 else 0.0 for lot in lots]
    exact = [math.sqrt(-2.0 * math.log((lot + more) * 2.0**-31)) for lot, more in zip(lots, within)]
    both = radii(lots, low), radii([-lot for lot in lots], low)
    for found in both:
        np.testing.assert_allclose(found.double().numpy(), exact, rtol=2e-6, atol=4e-4)


def test_refined_uniforms_fill_the_tail_without_gaps():
    # Neighbouring lots: the highest refinement of one meets the lowest of the next.
    for lot in (1, 2, 300, 65_534):
        upper = radii([lot], 2**31 - 1).double()
        lower = radii([lot + 1], -(2**31)).double()
        assert abs(float(upper - lower)) < 1e-6
    assert float(radii([0], -(2**31))) == float(radii([0], 2**31 - 1))  # |within|: zero is folded


def test_two_streams_share_nothing():
    first, second = (NormalStream().fill_(torch.empty(1000)) for _ in range(2))
    assert not bool((first == second).any())
