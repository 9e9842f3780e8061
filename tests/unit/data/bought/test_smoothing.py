"""A number's noisy histogram, smoothed: nearer to the truth, spikes and sum kept."""

from __future__ import annotations

import numpy as np
import pytest

from dpsynth.data.bought.smoothing import smoothed

WIDTHS = np.ones(300)


def truth() -> np.ndarray:
    """A hump with one spike."""
    places = np.arange(300)
    hump = np.exp(-(((places - 120) / 60) ** 2))
    counts = 10_000 * hump / hump.sum()
    counts[200] += 2_000
    return counts


def error(found: np.ndarray) -> float:
    return float(np.abs(found - truth()).sum() / truth().sum())


def test_it_is_nearer_to_the_truth_than_what_was_bought():
    random = np.random.default_rng(0)
    for _ in range(5):
        noisy = truth() + 30 * random.standard_normal(300)
        found = smoothed(noisy, WIDTHS, 30.0, 12_000.0)
        assert error(found) < 0.45 * error(noisy)
        assert found.min() >= 0 and found.sum() == pytest.approx(12_000)
        assert found[200] == pytest.approx(truth()[200], abs=6 * 30)


def test_without_noise_counts_come_back():
    assert smoothed(truth(), WIDTHS, 0.0, truth().sum()) == pytest.approx(truth())


def test_an_even_column_follows_its_widths():
    widths = np.where(np.arange(64) < 32, 1.0, 3.0)
    noisy = 20 * widths + 40 * np.random.default_rng(1).standard_normal(64)
    found = smoothed(noisy, widths, 40.0, 20 * widths.sum())
    assert np.abs(found - 20 * widths).sum() < 0.25 * np.abs(noisy - 20 * widths).sum()


@pytest.mark.parametrize("num", [1, 2, 3, 5])
def test_few_cells(num):
    found = smoothed(np.full(num, -5.0), np.ones(num), 10.0, 70.0)
    assert found == pytest.approx(np.full(num, 70.0 / num), abs=70.0) and found.sum() == pytest.approx(70.0)


def test_a_spike_among_cells_that_noise_made_negative_stays():
    noisy = np.full(300, -8.0)
    noisy[:50], noisy[200] = 40.0, 300.0
    assert smoothed(noisy, WIDTHS, 30.0, 2_300.0)[200] > 270.0


def test_heaps_stay_heaps():
    """Every fifth cell holds all rows, as values with a half among cells of a tenth."""
    exact = np.where(np.arange(300) % 5 == 0, 250.0, 0.0)
    noisy = exact + 30 * np.random.default_rng(2).standard_normal(300)
    found = smoothed(noisy, WIDTHS, 30.0, exact.sum())
    assert np.abs(found - exact).sum() < 0.25 * exact.sum() and found[::5].sum() > 0.9 * exact.sum()


def test_a_column_of_one_declared_value_has_it():
    assert smoothed(np.array([50.0]), np.zeros(1), 5.0, 48.0) == pytest.approx([48.0])
