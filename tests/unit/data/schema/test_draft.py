"""A draft comes from names and dtypes alone, says what is left to declare, and goes to SDV and back."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.data.schema import (
    Boolean,
    Categorical,
    Continuous,
    Datetime,
    Drop,
    Identifier,
    Integer,
    Schema,
    Sequence,
    Unit,
)
from dpsynth.data.schema.draft import draft, draft_yaml
from dpsynth.data.schema.sdv import from_sdv, merge_dtypes, to_sdv
from dpsynth.data.tables.io import read_draft, read_table, write_table
from dpsynth.errors import InvalidInput
from experiments.schema import checked, text_of

DTYPES = {
    "n": "int64",
    "x": "float64",
    "s": "str",
    "b": "bool",
    "t": "datetime64[us]",
    "k": "category",
    "i": "Int8",
}


def test_dtypes_decide_the_kinds_and_declare_nothing():
    schema = draft(DTYPES)
    kinds = [Integer, Continuous, Categorical, Boolean, Datetime, Categorical, Integer]
    assert [type(column) for column in schema.columns] == kinds
    assert [name for name, _ in schema.undeclared] == ["n", "x", "s", "t", "k", "i"]
    assert {c.name: c.dtype for c in schema.columns if c.dtype} == {
        "t": "datetime64[us]",
        "k": "category",
        "i": "Int8",
    }
    assert (schema.num_units, schema.target, schema.unit) == (None, None, Unit())


def test_a_draft_is_a_schema_file_that_marks_what_is_open(tmp_path):
    text = draft_yaml(draft(DTYPES))
    (tmp_path / "s.yaml").write_text(text)
    assert Schema.load(tmp_path / "s.yaml") == draft(DTYPES)
    lines = {line.split("name: ")[1].split(",")[0]: line for line in text.splitlines() if "name: " in line}
    assert lines["x"].endswith("# declare, or bought: min, max")
    assert lines["s"].endswith("# declare, or bought: values")
    assert "codes are categorical" in lines["n"]
    assert "#" not in lines["b"]
    for key in ("# unit:", "# num_units:", "# target:"):
        assert key in text


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_tables_with_equal_dtypes_get_equal_drafts(ending, tmp_path):
    one = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 1.5]})
    two = pd.DataFrame({"a": [-70, 9, 9], "b": ["secret", "z", "z"], "c": [1e9, -2.0, 0.25]})
    texts = set()
    for number, frame in enumerate((one, two)):
        path = tmp_path / f"{number}{ending}"
        write_table(frame, path)
        texts.add(text_of(checked({"data": {"path": str(path)}})))
    assert len(texts) == 1
    assert "secret" not in texts.pop()


FULL = Schema(
    columns=(
        Continuous(name="x", min=0, max=1),
        Integer(name="n", min=0, max=9),
        Categorical(name="c", values=("a",)),
        Boolean(name="b"),
        Datetime(name="d", format="%d %b %Y"),
        Identifier(name="id"),
        Drop(name="mail"),
    ),
    unit=Unit(column="id", max_rows=4),
    sequence=Sequence(time="d", max_length=4),
)


def test_export_says_what_sdv_can_hold():
    assert to_sdv(FULL) == {
        "METADATA_SPEC_VERSION": "SINGLE_TABLE_V1",
        "columns": {
            "x": {"sdtype": "numerical", "computer_representation": "Float"},
            "n": {"sdtype": "numerical", "computer_representation": "Int64"},
            "c": {"sdtype": "categorical"},
            "b": {"sdtype": "boolean"},
            "d": {"sdtype": "datetime", "datetime_format": "%d %b %Y"},
            "id": {"sdtype": "id"},
            "mail": {"sdtype": "unknown", "pii": True},
        },
        "sequence_key": "id",
        "sequence_index": "d",
    }


def test_import_gives_back_kinds_and_formats_and_leaves_the_rest_undeclared():
    schema, notes = from_sdv(to_sdv(FULL))
    assert [(c.name, type(c)) for c in schema.columns] == [(c.name, type(c)) for c in FULL.columns]
    assert schema.column("d").format == "%d %b %Y"
    assert schema.undeclared == (("x", "bounds"), ("n", "bounds"), ("c", "values"), ("d", "bounds"))
    assert schema.unit == Unit(column="id")
    assert any("max_rows" in note for note in notes)
    assert to_sdv(from_sdv(to_sdv(draft(DTYPES)))[0]) == to_sdv(draft(DTYPES))


def test_personal_information_is_dropped_and_keys_are_identifiers():
    columns = {
        "email": {"sdtype": "email", "pii": True},
        "phone": {"sdtype": "phone_number"},
        "name": {"sdtype": "categorical", "pii": True},
        "key": {"sdtype": "numerical"},
        "x": {"sdtype": "numerical"},
    }
    table = {"columns": columns, "primary_key": "key"}
    schema, notes = from_sdv({"METADATA_SPEC_VERSION": "V1", "tables": {"guests": table}})
    assert [type(c) for c in schema.columns] == [Drop, Drop, Drop, Identifier, Continuous]
    assert sum("dropped" in note for note in notes) == 3


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ([], "Is not a JSON object"),
        ({"columns": {}}, "METADATA_SPEC_VERSION=None is unknown"),
        ({"METADATA_SPEC_VERSION": "V1", "tables": {"a": {}, "b": {}}}, "exactly one table"),
        ({"METADATA_SPEC_VERSION": "V1", "columns": {}}, "Is missing or empty"),
        (
            {"METADATA_SPEC_VERSION": "V1", "columns": {"a": {}, "b": {"sdtype": "boolean"}}},
            "'a': Has no sdtype",
        ),
        (
            {"METADATA_SPEC_VERSION": "V1", "columns": {"a": {"sdtype": "datetime", "datetime_format": "x"}}},
            "is not a strptime format",
        ),
    ],
)
def test_metadata_that_cannot_be_read_is_refused(metadata, rule):
    with pytest.raises(InvalidInput) as caught:
        from_sdv(metadata)
    assert rule in str(caught.value)


def test_a_table_refines_imported_metadata(tmp_path):
    facts = {"x": {"sdtype": "numerical"}, "n": {"sdtype": "numerical"}, "c": {"sdtype": "categorical"}}
    (tmp_path / "m.json").write_text(
        json.dumps({"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", "columns": facts})
    )
    (tmp_path / "t.csv").write_text("c,n,x\n1,1,0.5\n2,2,1.5\n")
    text = text_of(checked({"data": {"path": str(tmp_path / "t.csv")}, "sdv": str(tmp_path / "m.json")}))
    (tmp_path / "s.yaml").write_text(text)
    columns = Schema.load(tmp_path / "s.yaml").columns
    assert [(c.name, type(c)) for c in columns] == [("c", Categorical), ("n", Integer), ("x", Continuous)]
    with pytest.raises(InvalidInput, match="Is not in the metadata"):
        merge_dtypes(from_sdv(to_sdv(FULL))[0], draft({"other": "int64"}))


def test_export_of_a_schema_file(tmp_path):
    FULL.dump(tmp_path / "s.yaml")
    text = text_of(checked({"data": {"schema": str(tmp_path / "s.yaml")}, "sdv": "export"}))
    assert json.loads(text) == to_sdv(FULL)


@pytest.mark.parametrize(
    ("node", "rules"),
    [
        ({"data": {}}, ["Add data.path=FILE"]),
        ({"data": {}, "sdv": "export"}, ["Add data.schema=FILE"]),
        ({"data": {"path": "no.csv"}, "sdv": "no.json", "out": "."}, ["'no.csv'", "'no.json'", "'.' exists"]),
        ({"data": {"path": __file__}, "sdvv": "x"}, ["Did you mean 'sdv'"]),
        ({"data": {"path": __file__, "schema": __file__}}, ["Is there already"]),
    ],
)
def test_a_request_that_cannot_work_is_refused_before_reading(node, rules):
    with pytest.raises(InvalidInput) as caught:
        checked(node)
    for rule in rules:
        assert rule in str(caught.value)


def test_drafting_gives_the_dtypes_that_reading_needs(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1,x,true\n2,y,false\n")
    assert [c.kind for c in read_draft(tmp_path / "t.csv")] == [
        "integer",
        "categorical",
        "boolean",
    ]


LOOKS = {
    "padded": (["02116", "10025"], {"kind": "categorical"}),
    "codes": (["001", "002", ""], {"kind": "categorical", "nullable": True}),
    "phones": (["+4989", "+4930"], {"kind": "categorical"}),
    "long": (["9007199254740993", "12"], {"kind": "categorical"}),
    "whole": (["1", "-20", "0"], {"kind": "integer"}),
    "whole with blanks": (["1", "", "3"], {"kind": "integer", "nullable": True}),
    "whole as floats with blanks": (["1.0", "NA", "3.0"], {"kind": "integer", "nullable": True}),
    "numbers": (["1.0", "2.5e3"], {"kind": "continuous"}),
    "bits": (["0", "1"], {"kind": "boolean", "dtype": "int64"}),
    "bits with blanks": (["0", "1", ""], {"kind": "boolean", "dtype": "int64", "nullable": True}),
    "float bits with blanks": (["0.0", "", "1.0"], {"kind": "boolean", "dtype": "int64", "nullable": True}),
    "zeros": (["0", "0"], {"kind": "integer"}),
    "truth": (["TRUE", "false"], {"kind": "boolean"}),
    "letters": (["Y", "N", ""], {"kind": "categorical", "values": ["N", "Y"], "nullable": True}),
    "one letter": (["N", "N"], {"kind": "categorical", "values": ["N", "Y"]}),
    "words": (["yes", "no"], {"kind": "categorical", "values": ["no", "yes"]}),
    "initials": (["T", "F"], {"kind": "categorical", "values": ["F", "T"]}),
    "mixed": (["Y", "no"], {"kind": "categorical"}),
    "days as numbers": (["20240131", "19991231"], {"kind": "datetime", "format": "%Y%m%d"}),
    "no day": (["20240231", "19991231"], {"kind": "integer"}),
    "days": (["31.01.2024", "01.02.2024"], {"kind": "datetime", "format": "%d.%m.%Y"}),
    "moments": (["2024-01-31 10:00", "2024-02-01 11:30"], {"kind": "datetime", "format": "%Y-%m-%d %H:%M"}),
    "offsets": (
        ["2024-01-31T10:00:00+02:00", "2024-02-01T11:30:00Z"],
        {"kind": "datetime", "format": "%Y-%m-%dT%H:%M:%S%z"},
    ),
    "times": (["14:30", "09:05"], {"kind": "datetime", "format": "%H:%M", "min": "00:00", "max": "23:59"}),
    "durations": (["36:15:00", "01:30:00"], {"kind": "categorical"}),
    "blank": (["", ""], {"kind": "categorical"}),
}  # fmt: skip


@pytest.mark.parametrize("look", LOOKS)
def test_a_text_column_is_drafted_by_the_look_of_its_cells_and_what_is_drafted_is_read(look, tmp_path):
    cells, facts = LOOKS[look]
    pd.DataFrame({"c": cells, "x": "word"}).to_csv(tmp_path / "t.csv", index=False)
    columns = read_draft(tmp_path / "t.csv")
    assert columns[0].to_dict() == {"name": "c", **facts}
    if look != "blank":
        schema = Schema(columns=columns)
        read = read_table(tmp_path / "t.csv", schema)
        write_table(read, tmp_path / "u.csv", schema)
        pd.testing.assert_frame_equal(read_table(tmp_path / "u.csv", schema), read)


def test_types_of_a_file_are_kinds_and_what_no_kind_takes_is_left_out(tmp_path):
    columns = {
        "amount": pa.array(["1.10", "2.25"]).cast(pa.decimal128(10, 2)),
        "count": pa.array(["1", "2"]).cast(pa.decimal128(5, 0)),
        "clock": pa.array([1, 2], pa.time64("us")),
        "stay": pa.array([1, 2], pa.duration("s")),
        "tags": pa.array([["a"], []]),
        "zoned": pa.array([0, 1], pa.timestamp("us", "Europe/Berlin")),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    drafted = [column.to_dict() for column in read_draft(tmp_path / "t.parquet")]
    assert drafted == [
        {"name": "amount", "kind": "continuous", "decimals": 2},
        {"name": "count", "kind": "integer"},
        *({"name": name, "kind": "drop"} for name in ("clock", "stay", "tags")),
        {
            "name": "zoned",
            "kind": "datetime",
            "dtype": "datetime64[us, Europe/Berlin]",
            "format": "%Y-%m-%d %H:%M:%S",
        },
    ]
    read = read_table(tmp_path / "t.parquet", Schema(columns=read_draft(tmp_path / "t.parquet")))
    assert read["amount"].tolist() == [1.1, 2.25]
    assert read["count"].dtype == "int64"


def test_an_index_that_pandas_stored_as_a_column_is_drafted(tmp_path):
    index = pd.Index(["p1", "p2"], name="patient_id")
    pd.DataFrame({"x": [0.5, 1.5]}, index=index).to_parquet(tmp_path / "t.parquet")
    assert {column.name for column in read_draft(tmp_path / "t.parquet")} == {"x", "patient_id"}


@pytest.mark.parametrize(("kind", "fix"), [(pa.time64("us"), "14:30:00"), (pa.duration("s"), "seconds")])
def test_times_and_durations_are_refused_by_name_with_a_way_out(kind, fix, tmp_path):
    pq.write_table(pa.table({"c": pa.array([1, 2], kind), "x": [0.5, 1.5]}), tmp_path / "t.parquet")
    schema = Schema(columns=(Categorical(name="c"), Continuous(name="x")))
    with pytest.raises(InvalidInput, match=rf"Its type is (time64|duration)\..*{fix}"):
        read_table(tmp_path / "t.parquet", schema)


def test_days_as_whole_numbers_come_back_as_whole_numbers():
    schema = Schema(
        columns=(Datetime(name="d", format="%Y%m%d", min="20200101", max="20251231", nullable=True),)
    )
    frame = pd.DataFrame({"d": pd.Series([20240131, None], dtype="Int64")})
    read = read_table(frame, schema)
    pd.testing.assert_frame_equal(read, frame)
    with pytest.raises(InvalidInput, match="not dates in format"):
        read_table(pd.DataFrame({"d": [20240131, 20241331]}), schema)


def test_moments_with_offsets_are_kept_and_written_in_utc(tmp_path):
    day = {"format": "%Y-%m-%dT%H:%M%z", "min": "2024-01-01T00:00+0000", "max": "2024-12-31T00:00+0000"}
    schema = Schema(columns=(Datetime(name="d", **day),))
    (tmp_path / "t.csv").write_text("d\n2024-06-01T10:00+02:00\n2024-06-01T08:00Z\n")
    read = read_table(tmp_path / "t.csv", schema)
    assert read["d"].tolist() == ["2024-06-01T08:00+0000"] * 2
