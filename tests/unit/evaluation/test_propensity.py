from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dpsynth.data.schema import Continuous, Schema
from dpsynth.evaluation.features import code_like, tree_features
from dpsynth.evaluation.propensity import pmse_ratio, propensity
from dpsynth.evaluation.types import EvaluationConfig

CONFIG = EvaluationConfig(num_bootstraps=50)
NUMBERS = Schema(columns=tuple(Continuous(name=n, min=-9.0, max=9.0) for n in "abcd"))


def by_name(metrics):
    return {m.name: m for m in metrics}


def ratio_of(synthetic: np.ndarray, real: np.ndarray) -> float:
    pooled = pd.DataFrame(np.concatenate([synthetic, real]), columns=list("abcd"))
    label = np.arange(len(pooled)) < len(synthetic)
    features = tree_features(NUMBERS.modelled, pooled, pooled.iloc[:1])
    return pmse_ratio(features, code_like(NUMBERS.modelled), label)


def test_ratio_of_two_samples_of_one_distribution_is_chi_squared():
    """n = 200 ratios, 4 degrees of freedom: the mean is 1 ± 0.05; false alarm 1e-6, 4.9 deviations."""
    rng = np.random.default_rng(0)
    ratios = [ratio_of(*rng.normal(size=(2, 300, 4))) for _ in range(200)]
    assert (
        abs(np.mean(ratios) - 1.0) < 4.9 * np.sqrt(2 / 4 / 200) + 0.02
    )  # 0.02: the logit's curvature at N=600
    # Kolmogorov-Smirnov's critical value for alpha = 1e-6 and n = 200
    distance = stats.kstest(4 * np.array(ratios), "chi2", args=(4,)).statistic
    assert distance < np.sqrt(-0.5 * np.log(1e-6 / 2) / 200)


def test_broken_twin_a_shifted_sample_has_a_ratio_that_chi_squared_does_not_give():
    rng = np.random.default_rng(1)
    ratio = ratio_of(rng.normal(size=(300, 4)) + 0.5, rng.normal(size=(300, 4)))
    assert 4 * ratio > stats.chi2.isf(1e-6, 4)


def test_a_fresh_sample_cannot_be_told_apart_and_a_flawed_one_can(make_mixed, mixed_schema):
    holdout, fresh = make_mixed(1500, 1), make_mixed(2000, 2)
    same = by_name(propensity(fresh, holdout, mixed_schema, CONFIG, 0))
    assert same["propensity_auc"].value == pytest.approx(0.5, abs=0.06)  # 5 standard errors
    assert same["pmse_ratio"].value < 2.5
    flawed = fresh.assign(income=fresh["income"].fillna(50.0))
    told = by_name(propensity(flawed, holdout, mixed_schema, CONFIG, 0))
    assert told["propensity_auc"].lower > same["propensity_auc"].upper
    assert told["pmse_ratio"].value > 3


def test_dependence_alone_is_seen_by_trees_though_not_by_main_effects():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4)).clip(-9, 9)
    x[:, 1] = x[:, 0]
    real = pd.DataFrame(x, columns=list("abcd"))
    synthetic = real.assign(b=rng.permutation(real["b"]))
    found = by_name(propensity(synthetic, real, NUMBERS, CONFIG, 0))
    assert found["propensity_auc"].value > 0.8
    assert found["pmse_ratio"].value < 3


def test_too_few_rows_give_nan_and_the_reason(make_mixed, mixed_schema):
    found = propensity(make_mixed(500), make_mixed(5), mixed_schema, CONFIG, 0)
    assert all(np.isnan(m.value) and "fewer than 20" in m.computed_on for m in found)


def test_all_missing_and_constant_columns_do_not_crash(make_mixed, mixed_schema):
    synthetic, holdout = make_mixed(60, 1), make_mixed(60, 2)
    for table in (synthetic, holdout):
        table["income"], table["city"], table["grade"] = np.nan, None, 1
    assert all(np.isfinite(m.value) for m in propensity(synthetic, holdout, mixed_schema, CONFIG, 0))
