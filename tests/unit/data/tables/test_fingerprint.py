"""A column is recognised by its values, however they are written; any other value makes another column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.schema import Categorical, Datetime, Drop, Integer, Schema
from dpsynth.data.tables.fingerprint import column_digests
from dpsynth.data.tables.io import read_table, write_table

MOMENTS = pd.date_range("2020-01-01", periods=5)
FAR = pd.DatetimeIndex(["1600-01-01", "3000-05-06"], dtype="datetime64[us]")
SAME = {
    "numbers": [
        pd.Series([1, 2, 3, 3]),
        pd.Series([3.0, 1.0, 3.0, 2.0]),
        pd.Series(["1", "3.0", "2", "3"]),
        pd.Series([1, 2, 3, 3], dtype="Int8"),
        pd.Series([1, 2, 3, 3]).astype("category"),
        pd.Series([1, "2", 3.0, " 3 "], dtype=object),
    ],
    "truth": [
        pd.Series([True, False, True]),
        pd.Series([1, 0, 1]),
        pd.Series(["True", "false", "TRUE"]),
        pd.Series([True, False, 1.0], dtype=object),
    ],
    "text": [
        pd.Series(["a", "b"]),
        pd.Series(["b", "a"]).astype("category"),
        pd.Series(["b", "a"], dtype=object),
    ],
    "gaps": [
        pd.Series([1.5, np.nan]),
        pd.Series([None, "1.5"]),
        pd.Series(["1.5", ""]),
        pd.Series(["1.5", "NA"]),
        pd.Series([1.5, None], dtype="Float64"),
    ],
    "fractions": [
        pd.Series([0.1, 1e-9], dtype="float32"),
        pd.Series([0.1, 1e-9]),
        pd.Series(["0.1", "1e-9"]),
    ],
    "zeros": [pd.Series([0.0, -0.0]), pd.Series([0, 0]), pd.Series(["-0", "0.0"])],
    "far moments": [
        pd.Series(FAR),
        pd.Series(["1600-01-01", "3000-05-06"]),
        pd.Series(FAR).dt.tz_localize("UTC"),
    ],
    "moments": [pd.Series(MOMENTS), pd.Series(MOMENTS.strftime("%Y-%m-%d")), pd.Series(MOMENTS.as_unit("s"))],
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_values_are_one_column(kind):
    found = {column_digests(column.to_frame("x")) for column in SAME[kind]}
    assert len(found) == 1


def test_other_values_are_other_columns():
    columns = [columns[0] for columns in SAME.values()]
    columns += [
        pd.Series([1, 2, 2, 3]),
        pd.Series([1, 2, 3]),
        pd.Series(["a", "b", "b"]),
        pd.Series([], dtype=float),
    ]
    assert len({column_digests(column.to_frame("x")) for column in columns}) == len(columns)


def test_names_and_order_do_not_matter():
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    assert column_digests(frame) == column_digests(frame[["b", "a"]].iloc[::-1].set_axis(["p", "q"], axis=1))


@pytest.mark.parametrize("ending", [".csv", ".parquet", "frame"])
def test_columns_that_a_schema_drops_are_known_as_well(ending, tmp_path):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [7, 8, 9], "c": ["x", "y", "z"], "when": MOMENTS[:3]})
    source = frame
    if ending != "frame":
        source = tmp_path / f"table{ending}"
        write_table(frame, source)
    found = set()
    for kept in ("a", "b"):
        kinds = {"a": Integer, "b": Integer, "c": Categorical, "when": Datetime}
        columns = [(kinds[name] if name == kept else Drop)(name=name) for name in frame]
        found.add(column_digests(read_table(source, Schema(columns=tuple(columns)))))
    assert found == {column_digests(frame)}


def test_a_dropped_column_may_hold_anything(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "lists": [[1], [2, 3]]})
    schema = Schema(columns=(Integer(name="a"), Drop(name="lists")))
    frame.to_parquet(tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.parquet"):
        assert list(read_table(source, schema)) == ["a"]
