"""Units are set aside by secret coins of their own."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Categorical, Identifier, Integer, Schema, Unit
from dpsynth.data.tables.split import coins, split

SECRET = b"a secret of a test"


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
    train, holdout = split(people, schema, 0.25, SECRET)
    assert not set(train.person) & set(holdout.person)
    assert sorted([*train.x, *holdout.x]) == list(people.x)
    # 400 units at 0.25: 100 expected, sd 8.7; six deviations are a false alarm below 1e-8.
    assert 48 <= holdout.person.nunique() <= 152


def test_equal_secrets_split_equally_and_others_do_not(people, schema):
    first = split(people, schema, 0.25, SECRET)[1]
    assert first.equals(split(people, schema, 0.25, SECRET)[1])
    assert not first.equals(split(people, schema, 0.25, b"another")[1])


def test_a_share_of_zero_and_an_empty_table_work(people, schema):
    assert len(split(people, schema, 0.0, SECRET)[1]) == 0
    assert [len(side) for side in split(people[:0], schema, 0.25, SECRET)] == [0, 0]


def test_coins_are_fair_at_every_place_and_independent_of_their_neighbours():
    flips = np.array([coins(40, 0.2, number.to_bytes(4)) for number in range(4000)])
    # 4000 flips at 0.2 a place: sd 0.0063; 5.5 deviations at 40 places are a false alarm below 2e-6.
    assert np.abs(flips.mean(axis=0) - 0.2).max() < 0.035
    pairs = (flips[:, 1:] & flips[:, :-1]).mean(axis=0)  # 0.04, sd 0.0031
    assert np.abs(pairs - 0.04).max() < 0.018
    assert coins(3, 1 - 2**-50, SECRET).all() and not coins(3, 0.0, SECRET).any()


def aimed(secret: bytes, num: int = 400) -> tuple[Schema, pd.DataFrame]:
    """A table that whoever knows the coins writes: nothing about "b" is trained on, unless coins move."""
    schema = Schema(columns=(Categorical(name="x", values=("a", "b")),), num_units=num)
    return schema, pd.DataFrame({"x": np.where(coins(num, 0.2, secret), "b", "a")})


def bound(counts: np.ndarray, others: np.ndarray) -> float:
    """A bound on epsilon from 200 runs each, at the best threshold (95% Clopper-Pearson, delta 0)."""
    from scipy.stats import beta

    num, best = len(counts), 0.0
    for cut in np.unique([*counts, *others]):
        for true, false in (((others > cut).sum(), (counts > cut).sum()),):
            low = beta.ppf(0.025, true, num - true + 1) if true else 0.0
            high = beta.ppf(0.975, false + 1, num - false)
            best = max(best, math.log(max(low, 1e-9) / high))
    return best


@pytest.mark.parametrize("secret", [True, False])
def test_the_first_row_decides_nothing_about_later_ones_unless_coins_are_known(secret):
    """Noisy counts at epsilon 0.1 on a table that was written against known coins, and without its first row.

    The broken twin flips coins by a known seed: one row fewer hands some 64 rows of "b" to the training.
    """
    random = np.random.default_rng(1)
    schema, table = aimed(b"known")
    seen = []
    for frame in (table, table.iloc[1:].reset_index(drop=True)):
        runs = []
        for run in range(200):
            train, _ = split(frame, schema, 0.2, run.to_bytes(4) if secret else b"known")
            runs.append((train["x"] == "b").sum() + random.laplace(scale=1 / 0.1))
        seen.append(np.array(runs))
    found = bound(*seen)
    assert found < 0.6 if secret else found > 2.0
