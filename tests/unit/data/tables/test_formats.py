"""One table in any format gives one release schema, whether or not one value is missing."""

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Identifier, Integer, Schema
from dpsynth.data.schema.dtypes import restore_frame, with_format
from dpsynth.data.tables.io import read_table
from dpsynth.errors import InvalidInput

DAY = pd.Timestamp("2000-01-31")
# Column, values, and the dtypes in which a frame may hold them.
WHOLE = ["int64", "int8", "uint16", "Int32", "float64", "object", "int64[pyarrow]"]
NUMBERS = ["float64", "float32", "Float64", "object", "double[pyarrow]"]
CODES = ["int64", "Int8", "float64", "object"]
MOMENTS = ["datetime64[s]", "datetime64[ns]"]
KINDS = {
    "whole": (Integer(name="c"), [3, 1, 2], WHOLE),
    "narrow": (Integer(name="c", dtype="int16"), [3, 1, 2], ["int64", "int16", "Int8", "float64", "object"]),
    "number": (Continuous(name="c"), [0.5, 0.1, -0.0], NUMBERS),
    "truth": (Boolean(name="c"), [True, False, True], ["bool", "boolean", "int64", "float64", "object"]),
    "listed": (Categorical(name="c", values=("x", "y")), ["x", "y", "x"], ["str", "string", "object"]),
    "listed codes": (Categorical(name="c", values=(1, 2)), [1, 2, 1], CODES),
    "open": (Categorical(name="c"), ["x", "y", "x"], ["str", "string", "string[pyarrow]"]),
    "open codes": (Categorical(name="c", dtype="int64"), [1, 2, 1], CODES),
    "list": (Categorical(name="c", dtype="category"), ["x", "y", "x"], ["category", "str"]),
    "day": (Datetime(name="c"), ["2000-01-31", "1999-02-01", "2000-01-31"], ["str", "object"]),
    "moment": (Datetime(name="c", dtype="datetime64[us]"), [DAY, DAY, DAY], MOMENTS),
    "key": (Identifier(name="c", dtype="int64"), [7, 8, 9], ["int64", "uint8", "Int64", "float64"]),
}  # fmt: skip
FORMATS = ["csv", "tsv", "csv.gz", "noted", "plain", "frame"]
CASES = [
    pytest.param(kind, dtype, nullable, id=f"{kind}-{dtype}-{'nullable' if nullable else 'full'}")
    for kind, (_, _, dtypes) in KINDS.items()
    for dtype, nullable in itertools.product(dtypes, (False, True))
]


def _frame(values, dtype):
    """What pandas makes of values: a missing one turns whole numbers to floats and truth to objects."""
    gap = any(value is None for value in values)
    if gap and (dtype == "bool" or np.issubdtype(_plain(dtype), np.integer)):
        return pd.DataFrame({"c": pd.Series(values, dtype=object if dtype == "bool" else "float64")})
    return pd.DataFrame({"c": pd.Series(values, dtype=object if dtype == "object" else None).astype(dtype)})


def _plain(dtype):
    try:
        return np.dtype(dtype)
    except TypeError:
        return np.dtype(object)


def _source(frame, form, folder):
    path = folder / f"t.{form if form not in ('noted', 'plain') else 'parquet'}"
    if form == "frame":
        return frame
    if form == "noted":
        frame.to_parquet(path, index=False)
    elif form == "plain":
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata({}), path)
    else:
        frame.to_csv(path, index=False, sep="\t" if form == "tsv" else ",")
    return path


@pytest.mark.parametrize(("kind", "dtype", "nullable"), CASES)
def test_every_format_gives_one_release_schema_with_and_without_a_missing_value(
    kind, dtype, nullable, tmp_path
):
    column, values, _ = KINDS[kind]
    schema = Schema(columns=(type(column)(**{**vars(column), "nullable": nullable}), Continuous(name="x")))
    tables = [values, [None, *values[1:]], [*values[:-1], None]] if nullable else [values]
    found, rows = set(), []
    for number, table in enumerate(tables):
        frame = _frame(table, dtype).assign(x=0.5)
        for form in FORMATS:
            folder = tmp_path / f"{number}-{form}"
            folder.mkdir()
            read = read_table(_source(frame, form, folder), schema)
            found.add((with_format(schema, read).digest, tuple(map(str, read.dtypes))))
            rows.append([None if pd.isna(value) else value for value in read["c"]])
    if kind in ("list",):  # lists of categories are private: dtypes are compared by name
        found = {(digest, *(dtype.partition("(")[0] for dtype in dtypes)) for digest, dtypes in found}
    assert len(found) == 1
    for place, table in enumerate(tables):
        assert all(row == table for row in rows[place * len(FORMATS) : (place + 1) * len(FORMATS)])


def test_the_comparison_would_see_what_pandas_infers():
    seen = {str(_frame(values, "int64")["c"].dtype) for values in ([1, 2], [1, None])}
    assert seen == {"int64", "float64"}  # the twin: dtypes as pandas has them


@pytest.mark.parametrize(
    "dtype", ["Int8", "float32", "boolean", "str", "object", "datetime64[us, Europe/Berlin]"]
)
def test_a_declared_dtype_is_the_one_that_comes_back(dtype):
    kind = {"I": Integer, "f": Continuous, "b": Boolean, "d": Datetime}.get(dtype[0], Categorical)
    values = {"I": [1, None], "f": [0.5, None], "b": [True, None], "d": [DAY, None]}.get(
        dtype[0], ["x", None]
    )
    schema = Schema(columns=(kind(name="c", nullable=True, dtype=dtype),))
    read = read_table(pd.DataFrame({"c": pd.Series(values)}), schema)
    assert str(read["c"].dtype) == dtype
    assert str(restore_frame(read.astype(object), schema)["c"].dtype) == dtype


EQUAL = {
    "signs of zero": [0.0, -0.0],
    "widths": [np.float32(0.1), 0.1],
    "whole, float and truth": [1, 1.0, True],
}


@pytest.mark.parametrize("looks", EQUAL)
def test_equal_values_have_one_look_whoever_comes_first(looks):
    schema = Schema(columns=(Categorical(name="c", dtype="float64"),))
    seen = set()
    for order in itertools.permutations(EQUAL[looks]):
        frame = pd.DataFrame({"c": pd.Series([*order, 2.5], dtype=object)})
        if looks == "widths":
            frame = frame.assign(c=[np.float64(str(v)) for v in frame["c"]])
        seen.add(repr(read_table(frame, schema)["c"].unique().tolist()))
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32", "Float64", "double[pyarrow]"])
def test_a_negative_zero_and_a_narrow_tenth_are_read_as_one_writes_them(dtype):
    frame = pd.DataFrame({"c": pd.Series([-0.0, 0.1]).astype(dtype)})
    for column in (Categorical(name="c"), Continuous(name="c", max=0.1)):
        read = read_table(frame, Schema(columns=(column,)))["c"]
        assert repr(read.tolist()) == "[0.0, 0.1]"


def test_texts_that_look_alike_are_one_value_only_where_the_schema_says_so():
    frame = pd.DataFrame({"c": ["é", "e\u0301"]})
    plain, joined = Categorical(name="c"), Categorical(name="c", normalise="NFC")
    assert read_table(frame, Schema(columns=(plain,)))["c"].nunique() == 2
    assert read_table(frame, Schema(columns=(joined,)))["c"].tolist() == ["é", "é"]
    with pytest.raises(InvalidInput, match="Write one of NFC, NFKC"):
        Schema(columns=(Categorical(name="c", normalise="nfd"),))
    with pytest.raises(InvalidInput, match="is not in form NFC"):
        Schema(columns=(Categorical(name="c", values=("e\u0301",), normalise="NFC"),))


def test_values_that_are_not_listed_count_as_the_declared_other_one():
    schema = Schema(columns=(Categorical(name="c", values=("x", "rest"), other="rest", nullable=True),))
    frame = pd.DataFrame({"c": ["x", "y", None]})
    assert read_table(frame, schema)["c"].fillna("?").tolist() == ["x", "rest", "?"]
    with pytest.raises(InvalidInput, match="other='z' is not among its values"):
        Schema(columns=(Categorical(name="c", values=("x",), other="z"),))


@pytest.mark.parametrize(
    ("kind", "name"),
    [(pa.list_(pa.int64()), "list"), (pa.struct([("a", pa.int64())]), "struct"), (pa.binary(), "binary")],
)
def test_types_that_no_kind_takes_are_refused_by_name_unless_dropped(kind, name, tmp_path):
    pq.write_table(pa.table({"c": pa.array([None, None], kind), "x": [0.5, 1.5]}), tmp_path / "t.parquet")
    schema = Schema(columns=(Categorical(name="c", nullable=True), Continuous(name="x")))
    with pytest.raises(InvalidInput, match=rf"column 'c': Its type is {name}\."):
        read_table(tmp_path / "t.parquet", schema)


def test_a_column_without_any_value_has_the_dtype_of_one_with_a_value(tmp_path):
    schema = Schema(columns=(Categorical(name="c", nullable=True), Integer(name="n", nullable=True)))
    found = set()
    for first in ({"c": None, "n": None}, {"c": "x", "n": 1}):
        rows = pa.table({key: pa.array([value, None]) for key, value in first.items()})
        pq.write_table(rows, tmp_path / "t.parquet")
        found.add(tuple(map(str, read_table(tmp_path / "t.parquet", schema).dtypes)))
    assert found == {("str", "Int64")}
