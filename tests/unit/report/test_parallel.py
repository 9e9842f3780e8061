from __future__ import annotations

import math

import pandas as pd
import pytest

from dpsynth.report.parallel import parallel_coordinates, parallel_page

RUNS = pd.DataFrame(
    {
        "generator.name": ["tvae", "ctgan", "tvae", "ctgan"],
        "privacy.epsilon": [1.0, 10.0, math.inf, 1.0],
        "privacy.delta": [1e-5] * 4,
        "seed": [0, 1, 2, 3],
        "training.max_grad_norm": [1.0, None, 0.5, 1.0],
        "tstr_auc_boosting": [0.7, 0.8, 0.9, None],
    }
)


def axes(runs=RUNS, metrics=("tstr_auc_boosting",)):
    return {axis.label: axis for axis in parallel_coordinates(runs, metrics).data[0].dimensions}


def test_settings_that_differ_get_an_axis_and_equal_ones_do_not():
    assert list(axes()) == [
        "generator",
        "epsilon",
        "seed",
        "max grad norm",
        "AUC, boosted trees fitted on synthetic rows",
    ]


def test_a_setting_that_one_method_alone_has_is_an_axis_only_where_it_was_varied():
    one = RUNS.assign(**{"generator.width": [64, None, 64, None], "generator.depth": [1, None, 2, None]})
    assert "depth" in axes(one) and "width" not in axes(one)


def test_runs_without_the_figure_are_left_out():
    assert list(axes()["seed"].values) == [0, 1, 2]


def test_words_and_missing_settings_have_named_places():
    drawn = axes()
    assert dict(zip(drawn["generator"].ticktext, drawn["generator"].tickvals)) == {"ctgan": 0, "tvae": 1}
    assert list(drawn["generator"].values) == [1, 0, 1]
    assert set(drawn["max grad norm"].ticktext) == {"1.0", "0.5", "null"}


def test_budgets_are_on_a_log_axis_with_no_budget_above_all():
    epsilon = axes()["epsilon"]
    assert list(epsilon.ticktext) == ["1", "10", "∞ (no DP)"]
    assert epsilon.values[1] - epsilon.values[0] == pytest.approx(1.0)
    assert epsilon.values[2] > epsilon.values[1]


def test_no_finished_run_still_makes_a_page():
    page = parallel_page(RUNS.drop(columns="tstr_auc_boosting"), ["tstr_auc_boosting"])
    assert "Plotly.newPlot" in page and "<script src" not in page
