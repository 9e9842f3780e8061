"""A table is recorded by what is declared and a salted digest; nothing of its rows reaches the store."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from dpsynth.data.schema import Schema
from dpsynth.data.schema.columns import Categorical, Continuous, Integer
from dpsynth.data.tables.table import PrivateTable
from dpsynth.tracking import TrackingConfig, track

WORDS, NUMBERS, AMOUNTS = ["quixotry", "zymurgist"], [918273645, 564738291], [7654.3217, 1234.5671]
NUM_ROWS = 271_829  # six digits: four would turn up by chance in the random identifiers of a run
SCHEMA = Schema(
    version=1,
    columns=(
        Categorical(name="job", values=None),
        Integer(name="salary", min=0, max=999_999_999),
        Continuous(name="debt", min=0.0, max=9_999.0),
    ),
    num_units=100_000,
)


def make_table(num_rows: int = NUM_ROWS) -> PrivateTable:
    columns = {"job": WORDS, "salary": NUMBERS, "debt": AMOUNTS}
    rows = {name: (values * num_rows)[:num_rows] for name, values in columns.items()}
    return PrivateTable(pd.DataFrame(rows), SCHEMA)


def recorded(config: TrackingConfig, table: PrivateTable, *, leak: str | None = None):
    """Records a table in a store of its own; returns MLflow's run and all bytes of the store but the salt."""
    import mlflow

    with track(config, "run") as tracker:
        tracker.dataset("people", table)
        if leak is not None:
            tracker.tags({"note": leak})
    run = mlflow.MlflowClient(config.uri).get_run(tracker.run_id)
    files = [path for path in config.file.parent.rglob("*") if path.is_file() and path != config.salt_file]
    return run, b"\n".join(path.read_bytes() for path in files), config.salt_file.read_bytes()


def values_in(stored: bytes, num_rows: int = NUM_ROWS) -> list[str]:
    """Lists what of the rows, or of their number, is written anywhere in a store."""
    return [str(v) for v in (*WORDS, *NUMBERS, *AMOUNTS, num_rows) if str(v).encode() in stored]


def test_the_schema_and_a_digest_are_recorded_and_no_value_of_a_row(tmp_path, new_store):
    run, stored, salt = recorded(new_store(tmp_path), make_table())
    (used,) = run.inputs.dataset_inputs
    declared = json.loads(used.dataset.schema)
    assert used.dataset.name == "people" and json.loads(used.dataset.source) == {"schema": SCHEMA.digest}
    assert [(c["name"], c["type"]) for c in declared["mlflow_colspec"]] == [
        ("job", "string"),
        ("salary", "long"),
        ("debt", "double"),
    ]
    assert declared["declared"] == SCHEMA.to_dict() and used.dataset.profile is None
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    assert values_in(stored) == []
    assert salt not in stored and salt.hex().encode() not in stored


@pytest.mark.parametrize("leak", [WORDS[1], NUMBERS[0], f"debt <= {AMOUNTS[0]}", f"{NUM_ROWS} rows"])
def test_a_planted_value_is_found_in_the_store(tmp_path, new_store, leak):
    """The broken twin of the test above."""
    _, stored, _ = recorded(new_store(tmp_path), make_table(), leak=str(leak))
    assert len(values_in(stored)) == 1


def test_digests_tell_tables_apart_in_one_store_and_mean_nothing_in_another(tmp_path, new_store):
    digest, stores = {}, {place: new_store(tmp_path / place) for place in ("one", "two")}
    for place, name, table in [
        ("one", "first", make_table()),
        ("one", "again", make_table()),
        ("one", "other", make_table(NUM_ROWS + 1)),
        ("two", "first", make_table()),
    ]:
        run, _, _ = recorded(stores[place], table)
        digest[place, name] = run.inputs.dataset_inputs[0].dataset.digest
    assert digest["one", "first"] == digest["one", "again"]
    assert len({digest["one", "first"], digest["one", "other"], digest["two", "first"]}) == 3


def test_the_salt_of_a_server_lies_with_the_user_and_never_under_the_servers_name(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    config = TrackingConfig(uri="postgresql://ann@host/runs")
    assert config.salt_file.is_relative_to(tmp_path) and "ann@" not in str(config.salt_file)
    assert config.salt_file != TrackingConfig(uri="http://host:5000").salt_file
