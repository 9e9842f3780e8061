"""The command line of the audit, on tables of other tools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from dpsynth.audit.planted import copy_members, population
from dpsynth.audit.types import AuditResult, Verdict
from dpsynth.errors import InvalidInput
from dpsynth.study.audit.request import checked, settings, settings_of
from experiments import audit

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("foreign"), np.random.default_rng(0)
    members, holdout, synthetic = population(300, rng), population(600, rng), population(600, rng)
    copied = copy_members(synthetic, members, 0.5, rng)
    for name, table in dict(members=members, reference=holdout, sound=synthetic, copied=copied).items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


def node(files, release, **changes):
    group = yaml.safe_load((ROOT / "conf/audit/release.yaml").read_text())
    group |= {"attacks": ["copy", "nearest_record"], "planted_repeats": 2}
    top = yaml.safe_load((ROOT / "conf/audit.yaml").read_text())
    top = {k: v for k, v in top.items() if k not in ("defaults", "hydra")}
    paths = {k: str(files / f"{k}.csv") for k in ("members", "reference")}
    return {
        **top,
        **paths,
        "audit": group,
        "release": str(files / release),
        "out": str(files / "out"),
        **changes,
    }


def test_exit_codes_say_the_verdict_and_files_are_written(files, capsys):
    assert audit.job(node(files, "sound.csv", epsilon=0.5)) in (0, 3)
    assert audit.job(node(files, "copied.csv", epsilon=0.5)) == 4
    body = json.loads((files / "out" / "audit.json").read_text())
    assert body["exit_code"] == 4 and body["results"][0]["verdict"] == "VIOLATION"
    assert body["metrics"]["audit/eps_theory"] == 0.5
    assert "VIOLATION" in (files / "out" / "audit.html").read_text()
    assert "release: VIOLATION" in capsys.readouterr().out


def test_table_without_any_claim_is_tested_for_traces(files):
    assert audit.job(node(files, "copied.csv")) == 4


def test_every_mistake_is_named_at_once(files):
    broken = node(files, "nothing.csv", members=None, epsilon=-1.0, extra=1)
    broken["audit"] = broken["audit"] | {"alpha": 2, "max_targts": 5}
    with pytest.raises(InvalidInput) as error:
        checked(broken)
    for part in ("extra", "nothing.csv", "members", "epsilon", "audit.alpha", "max_targts"):
        assert part in str(error.value)


def test_bare_table_cannot_be_audited_for_its_training(files):
    with pytest.raises(InvalidInput, match="no ledger"):
        checked(node(files, "sound.csv", audit={"kind": "whitebox", "m": 100}))


@pytest.mark.parametrize("kind", ["smoke", "whitebox", "release", "multirun", "full"])
def test_presets_list_exactly_the_settings(kind):
    from dataclasses import fields

    group = yaml.safe_load((ROOT / f"conf/audit/{kind}.yaml").read_text())
    assert group["kind"] == kind
    if kind != "smoke":
        del group["kind"]
    parts = (
        {k: group[k] for k in ("smoke", "whitebox", "release", "multirun")}
        if kind == "full"
        else {kind: group}
    )
    for name, values in parts.items():
        made, problems = settings(name, values)
        assert not problems and made == settings_of(name)()
        assert set(values) | {"kind"} == {f.name for f in fields(made)} | {"kind"}


def test_help_answers_without_reading_anything():
    command = [sys.executable, "-m", "experiments.audit", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Exit codes" in done.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A small release by the whole pipeline, and the tables around it."""
    from dpsynth import pipeline
    from dpsynth.data.schema import Categorical, Continuous, Schema
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.generators.base import load_generator
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

    folder, rng = tmp_path_factory.mktemp("released"), np.random.default_rng(1)
    members, holdout = population(300, rng), population(600, rng)
    columns = tuple(
        Continuous(name=c, min=-12.0, max=12.0, decimals=4)
        if members[c].dtype.kind in "iuf"
        else Categorical(name=c, values=tuple("abcdef"))
        for c in members
    )
    schema = Schema(columns=columns, num_units=300)
    recipe = pipeline.Recipe(
        generator="independent",
        settings=load_generator("independent").Config(),
        privacy=PrivacyConfig(epsilon=1.0),
        training=TrainingConfig(),
    )
    pipeline.run(PrivateTable(members, schema), recipe, folder)
    members.to_csv(folder / "members.csv", index=False)
    holdout.to_csv(folder / "reference.csv", index=False)
    return folder


def test_release_of_the_pipeline_is_audited_against_its_ledger(released):
    code = audit.job(node(released, "release", out=None))
    body = json.loads((released / "audit-release" / "audit.json").read_text())
    assert code in (0, 3) and body["results"][0]["claim"]["family"] == "ledger"
    assert 0.9 < body["metrics"]["audit/eps_theory"] <= 1.0


def test_own_audit_of_a_run_stays_and_mlflow_gets_figures_and_verdict(released):
    from mlflow import MlflowClient

    own, uri = released / "audit" / "audit.json", f"sqlite:///{released / 'store.db'}"
    own.parent.mkdir(exist_ok=True)
    own.write_text("of the run")
    group = {"name": "mlflow", "uri": uri, "system_seconds": None}
    audit.job(node(released, "release", out=None, tracking=group))
    assert own.read_text() == "of the run"
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("dpsynth").experiment_id])
    assert run.data.metrics["internal/audit/data_only/copy/random/auc"] > 0.4
    assert (
        run.data.params["internal/audit.f_family"] == "ledger"
        and run.data.tags["internal/audit.verdict"] != "VIOLATION"
    )


def test_scores_go_to_the_file_that_was_asked_for_and_nowhere_else(released, tmp_path):
    import pyarrow.parquet as parquet
    from mlflow import MlflowClient

    file, uri = tmp_path / "scores.parquet", f"sqlite:///{tmp_path / 'store.db'}"
    file.write_text("an older file that all may read")
    file.chmod(0o644)
    asked = node(released, "release", out=str(tmp_path / "out"))
    asked |= {"tracking": {"name": "mlflow", "uri": uri, "system_seconds": None}}
    audit.job({**asked, "audit": {**asked["audit"], "scores": str(file)}})
    assert file.stat().st_mode & 0o777 == 0o600
    marks = parquet.read_schema(file).metadata
    assert marks[b"dpsynth.visibility"] == b"internal"
    table = parquet.read_table(file).to_pandas()
    assert list(table) == ["id", "stratum", "attack", "score", "member"]
    assert set(table["attack"]) == {"copy", "nearest_record"} and table["member"].dtype == bool
    assert not table.duplicated(["id", "member", "attack"]).any()
    assert table["member"].sum() == 2 * 300 and set(table["stratum"]) == {"random", "vulnerable"}
    body = json.loads((tmp_path / "out" / "audit.json").read_text())["results"][0]
    wanted = {f["attack"]: f["statistics"]["auc"] for f in body["findings"] if f["stratum"] == "random"}
    for name, found in table.groupby("attack"):
        inside, outside = (found.loc[found["member"] == m, "score"].to_numpy() for m in (True, False))
        wins = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
        assert wins == pytest.approx(wanted[name])
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("dpsynth").experiment_id])
    recorded = {f.path for f in client.list_artifacts(run.info.run_id, "internal/audit")}
    assert recorded == {"internal/audit/audit.json", "internal/audit/audit.html"}
    assert "scores" not in body and not any("scores" in key for key in run.data.params)


@pytest.mark.parametrize(
    "place", ["release/scores.parquet", "out/scores.parquet", "scores.csv", "no/x.parquet"]
)
def test_scores_are_refused_where_they_could_leave(released, place):
    asked = node(released, "release", out=str(released / "out"))
    with pytest.raises(InvalidInput, match="audit.scores"):
        checked({**asked, "audit": {**asked["audit"], "scores": str(released / place)}})
    assert checked({**asked, "audit": {**asked["audit"], "scores": str(released / "scores.parquet")}})


def test_several_audits_share_their_level_and_the_strongest_figures_count(released):
    from dpsynth.study.audit.material import gather

    full = yaml.safe_load((ROOT / "conf/audit/full.yaml").read_text()) | {"with_multirun": True}
    request = checked(node(released, "release", audit=full))
    kinds = audit.kinds_of(request, gather(request))
    assert list(kinds) == ["smoke", "release", "multirun"]  # nothing was trained: no step to audit
    assert kinds["release"]["alpha"] == kinds["multirun"]["alpha"] == 0.025
    parts = [
        AuditResult(
            kind=k, verdict=Verdict.CONSISTENT, reason="", summary={"eps_theory": 1.0, "eps_lo_best": e}
        )
        for k, e in (("smoke", 0.9), ("release", 0.0))
    ]
    assert audit.metrics(parts) == pytest.approx(
        {"audit/eps_theory": 1.0, "audit/eps_lo_best": 0.9, "audit/gap": 0.1}
    )


@pytest.mark.parametrize(
    "release, code, said",
    [
        ("copied.csv", 4, "VIOLATION"),
        ("absent.csv", 2, "No folder or file"),
        ("empty.csv", 2, "Cannot be read"),
    ],
)
def test_command_ends_with_the_verdict_and_no_traceback(files, release, code, said):
    (files / "empty.csv").write_text("")
    quick = ["audit.attacks=[copy]", "audit.planted_repeats=1", f"out={files / 'cli'}"]
    given = [f"{k}={files / f'{k}.csv'}" for k in ("members", "reference")]
    command = [sys.executable, "-m", "experiments.audit", f"release={files / release}", "audit=release"]
    command += [*given, "epsilon=0.5", *quick]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code and said in done.stdout + done.stderr
    assert not any(x in done.stderr for x in ("Traceback", "Error executing", "HYDRA_FULL_ERROR"))


def test_smoke_finds_rows_planted_into_a_release_file(released):
    import pandas as pd

    group = yaml.safe_load((ROOT / "conf/audit/smoke.yaml").read_text())
    assert audit.job(node(released, "release", audit=group)) == 0
    rows = pd.read_csv(released / "members.csv").select_dtypes("number").to_numpy()
    np.save(released / "release" / "cache.npy", rows)
    assert audit.job(node(released, "release", audit=group)) == 4
    (released / "release" / "cache.npy").unlink()


def test_release_that_trained_nothing_has_no_step_to_audit(released):
    group = yaml.safe_load((ROOT / "conf/audit/whitebox.yaml").read_text())
    with pytest.raises(InvalidInput, match="Nothing in this release was trained"):
        audit.job(node(released, "release", audit=group))


def test_mistakes_speak_of_the_files_that_were_given(files):
    import pandas as pd

    table = pd.read_csv(files / "sound.csv")
    table.rename(columns={"x3": "y3"}).to_csv(files / "renamed.csv", index=False)
    (files / "empty.csv").write_text("")
    with pytest.raises(InvalidInput) as error:
        audit.job(node(files, "renamed.csv"))
    assert [p.where for p in error.value.problems] == ["members", "reference"]
    with pytest.raises(InvalidInput, match="Cannot be read as a table"):
        audit.job(node(files, "empty.csv"))
