"""Rows are set aside unit by unit, and one unit more moves no other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Identifier, Integer, Schema, Unit
from dpsynth.data.split import split


@pytest.fixture(scope="module")
def people():
    random = np.random.default_rng(0)
    return pd.DataFrame({"person": random.integers(0, 400, 2000), "x": np.arange(2000)})


@pytest.fixture(scope="module")
def schema():
    columns = (Identifier(name="person"), Integer(name="x", min=0, max=2000))
    return Schema(
        version=1, columns=columns, unit=Unit(column="person", max_rows=20), num_units=400, target=None
    )


def test_rows_of_a_unit_stay_together_and_none_is_lost(people, schema):
    train, holdout = split(people, schema, 0.25, seed=1)
    assert not set(train.person) & set(holdout.person)
    assert sorted([*train.x, *holdout.x]) == list(people.x)
    # 400 units at 0.25: 100 expected, sd 8.7; six deviations are a false alarm below 1e-8.
    assert 48 <= holdout.person.nunique() <= 152


def test_appending_a_unit_moves_no_other(people, schema):
    more = pd.concat([people, pd.DataFrame({"person": [400, 400], "x": [-1, -2]})], ignore_index=True)
    for side, larger in zip(split(people, schema, 0.25, seed=1), split(more, schema, 0.25, seed=1)):
        assert list(larger.x[larger.x >= 0]) == list(side.x)


def test_equal_seeds_split_equally_and_others_do_not(people, schema):
    first = split(people, schema, 0.25, seed=1)[1]
    assert first.equals(split(people, schema, 0.25, seed=1)[1])
    assert not first.equals(split(people, schema, 0.25, seed=2)[1])


def test_a_share_of_zero_and_an_empty_table_work(people, schema):
    assert len(split(people, schema, 0.0, seed=1)[1]) == 0
    assert [len(side) for side in split(people[:0], schema, 0.25, seed=1)] == [0, 0]
