"""Canaries of a run: coins by unit, made-up rows of nobody, and a ranking that decides nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.audit.canaries import CanaryPlan
from dpsynth.audit.configs import ReleaseConfig
from dpsynth.audit.constructed import check, joined, made_up
from dpsynth.audit.planted import population
from dpsynth.audit.targets import choose
from dpsynth.audit.vulnerability import isolation_of, most_vulnerable
from dpsynth.data.schema import (
    Boolean,
    Categorical,
    Continuous,
    Datetime,
    Identifier,
    Integer,
    Schema,
    Unit,
)
from dpsynth.data.tables.io import read_table
from dpsynth.errors import InvalidInput

SCHEMA = Schema(
    columns=(
        Identifier(name="key"),
        Integer(name="age", min=18, max=90),
        Continuous(name="income", min=0.005, max=1000.0, decimals=2, nullable=True),
        Categorical(name="region", values=("north", "south", "east")),
        Categorical(name="code", values=(1, 2, 3), nullable=True),
        Boolean(name="bought"),
        Datetime(name="since", min="2001-01-01", max="2020-12-31"),
    )
)


def real(num: int = 50, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "key": np.arange(num),
            "age": rng.integers(30, 40, num),
            "income": np.round(rng.uniform(1, 900, num), 2),
            "region": rng.choice(["north", "south"], num),  # east is declared, and nobody's
            "code": pd.array(rng.integers(1, 3, num), dtype="Int64"),
            "bought": rng.random(num) < 0.5,
            "since": pd.Timestamp("2010-01-01") + pd.to_timedelta(rng.integers(0, 99, num), unit="D"),
        }
    )
    return frame.astype({"region": "category"})


def test_made_up_rows_lie_inside_the_schema_at_its_ends_and_in_rare_combinations():
    rows = made_up(SCHEMA, 400, real(), rng=np.random.default_rng(1))
    whole = joined(real(), rows)
    assert list(rows) == list(SCHEMA.names) and len(whole) == 450
    assert whole.drop(columns="region").dtypes.equals(real().drop(columns="region").dtypes)
    assert whole["region"].dtype == "category"
    read_table(whole, SCHEMA)  # refuses what lies outside
    for name, ends in (("age", (18, 90)), ("income", (0.005, 1000.0))):
        at_ends = rows[name].dropna().isin(ends).mean()
        assert 0.35 < at_ends < 0.65  # half; six standard errors of 360
    assert rows["region"].value_counts(normalize=True).between(0.2, 0.47).all()
    assert set(rows["region"]) == {"north", "south", "east"} and rows["income"].isna().any()
    combined = rows[["region", "code", "bought"]].drop_duplicates()
    assert len(combined) >= 18  # of 3 * 3 * 2 and the missing codes


def test_made_up_rows_are_all_different_and_too_many_are_refused():
    few = Schema(columns=(Categorical(name="a", values=(1, 2, 3, 4)), Boolean(name="b")))
    like = pd.DataFrame({"a": [1], "b": [True]})
    rows = made_up(few, 6, like, rng=np.random.default_rng(0))
    assert len(rows) == 6 and not rows.duplicated().any()
    with pytest.raises(InvalidInput, match="9 different rows"):
        made_up(few, 9, like, rng=np.random.default_rng(0))


def test_made_up_rows_depend_on_no_value_of_the_table():
    one, other = (made_up(SCHEMA, 30, real(40, s), rng=np.random.default_rng(2)) for s in (1, 2))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"columns": (Integer(name="x"),)}, "Declares no bounds"),
        ({"columns": (Categorical(name="x"),)}, "Declares no values"),
        ({"columns": (Identifier(name="id"), Boolean(name="x")), "unit": Unit(column="id")}, "is an entity"),
    ],
)
def test_rows_are_made_up_only_inside_declared_bounds_and_for_units_of_one_row(changes, said):
    with pytest.raises(InvalidInput, match=said):
        check(Schema(**changes))


def left_out(table: pd.DataFrame, choose_canaries) -> set[str]:
    """Names the units that stay out, by their values."""
    plan = choose_canaries(table, np.random.default_rng(7))
    return set(table.iloc[plan.ids[(~plan.included) & (plan.ids >= 0)]].apply(str, axis=1))


def by_coins(table: pd.DataFrame, rng: np.random.Generator) -> CanaryPlan:
    plan = CanaryPlan.flip(len(table), 0.6, rng=rng, constructed=5)
    return plan.with_vulnerable(isolation_of(table, plan.ids[plan.stratum == "random"]))


def by_ranking(table: pd.DataFrame, rng: np.random.Generator) -> CanaryPlan:
    """The broken twin: the most isolated units are put to a coin, the others are trained on."""
    coins = rng.random(len(table)) < 0.5
    chosen = np.flatnonzero(most_vulnerable(table, share=0.3))
    return CanaryPlan(ids=chosen, included=coins[chosen], stratum=np.full(len(chosen), "vulnerable"))


def test_one_unit_more_changes_nobody_elses_membership():
    rng = np.random.default_rng(0)
    table = population(120, rng)
    others = {"coins": 0, "ranking": 0}
    for name, way in (("coins", by_coins), ("ranking", by_ranking)):
        before = left_out(table, way)
        for _ in range(10):
            more = pd.concat([table, population(1, rng)], ignore_index=True)
            newcomer = str(more.iloc[-1])
            others[name] += len((left_out(more, way) ^ before) - {newcomer})
    assert others["coins"] == 0
    assert others["ranking"] > 0  # so a ranking may name a stratum, and never choose


def test_the_most_isolated_canaries_are_named_and_coins_stay_as_they_are():
    rng = np.random.default_rng(0)
    table = population(300, rng)
    plan = CanaryPlan.flip(300, 0.5, rng=rng, constructed=10)
    table.loc[plan.ids[3], "x5"] = 60.0  # far from everybody
    named = plan.with_vulnerable(isolation_of(table, plan.ids[plan.stratum == "random"]))
    assert np.array_equal(named.ids, plan.ids) and np.array_equal(named.included, plan.included)
    assert named.stratum[3] == "vulnerable" and named.digest != plan.digest
    natural = (plan.stratum != "constructed").sum()
    assert abs((named.stratum == "vulnerable").sum() - 0.2 * natural) < 2
    assert (named.stratum == "constructed").sum() == 10 and set(named.ids[-10:]) == set(range(-10, 0))


def test_plan_brings_its_made_up_rows_back_from_disk(tmp_path):
    plan = CanaryPlan.flip(20, 0.5, rng=np.random.default_rng(0), constructed=30)
    plan.dump(tmp_path / "plan.json")
    again = CanaryPlan.load(tmp_path / "plan.json")
    (rows, coins), (same, same_coins) = (p.made_up(SCHEMA, real()) for p in (plan, again))
    pd.testing.assert_frame_equal(rows, same)
    assert np.array_equal(coins, same_coins) and 3 <= coins.sum() <= 27  # 1e-6 outside
    other = CanaryPlan.flip(20, 0.5, rng=np.random.default_rng(0), constructed=30)
    assert not other.made_up(SCHEMA, real())[0].equals(rows)  # another salt


def test_labelled_targets_are_all_kept_and_everybody_is_thinned_by_chance():
    rng = np.random.default_rng(0)
    members, others = population(400, rng), population(400, rng)
    labels = np.tile(np.repeat(["random", "vulnerable", "constructed"], [300, 60, 40]), 2)
    found = choose(members, others, labels, ReleaseConfig(max_targets=200), rng)
    assert found.strata["vulnerable"].sum() == 120 and found.strata["constructed"].sum() == 80
    assert found.random.sum() == 200 and not (found.random & found.strata["constructed"]).any()
    # By chance alone a sixth of everybody is vulnerable: 33 of 200, 15 to 58 at 1e-6.
    assert 15 < (found.random & found.strata["vulnerable"]).sum() < 58
    assert (found.stratum == "vulnerable").sum() == 120
    with pytest.raises(ValueError, match="a stratum for each"):
        choose(members, others, labels[1:], ReleaseConfig(), rng)
