from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Integer, Schema
from dpsynth.evaluation.validity import invalid_cells, validity


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        (Integer(name="v", min=1, max=3), [1, 2.0, 3], [0, 4, 2.5, None]),
        (Continuous(name="v", min=0, max=9, decimals=2), [0.01, 0.1 + 0.2, 9.0], [0.001, 9.01, np.nan]),
        (Continuous(name="v", min=0, max=9, nullable=True), [0.123456, np.nan], [-1e-9, np.inf]),
        (Continuous(name="v"), [1e12, -3.0], [np.nan]),
        (Categorical(name="v", values=("a", "b")), ["a", "b"], ["c", None, "A"]),
        (Categorical(name="v", values=(1, 2), nullable=True), [1, 2, None], [3]),
        (Boolean(name="v"), [True, False], [None, 2]),
        (Datetime(name="v", min="2020-01-01", max="2020-12-31"), ["2020-02-03"], ["2021-01-01", "x", None]),
    ],
)
def test_each_declaration_is_checked(column, good, bad):
    schema = Schema(columns=(column,))
    for value in good:
        table = pd.DataFrame({"v": pd.Series([value], dtype=object)})
        assert not invalid_cells(table, schema)["v"].iloc[0], value
    for value in bad:
        table = pd.DataFrame({"v": pd.Series([value], dtype=object)})
        assert invalid_cells(table, schema)["v"].iloc[0], value


def test_shares_count_rows_and_cells_and_are_released():
    schema = Schema(columns=(Integer(name="a", min=0, max=1), Integer(name="b", min=0, max=1)))
    found = {m.name: m for m in validity(pd.DataFrame({"a": [0, 5, 1, 1], "b": [0, 5, 5, 1]}), schema)}
    assert found["valid_rows"].value == 0.5 and found["valid_cells"].value == 5 / 8
    assert found["valid_rows"].visibility == "released"


def test_real_decimals_pass_whatever_their_size():
    schema = Schema(columns=(Continuous(name="a", min=-1e7, max=1e7, decimals=3),))
    values = np.round(np.random.default_rng(0).uniform(-1e7, 1e7, 10_000), 3)
    assert validity(pd.DataFrame({"a": values}), schema)[0].value == 1.0


def test_a_missing_column_is_invalid_in_every_row():
    schema = Schema(columns=(Integer(name="a", min=0, max=1), Integer(name="b", min=0, max=1)))
    assert invalid_cells(pd.DataFrame({"a": [0]}), schema)["b"].tolist() == [True]
