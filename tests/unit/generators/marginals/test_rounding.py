"""Weights to whole rows: exact, within one row of the weight, and nearer to the histograms than chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpsynth.generators.marginals.rounding import round_weights


def pool(num: int = 4_000, seed: int = 0):
    """Rows of six columns of eight cells, their pairs as histograms, and uneven weights."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 8, (num, 6))
    pairs = [(i, j) for i in range(6) for j in range(i)]
    marks = np.stack([64 * k + rows[:, i] * 8 + rows[:, j] for k, (i, j) in enumerate(pairs)])
    weights = random.exponential(size=num)
    return torch.from_numpy(marks.astype(np.int32)), torch.from_numpy(weights / weights.sum()).float()


def distance(times: np.ndarray, marks: torch.Tensor, weights: torch.Tensor, num: int) -> float:
    counts = [np.bincount(row, weights=times, minlength=960) for row in marks.numpy()]
    wanted = [np.bincount(row, weights=num * weights.numpy(), minlength=960) for row in marks.numpy()]
    return float(np.abs(np.sum(counts, 0) - np.sum(wanted, 0)).sum()) / num


@pytest.mark.parametrize("num", [0, 1, 37, 2_000, 9_001])
def test_times_sum_to_the_number_and_stay_within_one_row_of_the_weight(num):
    marks, weights = pool()
    times = round_weights(weights, marks, num, np.random.default_rng(1))
    assert times.sum() == num and times.min() >= 0
    assert np.abs(times - num * weights.double().numpy()).max() < 1.0


def test_histograms_are_much_nearer_than_by_chance():
    marks, weights = pool()
    times = round_weights(weights, marks, 2_000, np.random.default_rng(1))
    drawn = np.random.default_rng(2).multinomial(
        2_000, weights.double().numpy() / float(weights.double().sum())
    )
    assert distance(times, marks, weights, 2_000) < 0.4 * distance(drawn, marks, weights, 2_000)


def test_equal_seeds_take_equal_rows():
    marks, weights = pool()
    first, second, other = (round_weights(weights, marks, 500, np.random.default_rng(s)) for s in (3, 3, 4))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
