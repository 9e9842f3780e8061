"""One command gives the frontier: whole runs, from the command line to MLflow, on a small table."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dpsynth.errors import InvalidInput
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.verify import verify
from dpsynth.study.points import collect
from experiments import command_line, sweep, train

ROOT = Path(__file__).resolve().parents[2]
NUM_ROWS = 1217  # private: must not turn up in what is logged
SCHEMA = """
version: 1
num_units: 1000
target: bought
columns:
  - {name: age, kind: integer, min: 18, max: 90}
  - {name: income, kind: continuous, min: 0, max: 100, decimals: 2}
  - {name: region, kind: categorical, values: [north, south, east]}
  - {name: bought, kind: categorical, values: ["no", "yes"]}
"""
QUICK = ["training.steps=3", "evaluation.models=[logistic]", "evaluation.num_bootstraps=20"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> list[str]:
    """A small table and its schema; returns the overrides that choose them."""
    folder, random = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    age = random.integers(18, 91, NUM_ROWS)
    frame = pd.DataFrame(
        {
            "age": age,
            "income": np.round(random.uniform(0, 100, NUM_ROWS), 2),
            "region": random.choice(["north", "south", "east"], NUM_ROWS),
            "bought": np.where(age + random.normal(0, 15, NUM_ROWS) > 50, "yes", "no"),
        }
    )
    frame.to_csv(folder / "table.csv", index=False)
    (folder / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    return ["data=csv", f"data.path={folder}/table.csv", f"data.schema={folder}/schema.yaml"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str, monkeypatch) -> int:
    """Runs the entry point as its command line would, in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    try:
        command_line.run(train.job, "train", around=sweep.around)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def runs_of(here: Path, experiment: str = "dpsynth") -> list:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{here}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"])


@pytest.fixture(scope="module")
def swept(table, tmp_path_factory):
    """A sweep of two generators at two budgets in which training fails where there is any."""
    here, patch = tmp_path_factory.mktemp("swept"), pytest.MonkeyPatch()
    patch.chdir(here)
    # More units per step than there are is a mistake that only the plan of a trained generator can see.
    axes = ["generator=independent,tvae", "privacy.epsilon=1,4", "training.expected_batch_size=100000"]
    code = call("-m", *axes, *table, *QUICK, "num_rows=200", monkeypatch=patch)
    yield here, code
    patch.undo()


def test_a_failing_point_leaves_the_others_alone_and_says_why(swept):
    here, code = swept
    runs = runs_of(here)
    assert code == 1
    parents = [run for run in runs if run.data.tags["dpsynth.kind"] == "sweep"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(parents) == 1 and len(children) == 4 and len(runs) == 5
    status = {(run.data.params["generator.name"], run.info.status) for run in children}
    assert status == {("independent", "FINISHED"), ("tvae", "FAILED")}
    failed = [run for run in children if run.info.status == "FAILED"]
    assert all("training.expected_batch_size" in run.data.tags["error"] for run in failed)
    assert parents[0].info.status == "FINISHED" and parents[0].data.tags["sweep.failed_points"] == "2"


def test_the_parent_carries_the_frontier_and_what_the_sweep_costs(swept):
    import mlflow

    here, _ = swept
    client = mlflow.MlflowClient(f"sqlite:///{here}/mlflow.db")
    parent = next(run for run in runs_of(here) if run.data.tags["dpsynth.kind"] == "sweep")
    names = {Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "internal/frontier")}
    assert {
        "frontier.html",
        "frontier.png",
        "frontier.csv",
        "figures.csv",
        "summary.txt",
        "table.json",
    } <= names
    note = parent.data.tags["mlflow.note.content"].replace("&emsp;", " ")
    assert "| ε | independent | real rows |" in note and "**Failed points: 2**" in note
    assert "- Publishing all" in note and "training.expected_batch_size" in note
    metrics = parent.data.metrics
    # Two runs that spend 1 and 4 on one table: composed, more than either and less than the sum.
    assert 3.9 <= metrics["privacy/sweep_one"] <= 4.0 < metrics["privacy/sweep_all"] <= 5.0
    assert metrics["privacy/sweep_best"] > metrics["privacy/sweep_one"]


def test_each_finished_point_has_a_release_that_verifies(swept):
    here, _ = swept
    points = collect(next((here / "outputs").glob("*/*")))
    finished = [point for point in points if point.status == "FINISHED"]
    assert [(point.generator, point.epsilon) for point in finished] == [
        ("independent", 1.0),
        ("independent", 4.0),
    ]
    for point in finished:
        release = Release.load(point.release)
        assert len(release.synthetic) == 200 and release.claim == f"epsilon={point.epsilon:g}, delta=1e-05"
        verify(point.release)


def test_names_tell_released_from_internal_and_no_private_count_is_recorded(swept):
    here, _ = swept
    run = next(run for run in runs_of(here) if run.data.params.get("generator.name") == "independent")
    assert run.data.tags["dp.claim"] == "epsilon=1, delta=1e-05" and run.data.tags["dp.unit"] == "row"
    assert run.data.tags["mlflow.source.git.commit"]
    assert {"internal/tstr_auc_logistic", "internal/tv_1way", "released/rows"} <= set(run.data.metrics)
    assert {"internal/seconds/measure", "internal/seconds/load", "internal/seconds/evaluate"} <= set(
        run.data.metrics
    )
    assert run.data.params["privacy.epsilon"] == "1.0" and run.data.params["training.steps"] == "3"
    declared = {
        "privacy/epsilon",
        "privacy/table_epsilon",
        "released/rows",
    }  # what was bought, and made of it
    assert all(name.startswith("internal/") or name in declared for name in run.data.metrics)
    recorded = [*run.data.params.values(), *run.data.tags.values(), *map(str, run.data.metrics.values())]
    point = collect(next((here / "outputs").glob("*/*")))[0]
    config = train.parse(json.loads(json.dumps(_nested(point.settings))))
    from dpsynth.data.tables.datasets import load
    from dpsynth.study.holdout import same_again

    sides = same_again(*load(config.data), config.holdout_share, Path(point.release).parent)
    private = {str(number) for side in sides for number in (len(side), float(len(side)))} | {str(NUM_ROWS)}
    assert not private & set(recorded)


def _nested(flat: dict) -> dict:
    tree: dict = {}
    for key, value in flat.items():
        *folders, leaf = key.split(".")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[leaf] = value
    return tree


def test_a_resumed_sweep_runs_only_what_did_not_finish(swept, table, monkeypatch, capsys):
    here, _ = swept
    monkeypatch.chdir(here)
    folder = next((here / "outputs").glob("*/*"))
    before = {
        point.release: Path(point.release, "ledger.json").stat().st_mtime_ns
        for point in collect(folder)
        if point.release
    }
    axes = ["generator=independent,tvae", "privacy.epsilon=4,1", "training.expected_batch_size=100000"]
    code = call(
        "-m", *axes, *table, *QUICK, "num_rows=200", f"sweep.resume={folder}", monkeypatch=monkeypatch
    )
    after = {
        point.release: Path(point.release, "ledger.json").stat().st_mtime_ns
        for point in collect(folder)
        if point.release
    }
    assert code == 1 and before == after and len(before) == 2
    assert sum(run.data.params.get("generator.name") == "independent" for run in runs_of(here)) == 2
    assert "tvae" in capsys.readouterr().out


def test_a_single_private_run_records_epsilon_while_it_trains(table, here, monkeypatch, capsys):
    import mlflow

    code = call("generator=tvae", *table, *QUICK, "training.sample_rate=0.1", monkeypatch=monkeypatch)
    out, (run,) = capsys.readouterr().out, runs_of(here)
    assert code == 0 and "Release: outputs/" in out and run.info.status == "FINISHED"
    history = mlflow.MlflowClient(f"sqlite:///{here}/mlflow.db").get_metric_history(
        run.info.run_id, "privacy/epsilon"
    )
    spent = [metric.value for metric in sorted(history, key=lambda metric: metric.step)]
    assert len(spent) == 3 and spent == sorted(spent) and 0.99 <= spent[-1] <= 1.0
    artifacts = mlflow.MlflowClient(f"sqlite:///{here}/mlflow.db").list_artifacts(run.info.run_id, "release")
    assert {Path(file.path).name for file in artifacts} == {
        "synthetic.parquet",
        "generator.safetensors",
        "release.json",
        "ledger.json",
        "certificate.json",
    }


def test_a_run_without_privacy_says_so_everywhere(table, here, monkeypatch, capsys):
    words = ["privacy=none", "generator=independent", *table, *QUICK]
    assert call(*words, monkeypatch=monkeypatch) == 0
    (run,) = runs_of(here)
    assert run.data.tags["dp.claim"] == "NON-PRIVATE" and "NON-PRIVATE" in capsys.readouterr().out


def test_bad_rows_end_in_one_message_and_spend_nothing(table, here, monkeypatch, capsys, tmp_path):
    bad = pd.read_csv(table[1].split("=")[1])
    bad.loc[3, "region"] = "atlantis"
    bad.to_csv(tmp_path / "bad.csv", index=False)
    words = ["data=csv", f"data.path={tmp_path}/bad.csv", table[2], "generator=independent"]
    assert call(*words, monkeypatch=monkeypatch) == 1
    error = capsys.readouterr().err
    assert "region" in error and "atlantis" not in error and "Traceback" not in error
    (run,) = runs_of(here)
    assert run.info.status == "FAILED" and not list(here.glob("outputs/*/*/ledger.jsonl"))


def test_jobs_of_the_joblib_launcher_share_one_fresh_store(table, here, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    axes = [
        "generator=independent",
        "privacy.epsilon=1,2,3,4",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    ]
    code = call("-m", *axes, *table, *QUICK, monkeypatch=monkeypatch)
    runs = runs_of(here)
    assert code == 0 and [run.info.status for run in runs] == ["FINISHED"] * 5
    assert len(collect(next((here / "outputs").glob("*/*")))) == 4
    threads = {
        run.data.metrics["internal/system/threads"]
        for run in runs
        if "internal/system/threads" in run.data.metrics
    }
    assert threads and 2 * max(threads) <= max(2, os.cpu_count())  # two jobs at a time share the cores


def test_a_ladder_gives_the_whole_curve_from_one_run(table, here, monkeypatch, capsys):
    words = ["training=ladder", "privacy.epsilon=1,4,8", "generator=tvae", *table, *QUICK]
    words += ["training.steps=20", "training.sample_rate=0.2", "num_rows=200", "generator.size=small"]
    words += ["generator.anchor_steps=2", "generator.warm_steps=2", "generator.fit_pool=2000"]
    assert call(*words, monkeypatch=monkeypatch) == 0
    out, runs = capsys.readouterr().out, runs_of(here)
    top = next(run for run in runs if run.data.tags["dpsynth.kind"] == "run")
    rungs = [run for run in runs if run.data.tags["dpsynth.kind"] == "rung"]
    assert {run.data.tags["dp.claim"] for run in rungs} == {
        "epsilon=1, delta=1e-05",
        "epsilon=4, delta=1e-05",
    }
    assert all(run.data.tags["mlflow.parentRunId"] == top.info.run_id for run in rungs)
    assert all("internal/tstr_auc_logistic" in run.data.metrics for run in runs)
    assert len({run.data.params["ladder.noise_multiplier"] for run in runs}) == 1
    (path,) = here.glob("outputs/*/*/result.json")
    points = collect(path.parent.parent)
    assert [point.epsilon for point in points] == [1.0, 4.0, 8.0]
    for point in points:
        assert verify(point.release).passed and f"epsilon={point.epsilon:g}," in verify(point.release).claim
    frontier = path.parent / "frontier" / "frontier.html"
    assert "one noise multiplier" in frontier.read_text(encoding="utf-8")
    assert "costs the\nepsilon of the highest: epsilon=8" in out


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_the_epsilons_of_a_ladder_are_no_axis_of_a_sweep(flags):
    from experiments.overrides import spell_out

    words = [*flags, "training=ladder", "privacy.epsilon=1,2,4", "seed=0,1"]
    spelled = [*flags, "training=ladder", "training.ladder=[1,2]", "privacy.epsilon=4", "seed=0,1"]
    assert spell_out(words) == spelled
    assert spell_out(["-m", "privacy.epsilon=1,2"]) == ["-m", "privacy.epsilon=1,2"]


@pytest.mark.parametrize(
    "preset", sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
)
def test_every_preset_begins_with_its_command_and_is_checked_whole(preset, here, monkeypatch):
    lines = (ROOT / "conf" / "experiment" / f"{preset}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"  # Hydra reads the package from the head alone
    command = lines[1].removeprefix("# ").split()
    assert command[:3] == ["python", "-m", "experiments.train"] and f"experiment={preset}" in command
    from hydra._internal.utils import get_args_parser

    from experiments.overrides import check

    checked = check(get_args_parser().parse_args(command[3:]), "train", command_line.check_run)
    assert checked.num_points is None or checked.num_points >= 1


@pytest.mark.parametrize("share, points", [("0.6", None), ("0.2", 4)])
def test_settings_that_are_wrong_only_together_are_found_before_the_first_job(share, points):
    from hydra._internal.utils import get_args_parser

    from experiments.overrides import check

    flags = ["-m", f"privacy.columns_share=0.1,{share}", "privacy.validation_share=0.0,0.5"]
    arguments = get_args_parser().parse_args(flags)
    if points is not None:
        assert check(arguments, "train", command_line.check_run).num_points == points
        return
    with pytest.raises(InvalidInput, match=r"add up to 1\.11"):
        check(arguments, "train", command_line.check_run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
)
def test_every_preset_runs_for_two_steps(preset, table, here, monkeypatch):
    """At most two values of each axis, on the small table."""
    import yaml

    content = yaml.safe_load((ROOT / "conf" / "experiment" / f"{preset}.yaml").read_text(encoding="utf-8"))
    swept = content["hydra"]["sweeper"]["params"]
    fewer = [f"{key}={','.join(str(values).split(',')[:2])}" for key, values in swept.items()]
    quick = ["training.steps=2", "evaluation.models=[logistic]", "evaluation.num_bootstraps=0"]
    assert call("-m", f"experiment={preset}", *table, *quick, *fewer, monkeypatch=monkeypatch) == 0
    points = collect(next((here / "outputs").glob("*/*")))
    assert points and {point.status for point in points} == {"FINISHED"}
