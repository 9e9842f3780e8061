from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from dpsynth.errors import InvalidInput
from dpsynth.evaluation import reference
from dpsynth.evaluation.metrics import evaluate
from dpsynth.evaluation.types import Evaluation, EvaluationConfig, Metric

FAST = EvaluationConfig(num_bootstraps=20, models=("logistic",), propensity=False)


def test_evaluation_survives_json_with_missing_figures():
    metrics = [
        Metric(name="a", value=0.5, lower=0.4, upper=0.6, computed_on="x"),
        Metric(name="b", value=math.nan, computed_on="not computed"),
    ]
    evaluation = Evaluation(metrics, {"utility": 1.0})
    again = Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict(), allow_nan=False)))
    assert again["a"] == evaluation["a"] and math.isnan(again["b"].value)
    assert again.values_by_name() == {"a": 0.5}
    assert list(again) == ["a", "b"] and again.seconds == {"utility": 1.0}
    assert again.to_frame()["name"].tolist() == ["a", "b"]


def test_two_metrics_of_one_name_are_refused():
    metric = Metric(name="a", value=0.5, computed_on="x")
    with pytest.raises(ValueError):
        Evaluation([metric, metric])


def test_every_wrong_setting_is_shown_at_once():
    with pytest.raises(InvalidInput) as error:
        EvaluationConfig(num_bins=1, models=("forest",), confidence=1.0, max_rows=3)
    for key in ("num_bins", "models", "confidence", "max_rows"):
        assert f"evaluation.{key}" in str(error.value)


def test_every_figure_is_internal_and_says_what_it_was_computed_on(make_mixed, mixed_schema):
    config = dataclasses.replace(FAST, propensity=True)
    found = evaluate(make_mixed(200, 1), make_mixed(200, 2), make_mixed(100, 3), mixed_schema, config, 0)
    assert {"tstr_auc_logistic", "trtr_auc_logistic", "tv_1way", "tv_2way", "tv_3way_target"} <= set(found)
    assert {"tv_2way_holdout", "propensity_auc", "pmse_ratio"} <= set(found)
    assert all(m.visibility == "internal" and m.computed_on for m in found.metrics)
    assert set(found.seconds) == {"fidelity", "utility", "propensity", "reference"}


def test_extended_figures_are_added_and_only_validity_is_released(make_mixed, mixed_schema):
    config = dataclasses.replace(FAST, extended=True)
    found = evaluate(make_mixed(200, 1), make_mixed(200, 2), make_mixed(100, 3), mixed_schema, config, 0)
    names = {"js_1way", "kl_2way", "category_coverage", "mi_target_gap", "mmd", "coverage", "copied_share"}
    assert names <= set(found)
    assert {m.name for m in found.metrics if m.visibility == "released"} == {"valid_rows", "valid_cells"}
    assert found["valid_rows"].value == 1.0


def test_real_rows_as_synthetic_ones_reach_the_ceiling(make_mixed, mixed_schema):
    train, holdout = make_mixed(300, 1), make_mixed(200, 2)
    found = evaluate(train, train, holdout, mixed_schema, FAST, 0)
    for score in ("auc", "ap", "accuracy", "f1"):
        assert found[f"tstr_{score}_logistic"].value == found[f"trtr_{score}_logistic"].value
    assert found["tv_2way"].value == 0.0


def test_inputs_are_left_as_they_were(make_mixed, mixed_schema):
    tables = [make_mixed(100, seed) for seed in range(3)]
    copies = [table.copy(deep=True) for table in tables]
    evaluate(*tables, mixed_schema, EvaluationConfig(num_bootstraps=0, extended=True), 0)
    for table, copy in zip(tables, copies):
        assert table.equals(copy)


def test_reference_is_computed_once_per_tables_schema_settings_and_seed(
    make_mixed, mixed_schema, tmp_path, monkeypatch
):
    train, holdout, calls = make_mixed(100, 1), make_mixed(80, 2), []
    compute = reference.make_reference

    def counted(*args):
        calls.append(args)
        return compute(*args)

    monkeypatch.setattr(reference, "make_reference", counted)

    def run(train=train, holdout=holdout, schema=mixed_schema, config=FAST, seed=0):
        return evaluate(make_mixed(90, 3), train, holdout, schema, config, seed, cache=tmp_path)

    first = run()
    assert run()["trtr_auc_logistic"] == first["trtr_auc_logistic"] and len(calls) == 1
    changed = train.copy()
    changed.loc[0, "age"] = 19 + changed.loc[0, "age"] % 50
    run(train=changed)
    run(holdout=holdout.iloc[1:])
    run(config=dataclasses.replace(FAST, num_bins=10))
    run(seed=1)
    run(schema=dataclasses.replace(mixed_schema, num_units=100))
    assert len(calls) == 6


def test_a_given_reference_is_used_as_it_is(make_mixed, mixed_schema):
    planted = Metric(name="trtr_auc_logistic", value=0.123, computed_on="planted")
    given = reference.Reference(digest="", metrics=(planted,))
    found = evaluate(
        make_mixed(90), make_mixed(90, 1), make_mixed(90, 2), mixed_schema, FAST, 0, reference=given
    )
    assert found["trtr_auc_logistic"] is planted and "tv_1way_holdout" not in found


def test_no_holdout_rows_leave_what_needs_none(make_mixed, mixed_schema):
    holdout = make_mixed(10).head(0)
    found = evaluate(make_mixed(60), make_mixed(60, 1), holdout, mixed_schema, EvaluationConfig(), 0)
    assert np.isfinite(found["tv_2way"].value) and np.isnan(found["tstr_auc_boosting"].value)
    assert "no holdout rows" in found["tstr_auc_boosting"].computed_on
