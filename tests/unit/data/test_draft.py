"""A draft comes from names and dtypes alone, says what is left to declare, and goes to SDV and back."""

import json

import pandas as pd
import pytest

from dpsynth.data.draft import draft, draft_yaml
from dpsynth.data.io import read_dtypes, write_table
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
from dpsynth.data.sdv import from_sdv, merge_dtypes, to_sdv
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
    assert [c.kind for c in draft(read_dtypes(tmp_path / "t.csv")).columns] == [
        "integer",
        "categorical",
        "boolean",
    ]
