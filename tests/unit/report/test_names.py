from __future__ import annotations

import pytest

from dpsynth.evaluation.metrics import evaluate
from dpsynth.evaluation.types import EvaluationConfig
from dpsynth.report import names
from tests.support import panels


def test_every_metric_has_words_and_its_reference_exists(schema, make_table):
    config = EvaluationConfig(num_bootstraps=0, extended=True)
    found = evaluate(make_table(60, 1), make_table(60, 2), make_table(40, 3), schema, config, 0)
    for name in found:
        assert "_" not in names.label(name), name
        reference = names.real_rows_name(name)
        if name.startswith(("tstr_", "tv_")) and not name.endswith("_holdout"):
            assert reference in found
    labels = [names.label(name) for name in found]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", ["tstr_auc_boosting", "tstr_r2_ridge", "coverage", "recall", "valid_rows"])
def test_scores_are_better_when_higher(name):
    assert names.higher_is_better(name)


@pytest.mark.parametrize("name", ["tv_2way", "js_1way", "mmd", "pearson_gap", "pmse_ratio", "propensity_auc"])
def test_distances_are_better_when_lower(name):
    assert not names.higher_is_better(name)


def test_unknown_names_stay_as_they_are():
    assert names.label("my_own") == "my_own" and names.real_rows_name("my_own") is None


def test_metrics_of_sequences_have_words_and_stand_beside_what_real_sequences_reach():
    config = EvaluationConfig(num_bootstraps=0, models=())
    parts = [panels.panel(60, seed=seed) for seed in (1, 2, 3)]
    found = evaluate(*parts, panels.SCHEMA, config, 0)
    own = [name for name in found if names.real_rows_name(name) in found and not name.startswith("tv_")]
    assert {"acf_gap", "acf_gap_lag_2", "length_tv", "transition_tv", "tstr_last_step_r2"} <= set(own)
    labels = [names.label(name) for name in found]
    assert not [label for label in labels if "_" in label] and len(set(labels)) == len(labels)
    assert not names.higher_is_better("length_tv") and not names.higher_is_better("sequence_propensity_auc")
