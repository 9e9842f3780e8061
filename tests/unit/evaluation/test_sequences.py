from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from panels import CALENDAR, SCHEMA, panel

from dpsynth.evaluation.binning import make_binning
from dpsynth.evaluation.panel import correlation, frequencies, make_panel
from dpsynth.evaluation.sequences import autocorrelations, cross_correlations, evaluate_sequences, structure
from dpsynth.evaluation.types import EvaluationConfig

QUICK = EvaluationConfig(num_bootstraps=20)


def distances(synthetic, real, schema=SCHEMA):
    binning = make_binning(schema, real)
    panels = [make_panel(t, schema, binning) for t in (synthetic, real)]
    return {name: value for name, value, _ in structure(*panels, binning)}


def test_a_copy_has_no_distance():
    for schema in (SCHEMA, CALENDAR):
        table = panel(schema=schema)
        found = distances(table.sample(frac=1, random_state=0), table, schema)
        assert all(value == pytest.approx(0, abs=1e-12) for value in found.values() if np.isfinite(value))
        assert {"acf_gap", "cross_correlation_gap", "length_tv", "step_marginal_tv"} <= set(found)


def test_every_distance_answers_to_its_own_damage():
    real = panel(150)
    rng = np.random.default_rng(0)
    broken = {}
    memory = real.copy()
    memory["wage"] = rng.permutation(memory.wage.to_numpy())
    broken["acf_gap"] = broken["acf_gap_lag_1"] = memory
    broken["length_tv"] = real.groupby("who").head(3)
    coupled = real.copy()
    coupled["hours"] = coupled.wage.round()
    broken["cross_correlation_gap"] = coupled
    regrouped = real.copy()
    regrouped["group"], regrouped["born"] = "a", 1970
    broken["attribute_tv"] = regrouped
    tied = real.copy()
    tied["wage"], tied["hours"] = np.where(tied.group == "a", 10.0, 90.0), np.where(tied.group == "a", 5, 75)
    broken["attribute_feature_tv"] = tied
    moved = real.copy()
    moved["wage"], moved["hours"] = 99.0, 1.0
    broken["step_marginal_tv"] = moved
    fresh = distances(panel(150, seed=9), real)
    for name, table in broken.items():
        assert distances(table, real)[name] > fresh[name] + 0.05, name


def test_correlations_weigh_entities_and_match_numpy_on_full_panels():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 5))
    assert correlation(x, y) == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    # an entity seen three times as often in the same proportions changes nothing
    first = np.array([[1.0, np.nan, np.nan], [2.0, 2.0, 2.0], [4.0, np.nan, np.nan]])
    second = np.array([[3.0, np.nan, np.nan], [5.0, 5.0, 5.0], [1.0, np.nan, np.nan]])
    assert correlation(first, second) == pytest.approx(np.corrcoef([1, 2, 4], [3, 5, 1])[0, 1])
    assert np.isnan(correlation(np.ones((3, 3)), x[:3, :3]))


def test_frequencies_by_hand():
    rows = np.array([[0, 0, -1], [1, 1, 1]])
    columns = np.array([[1, 0, 0], [1, 1, 1]])
    assert np.allclose(frequencies(rows, columns, 2, 2), [[0.25, 0.25], [0.0, 0.5]])


def test_two_valued_columns_have_correlations_in_every_dtype():
    table = panel(60)
    binning = make_binning(SCHEMA, table)
    reference = autocorrelations(make_panel(table, SCHEMA, binning), 1)["union"]
    assert np.isfinite(reference)
    for dtype in ("float64", "object"):
        other = table.assign(union=table.union.astype("Float64").to_numpy(float, na_value=np.nan))
        if dtype == "object":
            other["union"] = [None if pd.isna(v) else bool(v) for v in other.union]
        assert autocorrelations(make_panel(other, SCHEMA, binning), 1)["union"] == pytest.approx(reference)


def test_gaps_between_rows_are_compared_where_times_are_modelled():
    table = panel()
    binning = make_binning(SCHEMA, table)
    assert "year (gap)" in make_panel(table, SCHEMA, binning).numbers
    fixed = panel(schema=CALENDAR)
    numbers = make_panel(fixed, CALENDAR, make_binning(CALENDAR, fixed)).numbers
    assert "year (gap)" not in numbers


def test_constant_synthetic_features_count_as_no_correlation():
    real = panel(100)
    constant = real.assign(wage=50.0)
    found, binning = distances(constant, real), make_binning(SCHEMA, real)
    true = autocorrelations(make_panel(real, SCHEMA, binning), 1)["wage"]
    assert found["acf_gap_lag_1"] == pytest.approx(true / 4, abs=0.02)  # four features with memory


def test_fitted_scores_tell_fresh_from_broken():
    real, unseen = panel(150), panel(120, seed=1)
    fresh = {m.name: m for m in evaluate_sequences(panel(150, seed=2), real, unseen, SCHEMA, QUICK)}
    noise = panel(150, seed=2)
    noise["wage"] = np.random.default_rng(0).permutation(noise.wage.to_numpy())
    broken = {m.name: m for m in evaluate_sequences(noise, real, unseen, SCHEMA, QUICK)}
    assert 0.35 < fresh["sequence_propensity_auc"].value < 0.65
    assert broken["sequence_propensity_auc"].value > 0.85
    assert fresh["tstr_last_step_r2"].value > 0.7 > 0.4 > broken["tstr_last_step_r2"].value
    assert fresh["trtr_last_step_r2"].value == broken["trtr_last_step_r2"].value
    assert all(m.visibility == "internal" for m in fresh.values())
    assert fresh["real_acf_gap"].value < broken["acf_gap"].value


def test_tiny_tables_say_why_there_is_no_figure():
    found = {m.name: m for m in evaluate_sequences(panel(6), panel(6), panel(6), SCHEMA, QUICK)}
    assert np.isnan(found["sequence_propensity_auc"].value)
    assert "fewer than 20" in found["sequence_propensity_auc"].computed_on
    assert np.isnan(found["tstr_last_step_r2"].value)


def test_lags_beyond_the_sequences_are_left_out():
    short = replace(SCHEMA, sequence=replace(SCHEMA.sequence, max_length=2))
    table = panel(50)
    found = distances(table, table, short)
    assert "acf_gap_lag_1" in found and "acf_gap_lag_2" not in found
    assert cross_correlations(make_panel(table, short, make_binning(short, table)), 2) == {}
