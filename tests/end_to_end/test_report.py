"""From a run to its figures and its report, by the commands that a user types."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import command_line, evaluate, report, sample, sweep, train

SCHEMA = """
version: 1
num_units: 600
target: bought
columns:
  - {name: age, kind: integer, min: 18, max: 90}
  - {name: income, kind: continuous, min: 0, max: 100, decimals: 2, nullable: true}
  - {name: bought, kind: categorical, values: ["no", "yes"]}
"""


def call(monkeypatch, entry, name: str, *words: str) -> int:
    """Runs an entry point as its command line would, in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    around = sweep.around if name == "train" else None
    checked = {} if name == "train" else {"checked": sys.modules[f"experiments.{name}"].checked}
    try:
        command_line.run(entry, name, around=around, **checked)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two seeds of the floor; returns its folder and the folder it was started in."""
    here, patch = tmp_path_factory.mktemp("here"), pytest.MonkeyPatch()
    patch.chdir(here)
    random = np.random.default_rng(0)
    age = random.integers(18, 91, 700)
    income = np.round(random.uniform(0, 100, 700), 2)
    bought = np.where(age + random.normal(0, 15, 700) > 50, "yes", "no")
    income[::9] = np.nan
    pd.DataFrame({"age": age, "income": income, "bought": bought}).to_csv("table.csv", index=False)
    Path("schema.yaml").write_text(SCHEMA, encoding="utf-8")
    words = ["-m", "generator=independent", "privacy.epsilon=1", "seed=0,1", "data=csv"]
    words += [f"data.path={here}/table.csv", f"data.schema={here}/schema.yaml"]
    words += ["evaluation.models=[logistic]", "evaluation.num_bootstraps=20"]
    assert call(patch, train.job, "train", *words) == 0
    yield next((here / "outputs").glob("*/*")), here
    patch.undo()


def test_sample_makes_more_rows_without_the_table(swept, monkeypatch, tmp_path, capsys):
    folder, _ = swept
    shutil.copytree(folder / "0" / "release", tmp_path / "release")
    monkeypatch.chdir(tmp_path)
    words = ["release=release", "num_rows=1500", "seed=7", "conditions={bought: yes}"]
    for out in ("a.csv", "b.csv", "c.parquet"):
        assert call(monkeypatch, sample.main, "sample", *words, f"out={out}") == 0
    assert "1,500 synthetic rows to a.csv. Claim: epsilon=1, delta=1e-05." in capsys.readouterr().out
    rows = pd.read_csv("a.csv")
    assert len(rows) == 1500 and set(rows["bought"]) == {"yes"}
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet("c.parquet")[["age", "income"]], rows[["age", "income"]])


def test_sample_says_all_that_is_wrong_at_once(swept, monkeypatch, capsys):
    folder, _ = swept
    words = [f"release={folder}", "num_rows=0", "seed=-1", "conditions=3", "out=rows.xls"]
    assert call(monkeypatch, sample.main, "sample", *words) == 2
    said = capsys.readouterr().err
    assert "5 problems" in said and all(key in said for key in ("release", "num_rows", "seed", "conditions"))
    words = [f"release={folder / '0' / 'release'}", "conditions={bougt: yes}"]
    assert call(monkeypatch, sample.main, "sample", *words) == 1
    assert "bougt: is not a generated column" in capsys.readouterr().err


def test_evaluate_reads_the_runs_own_rows_again_and_finds_the_runs_figures(swept, monkeypatch, tmp_path):
    folder, here = swept
    monkeypatch.chdir(here)
    words = [f"release={folder}/0/release", "evaluation.models=[logistic]", f"out={tmp_path}/found.json"]
    assert call(monkeypatch, evaluate.main, "evaluate", *words) == 0
    found = {m["name"]: m for m in json.loads((tmp_path / "found.json").read_text())["metrics"]}
    run = {m["name"]: m for m in json.loads((folder / "0/result.json").read_text())["evaluation"]["metrics"]}
    for name in ("tv_1way", "tv_2way", "tstr_auc_logistic", "trtr_auc_logistic"):
        assert found[name]["value"] == pytest.approx(run[name]["value"], abs=1e-12)
    assert "mmd" in found and "mmd" not in run  # the further figures are on by default here


def test_evaluate_takes_a_table_of_another_tool(swept, monkeypatch, tmp_path):
    folder, here = swept
    monkeypatch.chdir(here)
    pd.read_csv("table.csv").to_csv(tmp_path / "rows.csv", index=False)
    rows, schema = f"{tmp_path}/rows.csv", f"schema={here}/schema.yaml"
    words = [f"release={rows}", schema, f"train={rows}", f"holdout={rows}", f"out={tmp_path}/found.json"]
    assert call(monkeypatch, evaluate.main, "evaluate", *words, "evaluation.models=[]") == 0
    found = {m["name"]: m for m in json.loads((tmp_path / "found.json").read_text())["metrics"]}
    assert found["tv_2way"]["value"] == 0.0 and found["copied_share"]["value"] == 1.0


def test_report_of_a_run_compares_with_its_rows_and_a_public_one_does_not(swept, monkeypatch, tmp_path):
    folder, here = swept
    monkeypatch.chdir(here)
    release = f"release={folder}/0/release"
    assert call(monkeypatch, report.main, "report", release, f"out={tmp_path}/all") == 0
    page = (tmp_path / "all/report.html").read_text(encoding="utf-8")
    assert "Nearest training rows" in page and "Utility" in page and "epsilon=1, delta=1e-05" in page
    assert call(monkeypatch, report.main, "report", release, "real=false", f"out={tmp_path}/public") == 0
    page = (tmp_path / "public/report.html").read_text(encoding="utf-8")
    assert "internal</span>" not in page and "Utility" not in page
    shutil.copytree(folder / "0/release", tmp_path / "far/release")  # without the run around it
    words = [f"release={tmp_path}/far/release"]
    assert call(monkeypatch, report.main, "report", *words) == 0
    page = (tmp_path / "far/report.html").read_text(encoding="utf-8")
    assert "internal</span>" not in page


def test_report_of_a_sweep_by_folder_by_id_and_from_mlflow_alone(swept, monkeypatch, tmp_path):
    import mlflow

    folder, here = swept
    monkeypatch.chdir(here)
    client = mlflow.MlflowClient(f"sqlite:///{here}/mlflow.db")
    experiment = client.get_experiment_by_name("dpsynth").experiment_id
    kind = "tags.`dpsynth.kind` = 'sweep'"
    parent = client.search_runs([experiment], kind)[0].info.run_id
    assert call(monkeypatch, report.main, "report", f"sweep={folder}", f"out={tmp_path}/folder") == 0
    assert call(monkeypatch, report.main, "report", f"sweep={parent}", f"out={tmp_path}/id") == 0
    client.set_tag(parent, "sweep.folder", f"{tmp_path}/gone")
    assert call(monkeypatch, report.main, "report", f"sweep={parent}", f"out={tmp_path}/remote") == 0
    pages = {
        n: (tmp_path / n / "report.html").read_text(encoding="utf-8") for n in ("folder", "id", "remote")
    }
    assert all("Runs: 2, budgets: 1, generators: independent" in page for page in pages.values())
    for name in ("folder", "id"):
        assert "Publishing all 2 runs" in pages[name] and f"{folder.name}/1/release" in pages[name]
    kept = {file.path for file in client.list_artifacts(parent, "internal/report")}
    assert kept == {"internal/report/report.html", "internal/report/report.pdf"}
    for name in pages:
        assert (tmp_path / name / "report.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(
    ("entry", "name", "words", "expected"),
    [
        (report.main, "report", [], ["Give either release or sweep"]),
        (report.main, "report", ["release=nope", "reall=1"], ["No folder 'nope'", "Did you mean 'real'"]),
        (report.main, "report", ["release=.", "report.max_pairs=0"], ["report.max_pairs"]),
        (evaluate.main, "evaluate", ["train=nope.csv"], ["Add release=DIR", "No file 'nope.csv'"]),
        (evaluate.main, "evaluate", ["release=.", "evaluation.num_bins=1"], ["num_bins"]),
    ],
)
def test_mistakes_are_shown_all_at_once(monkeypatch, capsys, tmp_path, entry, name, words, expected):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, entry, name, *words) == 2
    shown = capsys.readouterr().err
    assert all(text in shown for text in expected)
