"""A row's score is its own: other real rows, whatever they hold, change nothing of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Integer, Schema
from dpsynth.errors import GuaranteeVoid
from dpsynth.evaluation.frozen import FrozenScore
from dpsynth.evaluation.types import EvaluationConfig
from dpsynth.evaluation.utility import make_task, predict_probabilities
from dpsynth.privacy.many_runs.selection import noisy_score

TOWNS = [f"v{i:03d}" for i in range(250)]
COLUMNS = (
    Categorical(name="town", nullable=True),
    Integer(name="age", nullable=True),
    Continuous(name="pay"),
    Datetime(name="since", format="%Y-%m-%d"),
    Categorical(name="odd"),
)


def rows(num: int, seed: int, towns: int = 250) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    town = random.integers(0, towns, num)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 900, num), unit="D")
    return pd.DataFrame(
        {
            "town": np.array(TOWNS)[town],
            "age": pd.array(random.integers(0, 90, num), dtype="Int64"),
            "pay": random.normal(0, 1, num),
            "since": days.strftime("%Y-%m-%d").astype(object),
            "odd": random.choice(["x", "y"], num),
            "sick": random.random(num) < np.where(town % 2, 0.95, 0.05),
            "level": random.choice(["low", "mid", "high"], num),
            "cost": town % 2 * 10.0 + random.normal(0, 1, num),
        }
    )


TARGETS = [
    Boolean(name="sick"),
    Categorical(name="level"),
    Categorical(name="level", values=("low", "mid", "high")),
    Continuous(name="cost"),
]
NEW = {
    "a new category": {"town": "aaa"},
    "missing": {"town": None, "age": None, "pay": np.nan},
    "extremes": {"pay": np.inf, "age": 2**60},
    "minus infinity": {"pay": -np.inf},
    "another format of dates": {"since": "31/12/2021"},
    "a new class": {"level": "none", "sick": None, "cost": 1e300},
    "no target": {"level": None, "sick": None, "cost": np.nan},
    "mixed types": {"odd": 7, "town": 1.5},
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda column: f"{column.kind} {column.name}")
def test_rows_that_join_change_no_other_score(target):
    """With 250 categories a single new one moved every fourth score when the encoding read the holdout."""
    schema = Schema(columns=(*COLUMNS, target), target=target.name, num_units=1000)
    score = FrozenScore.fit(rows(800, 1), schema, EvaluationConfig(), 0)
    holdout = rows(200, 2).astype(object)
    alone = score(holdout)
    assert 0.0 <= alone.min() and alone.max() <= 1.0 and alone.std() > 0.005
    new = [holdout.iloc[[0]].assign(**{k: [v] for k, v in values.items()}) for values in NEW.values()]
    for at in (0, 100, 200):
        joined = pd.concat([holdout.iloc[:at], *new, holdout.iloc[at:]])
        found = score(joined)
        assert np.array_equal(np.delete(found, slice(at, at + len(new))), alone)
        assert np.isfinite(found).all() and 0.0 <= found.min() and found.max() <= 1.0
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(score(holdout.iloc[order]), alone[order])
    assert np.array_equal(score(holdout.iloc[5:6]), alone[5:6])
    assert np.array_equal(score(rows(200, 2)), alone)  # the columns' own dtypes


def test_an_encoding_that_reads_the_holdout_is_told_apart():
    """Broken twin: the figures' own task lists the categories of both tables."""
    schema = Schema(columns=(Categorical(name="town"), Boolean(name="sick")), target="sick", num_units=1000)
    fit, holdout = rows(3000, 1), rows(300, 2)
    one = holdout.iloc[[0]].assign(town="aaa")

    def scores(table: pd.DataFrame) -> np.ndarray:
        task = make_task(fit, table, schema, EvaluationConfig(), 0)
        return predict_probabilities(task, "boosting", 0)[:300, 1]

    assert not np.allclose(scores(holdout), scores(pd.concat([holdout, one])))


def test_a_score_is_worth_what_the_model_knows():
    schema = Schema(columns=(Categorical(name="town"), Boolean(name="sick")), target="sick", num_units=1000)
    good = FrozenScore.fit(rows(3000, 1), schema, EvaluationConfig(), 0)(rows(500, 2)).mean()
    bad = rows(3000, 1).assign(sick=lambda table: ~table["sick"])
    assert good > 0.8 > 0.4 > FrozenScore.fit(bad, schema, EvaluationConfig(), 0)(rows(500, 2)).mean()


def test_nothing_to_fit_on_scores_zero_and_one_class_is_certain():
    schema = Schema(columns=(*COLUMNS, Boolean(name="sick", nullable=True)), target="sick", num_units=1000)
    table = rows(50, 1)
    none = table.assign(sick=pd.array([None] * 50, dtype="boolean"))
    assert not FrozenScore.fit(none, schema, EvaluationConfig(), 0)(table).any()
    sure = FrozenScore.fit(table.assign(sick=True), schema, EvaluationConfig(), 0)(table)
    assert np.array_equal(sure, table["sick"].astype(float))
    assert FrozenScore.fit(table, schema, EvaluationConfig(), 0)(table.iloc[:0]).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    """Broken twin of the sum: cast to whole numbers, one NaN is worth minus 9e18 rows."""
    with pytest.raises(GuaranteeVoid, match="not finite"):
        noisy_score(np.array([0.5, bad]), 1.0, None)
