from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dpsynth.evaluation.types import Evaluation, Metric
from dpsynth.report.frontier import (
    COLUMNS,
    default_metrics,
    epsilon_places,
    make_frontier,
    summary,
    tidy,
)
from dpsynth.report.frontier_plots import frontier_figure, frontier_page, frontier_plotly

AUC = "tstr_auc_boosting"


def rows(
    values: dict[tuple[str, float], list[float]], metric: str = AUC, half: float = np.nan
) -> pd.DataFrame:
    """One row per value of each (generator, epsilon); seeds count up."""
    found = [
        (generator, epsilon, seed, metric, value, value - half, value + half)
        for (generator, epsilon), of_point in values.items()
        for seed, value in enumerate(of_point)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def sweep(num_generators: int, num_epsilons: int, num_seeds: int, *, infinite: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    epsilons = [*np.geomspace(0.1, 20, num_epsilons), *([math.inf] if infinite else [])]
    names = ["independent", *(f"method{i}" for i in range(num_generators - 1))]
    values = {
        (name, e): list(0.7 + 0.02 * i + 0.05 * math.log10(min(e, 100) * 10) + 0.01 * rng.random(num_seeds))
        for i, name in enumerate(names)
        for e in epsilons
    }
    real = rows({("method0", epsilons[0]): [0.93]}, "trtr_auc_boosting")
    return pd.concat([rows(values), rows(values, "tv_2way"), real], ignore_index=True)


def point(frontier, generator, epsilon):
    chosen = frontier.points[
        (frontier.points["generator"] == generator) & (frontier.points["epsilon"] == epsilon)
    ]
    return chosen.iloc[0]


def test_three_seeds_give_students_interval():
    values = [0.80, 0.82, 0.87]
    found = point(make_frontier(rows({("tvae", 1.0): values}), AUC), "tvae", 1.0)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found["mean"], found["lower"], found["upper"]) == pytest.approx((np.mean(values), low, high))
    assert found["num_seeds"] == 3


def test_two_seeds_pool_their_deviation_over_the_epsilons():
    pairs = {("tvae", 1.0): [0.80, 0.82], ("tvae", 4.0): [0.85, 0.86]}
    found = point(make_frontier(rows(pairs), AUC), "tvae", 1.0)
    pooled = math.sqrt((0.02**2 / 2 + 0.01**2 / 2) / 2)
    half = stats.t.ppf(0.975, 2) * pooled / math.sqrt(2)
    assert found["upper"] - found["mean"] == pytest.approx(half)


def test_one_seed_keeps_its_own_bootstrap_interval_and_none_stays_none():
    frontier = make_frontier(rows({("tvae", 1.0): [0.8]}, half=0.01), AUC)
    assert point(frontier, "tvae", 1.0)["lower"] == pytest.approx(0.79)
    assert "bootstrap" in frontier.interval
    bare = make_frontier(rows({("tvae", 1.0): [0.8]}), AUC)
    assert math.isnan(point(bare, "tvae", 1.0)["lower"]) and bare.interval == "no intervals"


def test_overlapping_neighbours_are_marked_and_distant_ones_are_not():
    values = {
        ("a", 1.0): [0.80, 0.81, 0.82],
        ("b", 1.0): [0.805, 0.815, 0.825],
        ("c", 1.0): [0.60, 0.61, 0.62],
        ("a", 4.0): [0.90, 0.901, 0.902],
        ("b", 4.0): [0.95, 0.951, 0.952],
    }
    frontier = make_frontier(rows(values), AUC)
    assert frontier.ties == ((1.0, "a", "b"),)
    alone = make_frontier(rows({k: v[:1] for k, v in values.items()}), AUC)
    assert alone.ties == ()  # without intervals nobody knows


def test_real_rows_come_from_the_reference_or_from_theory():
    table = pd.concat([rows({("a", 1.0): [0.8]}), rows({("a", 1.0): [0.93]}, "trtr_auc_boosting")])
    assert make_frontier(table, AUC).real == 0.93
    assert make_frontier(rows({("a", 1.0): [0.8]}, "propensity_auc"), "propensity_auc").real == 0.5
    assert make_frontier(rows({("a", 1.0): [0.8]}), AUC).real is None


def test_missing_figures_and_unknown_metrics_leave_an_empty_frontier():
    table = rows({("a", 1.0): [np.nan]})
    for metric in (AUC, "nothing"):
        frontier = make_frontier(table, metric)
        assert frontier.points.empty and frontier.ties == ()
        assert frontier_figure(frontier).axes
    assert default_metrics(table) == []


def test_runs_without_privacy_stand_right_of_all_budgets():
    places = epsilon_places([1.0, math.inf, 10.0, 1.0])
    assert places[10.0] - places[1.0] == pytest.approx(1.0)
    assert places[math.inf] > places[10.0]
    assert list(epsilon_places([math.inf])) == [math.inf]


def test_table_has_one_row_per_budget_and_the_floor_last():
    wide = summary(make_frontier(sweep(3, 2, 3, infinite=True), AUC))
    assert list(wide) == ["ε", "method0", "method1", "independent", "real rows"]
    assert wide["ε"].tolist() == ["0.1", "20", "∞ (no DP)"]
    assert "±" in wide["method0"][0] and (wide["real rows"] == "0.930").all()


def test_tidy_carries_a_run_into_the_table():
    evaluation = Evaluation([Metric(name=AUC, value=0.8, lower=0.7, upper=0.9, computed_on="x")])
    table = tidy(evaluation, generator="tvae", epsilon=math.inf, seed=3, run_id="abc")
    assert table.iloc[0].to_dict() == {
        "generator": "tvae",
        "epsilon": math.inf,
        "seed": 3,
        "metric": AUC,
        "value": 0.8,
        "lower": 0.7,
        "upper": 0.9,
        "run_id": "abc",
    }


def test_references_and_worst_cases_have_no_frontier_of_their_own():
    table = sweep(2, 2, 1)
    more = rows({("a", 1.0): [0.1]}, "tv_2way_max")
    assert default_metrics(pd.concat([table, more])) == [AUC, "tv_2way"]


def test_sequences_are_judged_by_their_own_figures_first():
    figures = ["tstr_r2_boosting", "tv_2way", "acf_gap", "cross_correlation_gap", "tstr_last_step_r2"]
    table = pd.concat([rows({("dgan", 1.0): [0.1]}, name) for name in figures])
    assert default_metrics(table) == [
        "tstr_last_step_r2",
        "acf_gap",
        "cross_correlation_gap",
        "tstr_r2_boosting",
        "tv_2way",
    ]
    both = pd.concat([rows({(name, 1.0): [0.1]}, "acf_gap") for name in ("sequence_independent", "var")])
    assert make_frontier(both, "acf_gap").generators == ["var", "sequence_independent"]  # the floor is last


def test_picture_has_a_line_per_generator_the_real_rows_and_links_for_ties():
    table = sweep(4, 3, 3)
    frontier = make_frontier(table, AUC)
    axes = frontier_figure(frontier).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["method0", "method1", "method2", "independent (floor)", "real rows"]
    same = rows({("a", 1.0): [0.8, 0.81, 0.82], ("b", 1.0): [0.8, 0.81, 0.83]})
    tied, apart = (frontier_figure(make_frontier(t, AUC)).axes[0] for t in (same, rows({("a", 1.0): [0.8]})))
    wide = [sum(line.get_linewidth() == 5 for line in drawn.lines) for drawn in (tied, apart)]
    assert wide == [1, 0]


def test_line_stops_before_the_run_without_privacy():
    frontier = make_frontier(sweep(2, 3, 1, infinite=True), AUC)
    lines = [trace for trace in frontier_plotly([frontier]).data if trace.name == "method0"]
    assert list(lines[0].x)[-2] is None and lines[0].x[-1] is not None


def test_page_holds_500_points_and_fetches_nothing():
    table = sweep(10, 10, 5)
    assert (table["metric"] == AUC).sum() == 500
    page = frontier_page(table, title="<b>Adult</b>")
    lowered = page.lower()
    assert "<script src" not in lowered and "<link" not in lowered and "@import url" not in lowered
    assert "&lt;b&gt;Adult" in page and "Plotly.newPlot" in page and "method8" in page
    figure = frontier_plotly([make_frontier(table, name) for name in (AUC, "tv_2way")])
    shown = [trace for trace in figure.data if trace.visible]
    single = sum(len(trace.x) for trace in shown if trace.mode == "markers")
    assert single == 500
    buttons = figure.layout.updatemenus[0].buttons
    assert len(buttons) == 2 and sum(buttons[0].args[0]["visible"]) == len(shown)
