"""A column is recognised by its values, however they are written; any other value makes another column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.fingerprint import column_digests

MOMENTS = pd.date_range("2020-01-01", periods=5)
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
