"""The vectorised normals against the exact law; a twin with short tails must fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from dpsynth.privacy.gaussian import _CHUNK, NormalStream

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


def test_the_extreme_words_give_finite_draws_out_to_nine():
    stream = NormalStream()
    words = torch.tensor([0, -(2**31), 2**31 - 1, -1], dtype=torch.int32)
    high, low = torch.meshgrid(words, words, indexing="ij")
    num = high.numel()
    stream._words[: 3 * num] = torch.cat(
        [high.reshape(-1), low.reshape(-1), torch.zeros(num, dtype=torch.int32)]
    )
    out = torch.empty(2 * num)
    stream._box_muller_(out, num)
    assert bool(torch.isfinite(out).all())
    assert 9.0 < float(out.abs().max()) < 9.6
    assert float(out.abs().min()) == 0.0


def test_two_streams_share_nothing():
    first, second = (NormalStream().fill_(torch.empty(1000)) for _ in range(2))
    assert not bool((first == second).any())
