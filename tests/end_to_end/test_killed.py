"""kill -9 at three moments of a run; resumed, it is whole, and everything was charged once."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dpsynth.privacy.verify import verify
from dpsynth.study.points import collect
from tests.end_to_end.test_train import ROOT, call, here, runs_of, table  # noqa: F401  fixtures

# Runs the entry point in a process that kills itself when it gets there.
KILLED = """
import os, signal, sys
from dpsynth.privacy.training import checkpoint
from dpsynth.privacy.training import train as training
from experiments import command_line, sweep, train
moment = sys.argv.pop(1)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "before training":
    training.train = die
elif moment == "in training":
    save = checkpoint.Checkpoint.save
    def saved(self, done, *rest):
        save(self, done, *rest)
        if done == 4:
            die()
    checkpoint.Checkpoint.save = saved
elif moment == "while logging":
    train._record = die
command_line.run(train.job, "train", around=sweep.around)
"""


def charges(path: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["kind"], line["event"]) for line in lines if line["kind"] in ("charge", "continue")]


@pytest.mark.parametrize("moment", ["before training", "in training", "while logging"])
def test_a_killed_run_goes_on_and_pays_once(moment, table, here, monkeypatch):  # noqa: F811
    words = ["-m", "generator=tvae", *table, "generator.size=small", "num_rows=100"]
    words += ["generator.anchor_steps=2", "generator.warm_steps=2", "generator.fit_pool=2000"]
    words += ["training.steps=6", "training.sample_rate=0.2", "training.checkpoint_every=2"]
    words += ["evaluation.models=[logistic]", "evaluation.num_bootstraps=0"]
    words += ["privacy.dataset_ledger=spent.sqlite", "privacy.lifetime_epsilon=1"]  # holds one run
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, moment, *words, "hydra.sweep.dir=kept"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == -signal.SIGKILL, done.stderr
    ledger, release = here / "kept" / "0" / "ledger.jsonl", here / "kept" / "0" / "release"
    bought = ("charge", "columns/histograms"), ("charge", "marginals")
    before = [*bought] if moment == "before training" else [*bought, ("charge", "training")]
    assert [line for line in charges(ledger) if not line[1].startswith("marginals/")] == before
    assert not (here / "kept" / "0" / "result.json").exists()
    kept = (release / "certificate.json").read_bytes() if moment == "while logging" else None

    again = re.search(
        "it goes on with: python -m experiments.train -m (.*)|it goes on with: dpsynth train -m (.*)",
        done.stderr,
    )
    typed = shlex.split(again[1] or again[2])
    assert typed[-1] == "sweep.resume=kept"
    assert call("-m", *typed, "training.threads=2", monkeypatch=monkeypatch) == 0
    (point,) = collect(here / "kept")
    assert point.status == "FINISHED" and verify(point.release).passed
    paid = [event for kind, event in charges(ledger) if kind == "charge"]
    assert len(paid) == len(set(paid)) and paid.count("training") == 1
    assert [("continue", "training")] * (moment == "in training") == [
        line for line in charges(ledger) if line[0] == "continue"
    ]
    assert kept is None or (release / "certificate.json").read_bytes() == kept
    with sqlite3.connect(here / "spent.sqlite") as spent:
        assert spent.execute("SELECT COUNT(*) FROM charges").fetchone() == (1,)
    finished = [run for run in runs_of(here) if run.data.tags["dpsynth.kind"] == "run"]
    assert [run.info.status for run in finished].count("FINISHED") == 1
    # The budget of the table is used up: the same run elsewhere would be a second one.
    assert call(*words, "hydra.sweep.dir=other", monkeypatch=monkeypatch) == 1
    (refused,) = collect(here / "other")
    assert refused.status == "FAILED" and "lifetime_epsilon" in refused.error
    assert not (here / "other" / "0" / "ledger.jsonl").exists()
