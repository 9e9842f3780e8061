from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.conditions import encoded_conditions
from dpsynth.data.schema import Categorical, Continuous, Datetime, Integer, Schema
from dpsynth.errors import InvalidInput

SCHEMA = Schema(
    columns=(
        Integer(name="age", min=18, max=90, clip=True),
        Continuous(name="wage", min=0, max=10, nullable=True),
        Categorical(name="town"),
        Datetime(name="joined", min="2020-01-01", max="2021-12-31"),
        Integer(name="code", min=None, max=None),
    )
)


def numbers(series: pd.Series) -> np.ndarray:
    return series.to_numpy()[:, None]


def towns(series: pd.Series) -> np.ndarray:
    """As a codec does whose values were bought: others are refused."""
    return np.array([[["Ayr", "Bath"].index(value)] for value in series])


ENCODE = {
    "age": numbers,
    "wage": numbers,
    "town": towns,
    "joined": numbers,
    "code": numbers,
    "@start": numbers,
}


def asked(**conditions):
    return encoded_conditions(conditions, SCHEMA, ENCODE, kind="a column")


@pytest.mark.parametrize(
    "conditions",
    [{"age": 18}, {"age": 90.0}, {"wage": None}, {"town": "Bath"}, {"joined": "2021-05-01"}, {"code": -7}],
)
def test_values_that_the_schema_allows_are_encoded(conditions):
    assert {name: len(row) for name, row in asked(**conditions).items()} == dict.fromkeys(conditions, 1)


@pytest.mark.parametrize(
    "conditions",
    [
        {"age": 91},  # also where the table's own values would be clipped
        {"age": 40.5},
        {"age": "forty"},
        {"age": None},
        {"wage": -0.1},
        {"wage": float("inf")},
        {"town": "Cork"},
        {"joined": "2019-12-31"},
        {"joined": "05/01/2021"},
        {"shoe": 3},
    ],
)
def test_other_values_are_refused_by_name(conditions):
    with pytest.raises(InvalidInput, match=next(iter(conditions))):
        asked(**conditions)


def test_every_problem_is_listed_and_derived_columns_have_no_rules():
    with pytest.raises(InvalidInput) as error:
        asked(age=5, wage=11, town="Cork", shoe=1)
    assert len(error.value.problems) == 4
    assert "@start" in encoded_conditions({"@start": 3}, SCHEMA, ENCODE, kind="a column")
