"""Bounds and values that the schema leaves open."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import special

from dpsynth.data.schema import Categorical, Continuous, Datetime, Identifier, Integer, Schema, Unit
from dpsynth.data.tables.table import PrivateTable
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.measuring.answers import Answers, Shop
from dpsynth.privacy.measuring.undeclared import (
    selection_failure,
    selection_threshold,
    undeclared_bounds,
    undeclared_values,
)
from dpsynth.privacy.noise.entropy import AesEntropy
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Request


def shop(tmp_path, schema, frame, privacy=None):
    plan = make_plan(privacy or PrivacyConfig(epsilon=2.0), TrainingConfig(), schema, Request(trains=False))
    ledger = Ledger.create(tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl", plan)
    found = Shop(PrivateTable(frame, schema), plan, ledger, AesEntropy(), Answers())
    if "count" in plan:
        ledger.charge("count")
    return found


def numbers(num=20_000):
    draw = np.random.default_rng(1)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 700, num), unit="D")
    return pd.DataFrame(
        {
            "pay": draw.normal(-500, 20, num),
            "age": draw.integers(16, 91, num),
            "day": days.strftime("%Y-%m-%d"),
        }
    )


OPEN_NUMBERS = Schema(
    columns=(
        Continuous(name="pay", min=None, max=None),
        Integer(name="age", min=0, max=None),
        Datetime(name="day", format="%Y-%m-%d", min=None, max=None),
    )
)


def test_bounds_hold_nearly_all_values_and_little_else(tmp_path):
    """epsilon = 2, 20,000 rows: at most 3 % of rows are clipped, and the width is at most 3 times true."""
    bounds = undeclared_bounds(shop(tmp_path, OPEN_NUMBERS, numbers()))
    table = numbers()
    low, high = bounds["pay"]
    assert ((table["pay"] < low) | (table["pay"] > high)).mean() < 0.03
    assert high - low < 3 * (table["pay"].max() - table["pay"].min())
    assert bounds["age"][0] == 0.0 and 90.0 <= bounds["age"][1] <= 130.0
    low, high = (pd.Timestamp(second, unit="s") for second in bounds["day"])
    assert pd.Timestamp("2017-06-01") < low <= pd.Timestamp("2020-01-20")
    assert pd.Timestamp("2021-11-01") < high < pd.Timestamp("2025-01-01")


def test_one_outlier_does_not_show_in_the_bounds(tmp_path):
    """With noise off it does: that is the leak that the thresholds prevent."""
    table = numbers()
    table.loc[0, "pay"] = 1e9
    assert undeclared_bounds(shop(tmp_path, OPEN_NUMBERS, table))["pay"][1] < 1e6
    none = PrivacyConfig(name="none", epsilon=None)
    assert undeclared_bounds(shop(tmp_path, OPEN_NUMBERS, table, none))["pay"][1] >= 1e9


def test_an_empty_column_still_gives_finite_bounds(tmp_path):
    bounds = undeclared_bounds(shop(tmp_path, OPEN_NUMBERS, numbers(0)))
    assert all(math.isfinite(side) for pair in bounds.values() for side in pair)
    assert all(low <= high for low, high in bounds.values())


JOBS = Schema(columns=(Categorical(name="job", values=None),))


def test_a_value_that_one_row_holds_stays_secret(tmp_path):
    table = pd.DataFrame({"job": ["baker"] * 500 + ["smith"] * 500 + ["astronaut"]})
    assert undeclared_values(shop(tmp_path, JOBS, table)) == {"job": ("baker", "smith")}
    none = PrivacyConfig(name="none", epsilon=None)
    assert "astronaut" in undeclared_values(shop(tmp_path, JOBS, table, none))["job"]


def test_values_come_in_sorted_order_with_their_own_type(tmp_path):
    table = pd.DataFrame({"job": [3, 1, 2] * 300})
    values = undeclared_values(shop(tmp_path, JOBS, table))["job"]
    assert values == (1, 2, 3) and all(type(value) is int for value in values)
    assert undeclared_values(shop(tmp_path, JOBS, table.iloc[:0])) == {"job": ()}


@pytest.mark.parametrize("max_rows", [1, 2, 5, 40])
@pytest.mark.parametrize("delta", [1e-6, 1e-10])
def test_the_threshold_keeps_lone_values_out_with_probability_delta(max_rows, delta):
    threshold = selection_threshold(8.0 * max_rows, delta, max_rows)
    assert selection_failure(threshold, 8.0 * max_rows, max_rows) <= delta
    assert selection_failure(0.999 * threshold, 8.0 * max_rows, max_rows) > delta


@pytest.mark.parametrize("max_rows", [1, 2, 3, 6])
def test_no_way_to_spread_rows_over_values_beats_the_stated_failure(max_rows):
    """Oracle: every partition of up to max_rows rows over new values, exact probability that any passes."""
    stddev = 3.0 * max_rows
    threshold = selection_threshold(stddev, 1e-6, max_rows)
    worst = 0.0
    for parts in itertools.product(range(max_rows + 1), repeat=max_rows):
        if sum(parts) <= max_rows:
            held = [special.ndtr((threshold - c) / stddev) for c in parts if c]
            worst = max(worst, 1 - math.prod(held))
    assert worst <= selection_failure(threshold, stddev, max_rows) <= 1e-6


def test_a_threshold_for_single_rows_fails_for_units_with_many():
    """Broken twin: ignoring that a unit may put all its rows on one value."""
    naive = selection_threshold(24.0, 1e-6, 1)
    assert selection_failure(naive, 24.0, 8) > 1e-6


def test_a_fixed_threshold_without_delta_fails():
    """Broken twin: Laplace-style "noise plus five" lets a lone value through far too often."""
    assert selection_failure(5.0, 4.0, 1) > 0.1


def test_people_with_many_rows_are_thresholded_as_people(tmp_path):
    schema = Schema(
        columns=(Identifier(name="id"), Categorical(name="job", values=None)),
        unit=Unit(column="id", max_rows=8),
    )
    lone = pd.DataFrame({"id": [0] * 8, "job": ["astronaut"] * 8})
    crowd = pd.DataFrame({"id": np.arange(1, 4001), "job": ["baker"] * 4000})
    assert undeclared_values(shop(tmp_path, schema, pd.concat([lone, crowd])))["job"] == ("baker",)
