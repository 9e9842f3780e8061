from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency
from sklearn.metrics import mutual_info_score

from dpsynth.data.schema import Boolean, Categorical, Continuous, Integer, Schema
from dpsynth.evaluation import dependence
from dpsynth.evaluation.binning import make_binning
from dpsynth.evaluation.types import EvaluationConfig


def by_name(metrics):
    return {m.name: m.value for m in metrics}


def test_counts_skip_codes_that_do_not_occur_however_large():
    first, second = np.array([0, 3, 3]), np.array([7, 7, 2])
    expected = [[0, 1], [1, 1]]
    assert dependence.joint_counts(first, second).tolist() == expected
    assert dependence.joint_counts(first * 10**6, second * 10**6).tolist() == expected
    assert dependence.joint_counts(first[:0], second[:0]).size == 0


def test_mutual_information_equals_scikit_learn():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 300)
    second = (first + rng.integers(0, 2, 300)) % 5
    found = dependence.mutual_information(dependence.joint_counts(first, second))
    assert found == pytest.approx(mutual_info_score(first, second) / np.log(2))


def test_cramers_v_is_one_for_a_bijection_and_about_zero_for_independent_columns():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 6, 5000)
    assert dependence.cramers_v(dependence.joint_counts(first, 5 - first)) == pytest.approx(1.0, abs=1e-3)
    independent = dependence.joint_counts(first, rng.integers(0, 6, 5000))
    assert dependence.cramers_v(independent) < 0.04
    assert np.isnan(dependence.cramers_v(dependence.joint_counts(first, first * 0)))


def test_cramers_v_follows_bergsma_from_scipys_chi_squared():
    rng = np.random.default_rng(2)
    first = rng.integers(0, 4, 400)
    counts = dependence.joint_counts(first, np.where(rng.random(400) < 0.5, first, rng.integers(0, 3, 400)))
    n, (r, c) = counts.sum(), counts.shape
    phi = max(0, chi2_contingency(counts, correction=False).statistic / n - (r - 1) * (c - 1) / (n - 1))
    shrunk = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    assert dependence.cramers_v(counts) == pytest.approx(np.sqrt(phi / shrunk))


def test_phi_k_of_a_bivariate_normal_is_about_its_correlation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000)
    y = 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=20_000)
    codes = [np.clip(((v + 4) / 0.8).astype(int), 0, 9) for v in (x, y)]
    # binning to ten cells costs a few hundredths
    assert dependence.phi_k(dependence.joint_counts(*codes)) == pytest.approx(0.7, abs=0.05)
    assert np.isnan(dependence.phi_k(dependence.joint_counts(codes[0], codes[0] * 0)))


def test_pearson_uses_the_rows_that_know_both_and_leaves_categories_out():
    schema = Schema(
        columns=(
            Continuous(name="x", min=0, max=9, nullable=True),
            Integer(name="y", min=0, max=9),
            Boolean(name="b", nullable=True),
            Categorical(name="c", values=("u", "v")),
        )
    )
    table = pd.DataFrame(
        {"x": [1, 2, np.nan, 4], "y": [2, 4, 9, 8], "b": [False, False, None, True], "c": list("uvuv")}
    )
    found = dependence.pearson_matrix(table, schema)
    assert list(found) == ["x", "y", "b"]
    assert found.loc["x", "y"] == pytest.approx(1.0)
    assert found.loc["x", "b"] == pytest.approx(np.corrcoef([1, 2, 4], [0, 0, 1])[0, 1])


def test_gaps_are_zero_for_a_copy_and_large_where_dependence_is_lost(make_mixed, mixed_schema):
    train = make_mixed(2000)
    train["grade"] = np.where(train["buys"] == "yes", 3, train["grade"])
    binning = make_binning(mixed_schema, train)
    config = EvaluationConfig()
    same = by_name(dependence.dependence(train, train, binning, mixed_schema, config, 0))
    assert set(same) == {"pearson_gap", "cramer_gap", "mi_2way_gap", "mi_target_gap"}
    assert all(value == 0.0 for value in same.values())
    rng = np.random.default_rng(0)
    lost = train.assign(buys=rng.permutation(train["buys"]))
    gaps = by_name(dependence.dependence(lost, train, binning, mixed_schema, config, 0))
    assert gaps["mi_target_gap"] > 0.03 and gaps["cramer_gap"] > 0.01


def test_one_column_or_constant_columns_give_no_metric():
    schema = Schema(columns=(Integer(name="a", min=0, max=3),))
    table = pd.DataFrame({"a": [1, 1, 1]})
    binning = make_binning(schema, table)
    assert dependence.dependence(table, table, binning, schema, EvaluationConfig(), 0) == []
    assert dependence.association_matrix(table, binning, dependence.cramers_v).to_numpy().tolist() == [[1.0]]
