"""A secret planted in every kind of broken input is in nothing that is printed or stored."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth import errors
from tests.end_to_end.test_train import call

SECRET = "Zaphod7319"
SCHEMA = """
version: 1
num_units: 100
columns:
  - {name: who, kind: identifier}
  - {name: age, kind: integer, min: 0, max: 120}
  - {name: income, kind: continuous, min: 0, max: 100}
  - {name: town, kind: categorical, values: [Ayr, Bath]}
  - {name: born, kind: datetime, min: "1900-01-01", max: "2020-12-31"}
  - {name: member, kind: boolean}
  - {name: grade, kind: categorical, values: [1, 2]}
"""
ROW = {"who": "a", "age": "30", "income": "1.5", "town": "Ayr", "born": "1990-01-31"}
ROW |= {"member": "true", "grade": "1"}


def _text(folder: Path, rows=(ROW, ROW), head=None) -> Path:
    lines = [",".join(head or ROW), *(",".join(row.values()) for row in rows)]
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "t.csv"


def _bytes(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _parquet(folder: Path, **changes) -> Path:
    columns = {name: [value] * 2 for name, value in (ROW | changes).items()}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return folder / "t.parquet"


def _row(column: str):
    return lambda folder: _text(folder, [ROW, ROW | {column: SECRET}])


BROKEN = {
    **{f"a value of {name}": _row(name) for name in list(ROW)[1:]},
    "no header": lambda f: _text(f, head=[SECRET, *list(ROW.values())[1:]]),
    "a name that occurs twice": lambda f: _text(f, [ROW | {"x": "1", "y": "2"}] * 2, [*ROW, SECRET, SECRET]),
    "a row that is too long": lambda f: _text(f, [ROW, ROW | {"more": SECRET}]),
    "an open quote": lambda f: _text(f, [ROW, ROW | {"town": f'"{SECRET}'}]),
    "one row": lambda f: _text(f, [ROW | {"who": SECRET}]),
    "another code page": lambda f: _bytes(f, "t.csv", f"who,age\nÄ{SECRET},1\n".encode("latin-1")),
    "a cut archive": lambda f: _bytes(f, "t.csv.gz", gzip.compress(f"who\n{SECRET}\n".encode() * 99)[:-9]),
    "no Parquet": lambda f: _bytes(f, "t.parquet", SECRET.encode()),
    "text for numbers in Parquet": lambda f: _parquet(f, age=SECRET),
    "a struct in Parquet": lambda f: _parquet(f, town={SECRET: 1}),
    "names in Parquet": lambda f: _parquet(f, **{SECRET: 1}),
    "the table in place of its schema": None,
}  # fmt: skip


def _everything(folder: Path) -> bytes:
    """All that a run left on the disk."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs the command line on a file; returns its exit code, what it printed and what it stored."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "s.yaml").write_text(SCHEMA, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "out")

    def command(path: Path, schema: Path | None = None):
        words = ["data=csv", f"data.path={path}", f"data.schema={schema or tmp_path / 'in' / 's.yaml'}"]
        words += ["generator=independent", "privacy.epsilon=1", "audit=none", "tracking=mlflow"]
        code = call(*words, monkeypatch=monkeypatch)
        printed = "".join(capfd.readouterr())
        return code, printed, _everything(tmp_path / "out")

    return command


def test_no_broken_input_has_its_secret_printed_or_stored(run, tmp_path):
    for name, make in BROKEN.items():
        swapped = make is None
        make = make or (lambda folder: _text(folder, [ROW] * 2, [f"{SECRET}: 1\n{SECRET}: 2"]))
        path = make(tmp_path / "in")
        code, printed, stored = run(path, path if swapped else None)
        assert code, name
        assert SECRET.encode() not in stored, name
        told = printed.replace(f"(In the table: {SECRET!r}", "")  # names, for the terminal alone
        assert SECRET not in told, name
        assert "ledger.jsonl" not in str(list((tmp_path / "out").rglob("*"))), name  # nothing was charged


@pytest.mark.parametrize("sound", [True, False])
def test_what_another_library_says_is_told_by_its_kind_alone(sound, run, tmp_path, monkeypatch):
    def raises(*args, **kwargs):
        raise KeyError(SECRET)  # quotes a cell, as pandas and Arrow do

    monkeypatch.setattr("dpsynth.data.tables.io.check_column", raises)
    if not sound:  # the twin: messages as they come
        monkeypatch.setattr("experiments.train.described", repr)
    code, printed, stored = run(_text(tmp_path / "in"))
    assert code
    assert (SECRET.encode() in stored) is not sound
    assert not sound or SECRET not in printed
    assert "KeyError" in printed


def test_an_error_says_in_the_terminal_what_it_says_nowhere_else():
    problem = errors.Problem("column 3", "Is not declared.", "Declare it.", SECRET)
    error = errors.InvalidInput("t.csv", [problem])
    for text in (str(error), repr(error), errors.described(error), errors.trace(error)):
        assert SECRET not in text
    assert SECRET in error.shown
