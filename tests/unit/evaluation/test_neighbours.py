from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from dpsynth.data.schema import Categorical, Continuous, Schema
from dpsynth.evaluation import neighbours
from dpsynth.evaluation.types import EvaluationConfig

CONFIG = EvaluationConfig(max_distance_rows=600)


def by_name(metrics):
    return {m.name: m.value for m in metrics}


def test_distances_equal_scipy(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(30, 4)), rng.normal(size=(20, 4))
    np.testing.assert_allclose(neighbours.squared_distances(first, second), cdist(first, second) ** 2)
    expected = cdist(first, second).min(axis=1)
    np.testing.assert_allclose(neighbours.nearest_distances(first, second), expected)
    monkeypatch.setattr(neighbours, "_BLOCK", 50)
    np.testing.assert_allclose(neighbours.nearest_distances(first, second), expected)


def test_mmd_equals_its_definition_pair_by_pair():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 2)) + 1
    width = np.median(cdist(x, y) ** 2)

    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / width)

    within = [np.mean([kernel(s[i], s[j]) for i in range(12) for j in range(12) if i != j]) for s in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert neighbours.maximum_mean_discrepancy(x, y) == pytest.approx(sum(within) - 2 * across)


def test_precision_and_recall_of_equal_distributions_have_their_known_values():
    """Naeem et al. (2020), section 3.2: density has mean 1 and coverage mean 1 − Π (n−i)/(2n−i), i = 1..k."""
    rng = np.random.default_rng(0)
    n, k, repeats = 200, 5, 40
    found = [neighbours.precision_recall(*rng.normal(size=(2, n, 3)), k) for _ in range(repeats)]
    density = np.array([f["density"] for f in found])
    coverage = np.array([f["coverage"] for f in found])
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    # five standard errors of the mean over 40 repeats: false alarm below 1e-6
    assert abs(density.mean() - 1.0) < 5 * density.std() / np.sqrt(repeats)
    assert abs(coverage.mean() - expected) < 5 * coverage.std() / np.sqrt(repeats)


def test_broken_twins_lost_modes_lower_recall_and_noise_lowers_precision():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 2))
    collapsed = neighbours.precision_recall(real, 0.05 * rng.normal(size=(400, 2)))
    noisy = neighbours.precision_recall(real, 6 * rng.normal(size=(400, 2)))
    assert collapsed["precision"] > 0.95 and collapsed["recall"] < 0.2 and collapsed["coverage"] < 0.2
    assert noisy["precision"] < 0.4 and noisy["recall"] > 0.8


def test_one_changed_category_is_one_away_and_one_deviation_is_one_away():
    schema = Schema(
        columns=(
            Categorical(name="c", values=("u", "v"), nullable=True),
            Continuous(name="x", min=0, max=9, nullable=True),
        )
    )
    scale = pd.DataFrame({"c": ["u", "v"], "x": [1.0, 3.0]})  # deviation 1, mean 2
    rows = pd.DataFrame({"c": ["u", "v", "u", None, "u"], "x": [2.0, 2.0, 3.0, 2.0, np.nan]})
    (points,) = neighbours.embed((rows,), scale, schema).points
    np.testing.assert_allclose(cdist(points[:1], points)[0], [0, 1, 1, 1, 1])


def test_a_copying_generator_is_seen_and_a_fresh_sample_is_not(make_mixed, mixed_schema):
    train, holdout, fresh = make_mixed(600, 1), make_mixed(600, 2), make_mixed(600, 3)
    honest = neighbours.distances_between_rows(fresh, train, holdout, mixed_schema, CONFIG, 0)
    share = next(m for m in honest if m.name == "closer_to_train_share")
    assert abs(share.value - 0.5) < 5 * 0.5 / np.sqrt(600)  # false alarm below 1e-6
    assert share.lower < share.value < share.upper
    copied = by_name(neighbours.distances_between_rows(train, train, holdout, mixed_schema, CONFIG, 0))
    assert copied["closer_to_train_share"] > 0.99
    assert copied["copied_share"] == 1.0 and by_name(honest)["copied_share"] == 0.0
    assert copied["nearest_train_median"] == pytest.approx(0, abs=1e-6)
    assert by_name(honest)["mmd"] < 0.01 and by_name(honest)["coverage"] > 0.85


def test_copies_are_counted_with_missing_values(make_mixed, mixed_schema):
    train = make_mixed(50)
    table = pd.concat([train[train["income"].isna() | train["city"].isna()], make_mixed(10, 9)])
    share = neighbours.copied_share(table, train, mixed_schema)
    assert share == pytest.approx(1 - 10 / len(table))


def test_too_few_rows_give_nan_and_the_reason(make_mixed, mixed_schema):
    found = neighbours.distances_between_rows(
        make_mixed(5), make_mixed(50), make_mixed(50), mixed_schema, CONFIG, 0
    )
    assert all(np.isnan(m.value) and "fewer than 20" in m.computed_on for m in found)


def test_columns_missing_everywhere_do_not_crash(make_mixed, mixed_schema):
    tables = [make_mixed(40, seed).assign(income=np.nan, city=None) for seed in range(3)]
    found = neighbours.distances_between_rows(*tables, mixed_schema, CONFIG, 0)
    assert all(np.isfinite(m.value) for m in found)
