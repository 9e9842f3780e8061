"""Small tables with every kind of column, shared by the tests of evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Identifier, Integer, Schema

SCHEMA = Schema(
    columns=(
        Identifier(name="id"),
        Continuous(name="income", min=0.0, max=100.0, decimals=1, nullable=True),
        Integer(name="age", min=18, max=90),
        Categorical(name="city", values=("Bern", "Basel", "Zug", "Chur"), nullable=True),
        Categorical(name="grade", values=(1, 2, 3), ordered=True),
        Boolean(name="member"),
        Datetime(name="joined", format="%Y-%m-%d", min="2020-01-01", max="2023-12-31"),
        Categorical(name="buys", values=("no", "yes")),
    ),
    target="buys",
)


def mixed_table(num_rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """Rows in which `buys` follows income, city and member; a tenth of income and city is missing."""
    rng = np.random.default_rng(seed)
    income = np.round(rng.gamma(4.0, 8.0, num_rows).clip(0, 100), 1)
    city = rng.choice(["Bern", "Basel", "Zug", "Chur"], num_rows, p=[0.5, 0.3, 0.15, 0.05])
    member = rng.random(num_rows) < 0.4
    score = 0.08 * (income - 32) + 1.5 * (city == "Zug") + 1.2 * member - 1.2
    buys = np.where(rng.random(num_rows) < 1 / (1 + np.exp(-score)), "yes", "no")
    days = rng.integers(0, 1461, num_rows)
    table = pd.DataFrame(
        {
            "id": np.arange(num_rows),
            "income": np.where(rng.random(num_rows) < 0.1, np.nan, income),
            "age": rng.integers(18, 91, num_rows),
            "city": pd.Series(np.where(rng.random(num_rows) < 0.1, None, city)),
            "grade": rng.choice([1, 2, 3], num_rows),
            "member": member,
            "joined": (pd.Timestamp("2020-01-01") + pd.to_timedelta(days, unit="D")).strftime("%Y-%m-%d"),
            "buys": buys,
        }
    )
    return table


@pytest.fixture(scope="session")
def mixed_schema():
    return SCHEMA


@pytest.fixture(scope="session")
def make_mixed():
    return mixed_table
