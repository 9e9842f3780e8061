from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from worlds import measure

from dpsynth.data.rows.conditions import coerced, encoded_conditions, read_conditions
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Integer, Schema
from dpsynth.errors import InvalidInput
from experiments.overrides import as_typed, spell_out

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


BOUGHT = Schema(
    columns=(
        Categorical(name="region"),
        Categorical(name="code", dtype="Int64", nullable=True),
        Categorical(name="a=b", values=("NA", "007")),
        Boolean(name="true"),
        Datetime(name="day", format="%d.%m.%Y"),
        Continuous(name="Umsatz (€), netto", min=0, max=25),
    )
)
TABLE = pd.DataFrame({"region": ["101", "103"] * 9, "code": [1, 2] * 9, "a=b": ["NA", "007"] * 9})
TABLE = TABLE.assign(**{"true": True, "day": "31.12.2020", "Umsatz (€), netto": 12.5})
VALUES = {"region": ("101", "103"), "code": (1, 2)}
ENCODER = TableEncoder(BOUGHT, measure(TABLE, BOUGHT, values=VALUES, bounds={"day": (1.5e9, 1.7e9)}), "bins")


@pytest.mark.parametrize(
    ("text", "name", "stored"),
    [
        ("{region: 103}", "region", "103"),
        ('{"region": "103"}', "region", "103"),
        ("{code: 2}", "code", 2),
        ("{a=b: NA}", "a=b", "NA"),
        ("{a=b: 007}", "a=b", "007"),
        ("{'true': true}", "true", True),
        ("{day: 31.12.2020}", "day", "31.12.2020"),
        ('{"Umsatz (€), netto": 12.5}', "Umsatz (€), netto", 12.5),
        ('{"\\u0072egion": "(other)"}', "region", "(other)"),
    ],
)
def test_conditions_are_matched_by_text_and_read_by_the_kind_of_their_column(text, name, stored, tmp_path):
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    carried = as_typed(spell_out([f"conditions={text}"])[0].partition("=")[2])
    for given in (text, f"@{tmp_path}/c.yaml", carried):
        found = coerced(read_conditions(given), BOUGHT)
        assert found == {name: stored}
        code = ENCODER.condition_codes(found)
        packed = np.zeros((3, len(BOUGHT.columns)))
        packed[:, list(code)] = list(code.values())
        rows = ENCODER.decode(packed, seed=0, conditions=found)
        assert rows[name].tolist() == [stored] * 3


@pytest.mark.parametrize(
    "text", ["{region: nowhere}", "{code: 7}", "{a=b: 7}", "{day: 2020-12-31}", "{region: ~}"]
)
def test_values_that_were_not_bought_or_declared_are_refused(text):
    with pytest.raises(InvalidInput, match="the conditions has 1 problem"):
        ENCODER.condition_codes(coerced(read_conditions(text), BOUGHT))


def test_a_missing_value_can_be_asked_for():
    found = coerced(read_conditions("{code: null}"), BOUGHT)
    assert found == {"code": None}
    assert ENCODER.condition_codes(found) == {1: 3}  # after two values and the others


@pytest.mark.parametrize("text", ["[1", "- a", "{a: {b: c}}", "@nowhere.yaml", "3"])
def test_what_is_no_mapping_of_values_is_refused(text):
    with pytest.raises(InvalidInput):
        read_conditions(text)
