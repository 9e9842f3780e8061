from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from dpsynth.evaluation import scores


def cases(seed: int, num_rows: int = 80, num_levels: int = 9):
    """Truth, scores with many ties, and weights as a bootstrap draws them."""
    rng = np.random.default_rng(seed)
    truth = rng.random(num_rows) < 0.3
    score = rng.integers(0, num_levels, num_rows) / num_levels + 0.2 * truth
    weights = rng.integers(0, 4, (3, num_rows)).astype(float)
    return truth, np.round(score, 1), weights


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_ranking_scores_equal_scikit_learn_with_ties_and_weights(seed):
    truth, score, weights = cases(seed)
    auc = scores.weighted_auc(truth, score, weights)
    precision = scores.weighted_average_precision(truth, score, weights)
    for w, a, p in zip(weights, auc, precision):
        kept = w > 0
        if len(set(truth[kept])) < 2:
            assert np.isnan(a)
            continue
        assert a == pytest.approx(oracle.roc_auc_score(truth, score, sample_weight=w), abs=1e-12)
        expected = oracle.average_precision_score(truth, score, sample_weight=w)
        assert p == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_guess_scores_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, 3, (2, 60))
    weights = rng.integers(1, 4, (2, 60)).astype(float)
    labels = np.arange(3)
    for i, w in enumerate(weights):
        expected = oracle.accuracy_score(truth, guess, sample_weight=w)
        assert scores.weighted_accuracy(truth, guess, weights)[i] == pytest.approx(expected)
        expected = oracle.f1_score(truth, guess, sample_weight=w, average="macro", labels=labels)
        assert scores.weighted_f1(truth, guess, labels, weights)[i] == pytest.approx(expected)


def test_r2_equals_scikit_learn_even_far_from_zero():
    rng = np.random.default_rng(3)
    truth = 1e6 + rng.normal(size=50)
    guess = truth + 0.3 * rng.normal(size=50)
    weights = rng.integers(0, 4, (4, 50)).astype(float)
    found = scores.weighted_r2(truth, guess, weights)
    for w, r2 in zip(weights, found):
        assert r2 == pytest.approx(oracle.r2_score(truth, guess, sample_weight=w), abs=1e-6)


def test_a_class_that_is_absent_gives_nan_not_an_error():
    ones = np.ones((1, 4))
    assert np.isnan(scores.weighted_auc(np.ones(4, bool), np.arange(4.0), ones))[0]
    assert np.isnan(scores.weighted_average_precision(np.zeros(4, bool), np.arange(4.0), ones))[0]
    assert np.isnan(scores.weighted_r2(np.full(4, 2.0), np.arange(4.0), ones))[0]


def test_resamples_keep_the_number_of_rows_and_the_first_weighting_is_the_sample_itself():
    weights = scores.bootstrap_weights(500, 20, seed=1)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 500).all()
    assert (weights[1:] != 1).any(axis=1).all()


def test_interval_of_a_mean_has_the_width_that_theory_gives():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 2000)
    guess = np.where(rng.random(2000) < 0.8, truth, 1 - truth)
    weights = scores.bootstrap_weights(2000, 2000, seed=1)
    values = scores.in_blocks(lambda w: scores.weighted_accuracy(truth, guess, w), weights)
    low, high = scores.interval(values, 0.95)
    p = (truth == guess).mean()
    # percentile ends of 2,000 resamples are known to about 4 %
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 2000), rel=0.15)
    assert low < p < high


def test_blocks_change_nothing(monkeypatch):
    truth, score, _ = cases(5)
    weights = scores.bootstrap_weights(len(truth), 30, seed=0)
    whole = scores.in_blocks(lambda w: scores.weighted_auc(truth, score, w), weights)
    monkeypatch.setattr(scores, "_BLOCK", 200)
    cut = scores.in_blocks(lambda w: scores.weighted_auc(truth, score, w), weights)
    np.testing.assert_array_equal(whole, cut)


def test_too_few_finite_resamples_give_no_interval():
    assert scores.interval(np.array([0.5, 0.4, np.nan]), 0.95) == (None, None)
