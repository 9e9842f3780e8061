from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Categorical, Continuous, Integer, Schema
from dpsynth.evaluation.types import EvaluationConfig
from dpsynth.evaluation.utility import utility

CONFIG = EvaluationConfig(num_bootstraps=50)


def by_name(metrics):
    return {m.name: m for m in metrics}


def test_good_synthetic_rows_predict_and_shuffled_targets_do_not(make_mixed, mixed_schema):
    fit, holdout = make_mixed(1500, 1), make_mixed(1000, 2)
    good = by_name(utility(fit, holdout, mixed_schema, CONFIG, 0))
    broken = fit.assign(buys=np.random.default_rng(0).permutation(fit["buys"]))
    bad = by_name(utility(broken, holdout, mixed_schema, CONFIG, 0))
    for model in ("boosting", "logistic"):
        name = f"tstr_auc_{model}"
        assert good[name].value > 0.72
        assert bad[name].value < 0.6
        assert good[name].lower < good[name].value < good[name].upper
        assert good[name].lower > bad[name].upper
        assert "holdout" in good[name].computed_on and "synthetic" in good[name].computed_on
    assert {m.split("_")[1] for m in good} == {"auc", "ap", "accuracy", "f1", "rare"}


def test_same_seed_same_figures(make_mixed, mixed_schema):
    fit, holdout = make_mixed(300, 1), make_mixed(200, 2)
    assert utility(fit, holdout, mixed_schema, CONFIG, 4) == utility(fit, holdout, mixed_schema, CONFIG, 4)


def test_rarer_class_is_positive_whatever_the_declared_order(make_mixed, mixed_schema):
    holdout = make_mixed(300, 2)
    holdout["buys"] = np.where(np.arange(300) < 60, "no", "yes")
    found = by_name(utility(make_mixed(300, 1), holdout, mixed_schema, CONFIG, 0))
    assert "buys=no" in found["tstr_ap_logistic"].computed_on


def test_synthetic_target_of_one_class_is_said_and_scores_as_a_constant(make_mixed, mixed_schema):
    fit, holdout = make_mixed(200, 1).assign(buys="no"), make_mixed(200, 2)
    found = by_name(utility(fit, holdout, mixed_schema, CONFIG, 0))
    assert found["tstr_auc_boosting"].value == 0.5
    assert found["tstr_accuracy_boosting"].value == pytest.approx((holdout["buys"] == "no").mean())
    assert "one class" in found["tstr_auc_boosting"].computed_on


def test_three_classes_average_one_against_the_rest(make_mixed, mixed_schema):
    schema = dataclasses.replace(mixed_schema, target="grade")
    fit, holdout = make_mixed(800, 1), make_mixed(500, 2)
    for table in (fit, holdout):
        table["grade"] = np.digitize(table["age"], [40, 65]) + 1
    found = by_name(utility(fit, holdout, schema, CONFIG, 0))
    assert found["tstr_auc_boosting"].value > 0.99
    assert found["tstr_f1_boosting"].value > 0.95
    absent = fit[fit["grade"] != 3]
    found = by_name(utility(absent, holdout, schema, CONFIG, 0))
    assert 0.6 < found["tstr_auc_boosting"].value < 0.99  # class 3 has a constant score: AUC 0.5
    found = by_name(utility(fit, holdout[holdout["grade"] != 2], schema, CONFIG, 0))
    assert np.isfinite(found["tstr_auc_boosting"].value)


def test_numeric_target_gives_r2(make_mixed, mixed_schema):
    schema = dataclasses.replace(mixed_schema, target="income")
    fit, holdout = make_mixed(800, 1), make_mixed(400, 2)
    for table in (fit, holdout):
        table["income"] = (table["age"] + 2 * table["grade"]).astype(float)
    holdout.loc[:9, "income"] = np.nan
    found = by_name(utility(fit, holdout, schema, CONFIG, 0))
    assert set(found) == {"tstr_r2_boosting", "tstr_r2_ridge"}
    assert found["tstr_r2_ridge"].value > 0.999
    assert found["tstr_r2_boosting"].value > 0.95


def test_no_declared_target_gives_no_metrics(make_mixed, mixed_schema):
    schema = dataclasses.replace(mixed_schema, target=None)
    assert utility(make_mixed(50), make_mixed(50, 1), schema, CONFIG, 0) == []


@pytest.mark.parametrize("side", ["synthetic", "holdout"])
def test_targets_missing_everywhere_give_nan_and_the_reason(make_mixed, mixed_schema, side):
    fit, holdout = make_mixed(50, 1), make_mixed(50, 2)
    (fit if side == "synthetic" else holdout)["buys"] = None
    found = utility(fit, holdout, mixed_schema, CONFIG, 0)
    assert found and all(np.isnan(m.value) and f"no {side} rows" in m.computed_on for m in found)


@pytest.mark.parametrize("num_rows", [0, 1, 2, 5])
def test_tiny_tables_do_not_crash(make_mixed, mixed_schema, num_rows):
    tiny, holdout = make_mixed(20, 3).head(num_rows), make_mixed(30, 2)
    assert utility(tiny, holdout, mixed_schema, CONFIG, 0)
    assert utility(holdout, tiny, mixed_schema, CONFIG, 0)


def test_missing_constant_and_unseen_values_do_not_crash(make_mixed, mixed_schema):
    fit, holdout = make_mixed(200, 1), make_mixed(200, 2)
    fit["income"], fit["city"], fit["grade"] = np.nan, None, 2
    holdout["joined"] = None
    found = utility(fit, holdout, mixed_schema, CONFIG, 0)
    assert all(np.isfinite(m.value) for m in found)


def test_a_target_alone_predicts_its_frequency():
    schema = Schema(columns=(Categorical(name="y", values=("a", "b")),), target="y")
    table = pd.DataFrame({"y": ["a", "a", "b"] * 20})
    found = by_name(utility(table, table, schema, CONFIG, 0))
    assert found["tstr_auc_logistic"].value == 0.5 and found["tstr_accuracy_logistic"].value == 2 / 3


def test_more_than_255_categories_fit_the_trees():
    rng = np.random.default_rng(0)
    values = tuple(f"v{i}" for i in range(400))
    schema = Schema(
        columns=(
            Categorical(name="c", values=values),
            Continuous(name="x", min=0, max=1),
            Integer(name="y", min=0, max=9),
        ),
        target="y",
    )
    table = pd.DataFrame({"c": rng.choice(values, 600), "x": rng.random(600)})
    table["y"] = (10 * table["x"]).astype(int)
    found = by_name(utility(table, table, schema, CONFIG, 0))
    assert found["tstr_r2_boosting"].value > 0.9


def test_rows_beyond_the_limit_are_left_out_of_the_fit(make_mixed, mixed_schema):
    fit, holdout = make_mixed(900, 1), make_mixed(100, 2)
    few = dataclasses.replace(CONFIG, max_rows=100)
    assert utility(fit, holdout, mixed_schema, few, 0) != utility(fit, holdout, mixed_schema, CONFIG, 0)
