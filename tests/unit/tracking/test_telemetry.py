"""A run talks to nobody: each connection that Python opens in any of its processes is seen and refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.processes import ROOT, environment

# Python runs this before anything else in each process of the run. Loopback and sockets of files are no
# way out: parallel jobs and Ray use them among themselves.
_GUARD = """
import os, sys
def guard(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        target = args[1] if event in ("socket.connect", "socket.sendto") else args
        host = target[0] if isinstance(target, tuple) else None
        if host in (None, "", "localhost", "::1") or str(host).startswith("127."):
            return
        with open(os.environ["GUARD_LOG"], "a") as log:
            log.write(f"{event} {host}\\n")
        raise OSError("no network")
sys.addaudithook(guard)
"""
_SCHEMA = """
version: 1
num_units: 300
columns:
  - {name: age, kind: integer, min: 18, max: 90}
  - {name: region, kind: categorical, values: [north, south]}
"""


@pytest.fixture
def attempts(tmp_path):
    """Runs the training command on a small table; returns the outgoing connections that were tried."""
    random = np.random.default_rng(0)
    rows = {"age": random.integers(18, 91, 300), "region": random.choice(["north", "south"], 300)}
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "schema.yaml").write_text(_SCHEMA, encoding="utf-8")
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(_GUARD, encoding="utf-8")

    def run(*words: str, **more: str) -> list[str]:
        log = tmp_path / "attempts.txt"
        environ = environment(GUARD_LOG=str(log), **more)
        environ["PYTHONPATH"] = f"{tmp_path}/guard:{ROOT}"
        command = [sys.executable, "-m", "experiments.train", "generator=independent", "num_rows=50"]
        command += [
            "data=csv",
            "data.path=table.csv",
            "data.schema=schema.yaml",
            "evaluation.models=[]",
            *words,
        ]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert list(Path(tmp_path).rglob("certificate.json"))
        return log.read_text().splitlines() if log.exists() else []

    return run


def test_a_run_attempts_no_outgoing_connection(attempts):
    assert attempts() == []


def test_the_guard_sees_telemetry_when_the_user_turns_it_on(attempts):
    """The broken twin of the test above: MLflow's own default calls home from a thread."""
    assert attempts(MLFLOW_DISABLE_TELEMETRY="false", DO_NOT_TRACK="false") != []
