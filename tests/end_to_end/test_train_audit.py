"""Every training run ends with its audit: theory beside evidence, on the terminal, on disk and in MLflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dpsynth.data.schema import Schema
from dpsynth.errors import InvalidInput
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.training.optimizer import FlatDPOptimizer
from dpsynth.study import canary_coins
from dpsynth.study.real_rows import rows_of_run
from experiments import audit, command_line, sweep, train

SCHEMA = """
version: 1
num_units: 400
columns:
  - {name: age, kind: integer, min: 18, max: 90}
  - {name: income, kind: continuous, min: 0, max: 100, decimals: 4}
  - {name: height, kind: continuous, min: 0, max: 300, decimals: 4}
  - {name: region, kind: categorical, values: [north, south, east]}
"""
QUICK = ["evaluation.models=[]", "evaluation.propensity=false"]
TVAE = ["generator=tvae", "generator.size=small", "generator.anchor_weight=0", "generator.fit_pool=0"]
TVAE += ["training.steps=3", "training.sample_rate=0.2", *QUICK]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs the entry point in an empty folder on a small table; returns the exit code."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 91, 400),
            "income": np.round(random.uniform(0, 100, 400), 4),
            "height": np.round(random.normal(170, 20, 400), 4),
            "region": random.choice(["north", "south", "east"], 400),
        }
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "schema.yaml").write_text(SCHEMA, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    data = ["data=csv", "data.path=table.csv", "data.schema=schema.yaml", "hydra.run.dir=run"]

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *data, *words])
        try:
            command_line.run(train.job, "train", around=sweep.around)
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def logged():
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    found = client.get_experiment_by_name("dpsynth")
    (run,) = client.search_runs([found.experiment_id])
    names = {Path(f.path).name for f in client.list_artifacts(run.info.run_id, "internal/audit")}
    return run.data, names


def test_private_run_shows_theory_and_evidence_and_logs_both(call, capsys):
    assert call(*TVAE, "privacy.epsilon=4", "audit.m=400") == 0
    out, (data, artefacts) = capsys.readouterr().out, logged()
    assert "CONSISTENT. ε claimed 4, audited at least" in out and "Attack on the training step" in out
    metrics, params = data.metrics, data.params
    assert metrics["internal/audit/eps_theory"] == 4.0 and 1.0 < metrics["internal/audit/eps_lo_best"] < 4.0
    assert metrics["internal/audit/gap"] == pytest.approx(4.0 - metrics["internal/audit/eps_lo_best"])
    assert (
        metrics["internal/audit/conformance/steps"] == 3
        and metrics["internal/audit/conformance/clip_max"] <= 1.0001
    )
    assert 0.97 < metrics["internal/audit/conformance/noise_ratio"] < 1.03
    assert {"internal/audit/conformance/rate", "internal/audit/conformance/divisor"} <= metrics.keys()
    head = "internal/audit/trace/gradient/constructed"
    assert metrics[f"{head}/auc"] == pytest.approx(metrics[f"{head}/auc_ceiling"], abs=0.15)  # 6 deviations
    assert metrics["internal/audit/seconds"] < 30  # 2 to 3 on one free core
    assert data.tags["internal/audit.verdict"] == "CONSISTENT"
    assert params["audit.m"] == "400" and params["internal/audit.adjacency"] == "add_remove"
    assert artefacts == {"audit.json", "theory_and_evidence.png"}
    body = json.loads(Path("run/audit/audit.json").read_text())
    assert body["exit_code"] == 0 and body["results"][0]["visibility"] == "internal"


def test_method_without_training_is_audited_for_what_it_buys(call, capsys):
    assert call("generator=independent", "privacy.epsilon=1", *QUICK) == 0
    out, (data, _) = capsys.readouterr().out, logged()
    assert "Attack on" not in out and "CONSISTENT. ε claimed 1, audited at least 0." in out
    assert 0.8 < data.metrics["internal/audit/eps_lo_best"] < 1.0
    assert not any(name.startswith("internal/audit/conformance") for name in data.metrics)


def test_release_beside_its_run_is_audited_without_naming_its_rows(call, monkeypatch, capsys):
    assert call("generator=independent", "privacy.epsilon=1", "holdout_share=0.6", *QUICK, "audit=none") == 0
    quick = ["audit.attacks=[copy,nearest_record]", "audit.planted_repeats=2"]
    monkeypatch.setattr(sys, "argv", ["audit.py", "release=run/release", "audit=release", *quick])
    with pytest.raises(SystemExit) as stop:
        audit.main()
    assert stop.value.code in (0, 3)  # 120 targets on each side may be too few for power
    body = json.loads(Path("run/audit-release/audit.json").read_text())["results"][0]
    assert body["claim"]["family"] == "ledger" and 240 < body["params"]["m"] < 330
    assert "epsilon=1" in capsys.readouterr().out


def test_secret_coins_leave_units_out_and_the_audit_knows_which(call, monkeypatch):
    words = ["generator=independent", "privacy.epsilon=20", "canary_share=0.95", "canary_constructed=150"]
    words += [*QUICK, "audit=none"]
    assert call(*words) == 0
    release, schema = Path("run/release"), Schema.load("schema.yaml")
    digest, rows = canary_coins.digest_of(release), rows_of_run(release, schema, "test")
    inside, outside = rows.canaries
    assert canary_coins.plan_file(digest).is_file() and not any(Path().rglob(f"{digest}.json"))
    # Of about 320 units 152 each; fewer than 65 have chance below 1e-8. Of 150 made-up rows 40 to 110 (1e-8).
    made_up = [(side.index < 0).sum() for side in rows.canaries]
    natural = [len(side) - num for side, num in zip(rows.canaries, made_up)]
    assert min(natural) > 65 and min(made_up) > 40 and sum(made_up) == 150
    assert set(outside.index).isdisjoint(inside.index) and len(rows.strata) == len(inside) + len(outside)
    bought = float(np.sum(Release.load(release).statistics.fine["region"].counts))
    assert (
        abs(bought - len(rows.train) - made_up[0]) < 30
    )  # those left out were not counted, made-up ones were
    assert call(*words) == 0  # finished: the same coins again
    assert canary_coins.digest_of(release) == digest
    quick = ["audit.attacks=[copy]", "audit.planted_repeats=1"]
    monkeypatch.setattr(sys, "argv", ["audit.py", "release=run/release", "audit=release", *quick])
    with pytest.raises(SystemExit):
        audit.main()
    body = json.loads(Path("run/audit-release/audit.json").read_text())["results"][0]
    assert body["params"]["plan_sha256"] == digest and body["params"]["m"] == len(inside) + len(outside)
    assert [f["stratum"] for f in body["findings"]] == ["random", "vulnerable", "constructed"]
    canary_coins.plan_file(digest).unlink()
    with pytest.raises(InvalidInput, match="canary plan"):
        rows_of_run(release, schema, "test")


def test_made_up_rows_are_trained_on_and_left_out_of_the_figures(tmp_path, monkeypatch):
    schema = Schema.from_dict(yaml.safe_load(SCHEMA))
    frame = pd.DataFrame(
        {"age": [30] * 90, "income": [1.0] * 90, "height": [170.0] * 90, "region": ["north"] * 90}
    )
    found = canary_coins.flip(frame, schema, 0.0, tmp_path, constructed=60)
    assert found.real.equals(frame) and 10 < len(found.trained) - 90 < 50  # of 60 coins, at 1e-7
    made_up = found.trained.iloc[90:]
    assert made_up["age"].isin([18, 90]).any() and found.trained.dtypes.equals(frame.dtypes)
    assert canary_coins.flip(frame, schema, 0.0, tmp_path).digest is None
    unbounded = Schema.from_dict({"version": 1, "columns": [{"name": "age", "kind": "integer"}]})
    with pytest.raises(InvalidInput, match="canary_constructed=0"):
        canary_coins.flip(frame[["age"]], unbounded, 0.0, tmp_path, constructed=1)


def test_run_without_privacy_has_no_claim_and_its_files_are_searched(call, capsys):
    assert call("generator=independent", "privacy=none", *QUICK) == 0
    out, (data, _) = capsys.readouterr().out, logged()
    assert "INCONCLUSIVE. There is no private claim to audit. Checked release files" in out
    assert (
        data.metrics["internal/audit/invariance_leaks"] == 0
        and "internal/audit/eps_theory" not in data.metrics
    )


def halve_noise(monkeypatch):
    """The optimizer adds half of the noise that it is asked for."""
    honest = FlatDPOptimizer.__init__

    def broken(self, *arguments, noise_multiplier, **more):
        honest(self, *arguments, noise_multiplier=noise_multiplier / 2, **more)

    monkeypatch.setattr(FlatDPOptimizer, "__init__", broken)
    monkeypatch.setattr("dpsynth.privacy.training.train._check_accounted", lambda *_: None)


@pytest.mark.parametrize("audit", ["smoke", "none"])
def test_halved_noise_ends_the_run_in_an_error_after_everything_is_recorded(call, monkeypatch, capsys, audit):
    halve_noise(monkeypatch)
    assert call(*TVAE, "privacy.epsilon=4", f"audit={audit}") == 1
    seen, (data, _) = capsys.readouterr(), logged()
    assert "The audit found a violation" in seen.err and "noise is smaller" in seen.err
    assert (
        data.tags["internal/audit.verdict"] == "VIOLATION"
        and data.metrics["internal/audit/conformance/noise_ratio"] < 0.6
    )
    assert Path("run/result.json").is_file()
