"""Files give back what was written: names, order, dtypes, missing values; broken files get one message."""

import gzip

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Identifier, Integer, Schema
from dpsynth.data.schema.dtypes import restore_frame, storage_dtype, surrogate_keys, with_format
from dpsynth.data.tables.io import read_draft, read_table, write_table
from dpsynth.errors import InvalidInput

ENDINGS = [".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet"]
SCHEMA = Schema(
    columns=(
        Datetime(name="when", nullable=True, format="%Y-%m-%d %H:%M:%S"),
        Continuous(name="x", nullable=True),
        Integer(name="n, with comma", nullable=True),
        Integer(name="m"),
        Categorical(name='c "quoted"', nullable=True),
        Categorical(name="k", values=(3, 1, 2), nullable=True),
        Categorical(name="half", values=(0.5, 1.0)),
        Boolean(name="b", nullable=True),
        Boolean(name="öß"),
        Identifier(name="id"),
        Datetime(name="clock", format="%H:%M:%S", nullable=True),
        Datetime(name="day", format="%Y%m%d", dtype="int64", nullable=True),
        Datetime(name="offset", format="%Y-%m-%dT%H:%M%z", nullable=True),
        Datetime(
            name="zone", format="%Y-%m-%d %H:%M:%S", dtype="datetime64[us, Europe/Berlin]", nullable=True
        ),
        Boolean(name="bit", dtype="int64", nullable=True),
        Continuous(name="cents", decimals=2, dtype="float32", nullable=True),
    ),
    missing=("\N{SYMBOL FOR NULL}",),
)
letters = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\x00", exclude_categories=("Cs",)), max_size=5
)
usual = st.sampled_from(["", "NA", "None", "null", "nan", "02116", "1.0", "=1+1", "true", " x "])
words = (letters | usual).filter(lambda t: t not in ("\N{SYMBOL FOR NULL}", "\ufeff"))
moments = st.datetimes(pd.Timestamp(1700, 1, 1), pd.Timestamp(2200, 1, 1)).map(
    lambda t: f"{t:%Y-%m-%d %H:%M:%S}"
)
DAYS = st.datetimes(pd.Timestamp(1970, 1, 1), pd.Timestamp(2100, 1, 1)).map(
    lambda d: d.replace(microsecond=0)
)
ROW = st.tuples(
    st.none() | moments,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.integers(-(2**53), 2**53),
    st.integers(-(2**53), 2**53),
    st.none() | words,
    st.sampled_from([None, 3, 1, 2]),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from([None, True, False]),
    st.booleans(),
    words,
    st.none() | st.times().map(lambda t: f"{t:%H:%M:%S}"),
    st.none() | DAYS.map(lambda d: int(f"{d:%Y%m%d}")),
    st.none() | DAYS.map(lambda d: f"{d:%Y-%m-%dT%H:%M}+0000"),
    st.none() | DAYS.map(lambda d: pd.Timestamp(d, tz="UTC")),
    st.sampled_from([None, 0, 1]),
    st.none() | st.integers(-9999, 9999).map(lambda n: n / 100),
)


def _frame(rows):
    names = [column.name for column in SCHEMA.columns]
    cells = {name: pd.Series(list(column), dtype=object) for name, column in zip(names, zip(*rows))}
    return restore_frame(pd.DataFrame(cells), SCHEMA)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=12, deadline=None)
@given(rows=st.lists(ROW, min_size=2, max_size=6))
def test_a_table_comes_back_as_it_was_written(ending, rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / f"table{ending}"
    frame = _frame(rows)
    write_table(frame, path, SCHEMA)
    again = read_table(path, SCHEMA)
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    assert with_format(SCHEMA, again) == SCHEMA


def _plain_parquet(path, with_missing):
    """Writes what other tools write: no notes of pandas."""
    columns = {
        "n": pa.array([1, 2, None if with_missing else 3], pa.int64()),
        "b": pa.array([True, False, None if with_missing else True]),
        "d": pa.array([0, 1, 2], pa.date32()),
        "m": pa.array(["1.10", "2.20", "3.30"]).cast(pa.decimal128(5, 2)),
        "c": pa.array(["x", "y", "x"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_a_missing_value_in_a_foreign_parquet_file_changes_no_dtype(tmp_path):
    schema = Schema(
        columns=(
            Integer(name="n", nullable=True),
            Boolean(name="b", nullable=True),
            Datetime(name="d"),
            Continuous(name="m"),
            Categorical(name="c", values=("x", "y")),
        )
    )
    found, naive = set(), set()
    for with_missing in (False, True):
        path = _plain_parquet(tmp_path / f"{with_missing}.parquet", with_missing)
        found.add(tuple(map(str, read_table(path, schema).dtypes)))
        naive.add(tuple(map(str, pd.read_parquet(path).dtypes)))
    assert found == {("Int64", "boolean", "datetime64[us]", "float64", "category")}
    assert len(naive) == 2  # the twin: pandas' own reading tells whether a value is missing


def test_large_whole_numbers_with_missing_ones_stay_exact(tmp_path):
    large = 2**53 - 1
    pq.write_table(pa.table({"n": pa.array([large, None, large - 1], pa.int64())}), tmp_path / "t.parquet")
    frame = read_table(tmp_path / "t.parquet", Schema(columns=(Integer(name="n", nullable=True),)))
    assert frame["n"].dropna().tolist() == [large, large - 1]


def test_the_index_of_a_frame_is_left_out():
    frame = pd.DataFrame({"a": [1, 2]}, index=["alice", "bob"])
    assert read_table(frame, Schema(columns=(Integer(name="a"),))).index.tolist() == [0, 1]
    assert frame.index.tolist() == ["alice", "bob"]


def test_an_index_that_is_declared_is_a_column():
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["alice", "bob"], name="who"))
    read = read_table(frame, Schema(columns=(Identifier(name="who"), Integer(name="a"))))
    assert read["who"].tolist() == ["alice", "bob"]
    assert list(frame) == ["a"]


def test_names_of_a_file_without_a_header_are_told_by_place_and_shown_in_the_terminal_alone(tmp_path):
    (tmp_path / "t.csv").write_text("4711,Ada Lovelace\n1,x\n2,y\n")
    with pytest.raises(InvalidInput) as caught:
        read_table(tmp_path / "t.csv", SMALL)
    assert "columns 1, 2: Is not declared" in str(caught.value)
    assert "Ada" not in str(caught.value)
    assert "'Ada Lovelace'" in caught.value.shown


def test_a_single_column_keeps_its_missing_rows(tmp_path):
    schema = Schema(columns=(Integer(name="a", nullable=True),))
    frame = pd.DataFrame({"a": pd.Series([1, None, 3, None], dtype="Int64")})
    write_table(frame, tmp_path / "t.csv", schema)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", schema), frame)


def test_a_schema_says_how_missing_values_and_dates_are_written(tmp_path):
    columns = (
        Datetime(name="d", format="%d/%m/%Y", nullable=True, dtype="datetime64[us]"),
        Integer(name="n"),
    )
    schema = Schema(columns=columns, missing=("?",))
    frame = pd.DataFrame(
        {"d": pd.to_datetime(pd.Series(["2001-02-03", None])).astype("datetime64[us]"), "n": [1, 2]}
    )
    write_table(frame, tmp_path / "t.csv", schema)
    assert (tmp_path / "t.csv").read_text() == "d,n\n03/02/2001,1\n?,2\n"
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", schema), frame)


def test_equal_tables_make_equal_gzip_files(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]})
    for name in ("one.csv.gz", "two.csv.gz"):
        write_table(frame, tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.csv.gz", "two.csv.gz"))
    assert gzip.decompress(one) == gzip.decompress(two)


SMALL = Schema(columns=(Integer(name="a"), Categorical(name="b")))
LATIN = "a,b\n1,Größe\n2,x\n".encode("latin-1")
FILES = {
    "empty.csv": (b"", "Is empty"),
    "blank.csv": (b"\n\n", "Is empty"),
    "header.csv": (b"a,b\n", "Has no rows"),
    "one_row.csv": (b"a,b\n1,x\n", "Has fewer than 2 rows"),
    "latin.csv": (LATIN, "Is not UTF-8 text"),
    "latin.csv.gz": (gzip.compress(LATIN), "Is not UTF-8 text"),
    "wide.csv": ("a,b\n1,x\n2,y\n".encode("utf-16"), "Is not UTF-8 text"),
    "ragged.csv": (b"a,b\n1,x\n2,y,z\n", "do not all have as many cells"),
    "quote.csv": (b'a,b\n1,"x\n2,y\n', "quote is not closed"),
    "separator.csv": (b"a;b\n1;x\n2;y\n", "Is declared but not in the table"),
    "twice.csv": (b"a,b,a\n1,x,1\n2,y,2\n", "column 'a': Its name occurs more than once"),
    "missing.csv": (b"a\n1\n2\n", "column 'b': Is declared but not in the table"),
    "extra.csv": (b"a,b,z\n1,x,1\n2,y,2\n", "column 3: Is not declared"),
    "case.csv": (b"A,b\n1,x\n2,y\n", "column 'a': Is declared but not in the table. Correct its name."),
    "near.csv": (b"a,b_\n1,x\n2,y\n", "column 2: Is not declared"),
    "no.csv.gz": (b"not gzip", "Is not a complete gzip file"),
    "cut.csv.gz": (gzip.compress(b"a,b\n" + b"1,x\n" * 9999)[:40], "Is not a complete gzip file"),
    "no.parquet": (b"not parquet", "Cannot be read"),
    "empty.parquet": (b"", "Is empty"),
    "table.xlsx": (b"x", "Its ending '.xlsx' is unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_gets_one_message_that_says_what_to_do(name, tmp_path):
    content, rule = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_table(tmp_path / name, SMALL)
    assert rule in str(caught.value)
    assert name in str(caught.value)
    assert all(problem.fix for problem in caught.value.problems)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        read_table(tmp_path / "none.csv", SMALL)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,y\n", encoding="utf-8-sig")
    assert list(read_table(tmp_path / "t.csv", SMALL)) == ["a", "b"]


def test_names_that_are_no_text_are_refused():
    with pytest.raises(InvalidInput, match="column 1: Is not declared"):
        read_table(pd.DataFrame({0: [1, 2], "a": [1, 2], "b": ["x", "y"]}), SMALL)


def test_dtypes_of_a_parquet_file_are_read_without_its_values(tmp_path, monkeypatch):
    types = {"int8": pa.int8(), "uint32": pa.uint32(), "float32": pa.float32(), "bool": pa.bool_()}
    types |= {"str": pa.large_string(), "category": pa.dictionary(pa.int32(), pa.string())}
    types |= {"datetime64[us]": pa.timestamp("ns"), "datetime64[us, UTC]": pa.timestamp("ms", "UTC")}
    schema = pa.schema([pa.field(name, kind) for name, kind in types.items()])
    pq.write_table(pa.Table.from_pylist([], schema), tmp_path / "t.parquet")
    monkeypatch.setattr(pq, "read_table", lambda *a, **k: pytest.fail("values were read"))
    drafted = Schema(columns=read_draft(tmp_path / "t.parquet"))
    assert {c.name: storage_dtype(c) for c in drafted.columns} == {name: name for name in types}


@pytest.mark.parametrize("content", ["a,a\n1,2\n", "a,\n1,2\n"])
def test_dtypes_of_a_file_without_proper_names_are_refused(content, tmp_path):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InvalidInput):
        read_draft(tmp_path / "t.csv")


@pytest.mark.parametrize("dtype", [None, "int64", "Int32", "str", "string", "object", "category", "float64"])
def test_surrogate_keys_are_fresh_and_unique(dtype):
    keys = surrogate_keys(Identifier(name="id", dtype=dtype), 12)
    assert keys.nunique() == 12
    wide = {"Int32": "Int64", "float64": "int64"}.get(dtype, dtype)  # there may be many to name
    assert str(keys.dtype) == (wide or "str")
    assert [str(int(float(key))) for key in keys] == [str(n) for n in range(12)]


KEPT = ["NA", "None", "null", "", "nan", "x"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("declared", ["values", "missing"])
def test_texts_that_look_missing_are_values_where_the_schema_says_so(ending, declared, tmp_path):
    if declared == "values":
        schema = Schema(columns=(Categorical(name="c", values=tuple(KEPT), nullable=True),))
    else:
        schema = Schema(columns=(Categorical(name="c", nullable=True),), missing=("?",))
    frame = pd.DataFrame({"c": pd.Series([*KEPT, None], dtype="str")})
    write_table(frame, tmp_path / f"t{ending}", schema)
    pd.testing.assert_frame_equal(read_table(tmp_path / f"t{ending}", schema), frame)


def test_a_text_that_would_be_read_as_missing_is_not_written(tmp_path):
    schema = Schema(columns=(Categorical(name="c", nullable=True),))
    frame = pd.DataFrame({"c": ["x", "NA"]})
    with pytest.raises(InvalidInput, match="column 'c': Holds a text that would be read as missing"):
        write_table(frame, tmp_path / "t.csv", schema)
    assert not (tmp_path / "t.csv").exists()


def test_a_refusal_names_the_text_that_was_taken_for_missing(tmp_path):
    (tmp_path / "t.csv").write_text("c,n\nNA,1\nBW,2\n")
    schema = Schema(columns=(Categorical(name="c"), Integer(name="n")))
    with pytest.raises(InvalidInput, match=r"list it in values, or declare missing: \[''\]") as caught:
        read_table(tmp_path / "t.csv", schema)
    assert "'NA' taken for missing" in caught.value.shown
    assert "'NA'" not in str(caught.value)


def test_texts_of_a_typed_table_are_values_in_the_text_file_of_its_release(tmp_path):
    from dpsynth.data.tables.datasets import DataConfig, load

    frame = pd.DataFrame({"c": pd.Series(["NA", "None", None], dtype="str"), "x": [0.5, 1.5, 2.5]})
    frame.to_parquet(tmp_path / "t.parquet")
    Schema(columns=(Categorical(name="c", nullable=True), Continuous(name="x"))).dump(tmp_path / "s.yaml")
    read, schema = load(
        DataConfig(name="csv", path=str(tmp_path / "t.parquet"), schema=str(tmp_path / "s.yaml"))
    )
    write_table(read, tmp_path / "t.csv", schema)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", schema), frame)
