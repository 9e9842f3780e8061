"""Other stores by URI: a PostgreSQL database, and MLflow's own server over HTTP."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

from dpsynth import tracking
from dpsynth.data.schema import Schema
from dpsynth.data.schema.columns import Integer
from dpsynth.data.tables.table import PrivateTable
from dpsynth.tracking import TrackingConfig, track
from tests.support.processes import environment, python

pytestmark = pytest.mark.slow
SCHEMA = Schema(version=1, columns=(Integer(name="age", min=0, max=99),), num_units=3)

_JOBS = """
import os, sys
from dpsynth import tracking
from dpsynth.tracking import store
store.import_mlflow()
import mlflow.store.tracking.sqlalchemy_store
jobs = []
for job in range(8):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            config = tracking.TrackingConfig(uri=os.environ["STORE"], flush_seconds=0.0, parent_run_id="p")
            with tracking.track(config, f"job{job}") as tracker:
                tracker.params({f"p{i}": i for i in range(20)})
                for step in range(25):
                    tracker.metric("privacy/epsilon", float(step), step)
            status = 0
        finally:
            os._exit(status)
    jobs.append(pid)
failed = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in jobs)
config = tracking.TrackingConfig(uri=os.environ["STORE"])
runs = tracking.children(config, "p")
client = store.import_mlflow().MlflowClient(config.uri)
points = sum(len(client.get_metric_history(run.info.run_id, "privacy/epsilon")) for run in runs)
print([failed, len(runs), points, sum(len(run.data.params) for run in runs)])
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def use(uri: str, folder: Path) -> None:
    """Does with a store all that a sweep does: parallel jobs, a parent and its child, files, a report."""
    counts = json.loads(python(_JOBS, folder, STORE=uri, MLFLOW_DISABLE_TELEMETRY="true"))
    assert counts == [0, 8, 8 * 25, 8 * 20]
    config = TrackingConfig(uri=uri)
    (folder / "report.html").write_text("<p>report</p>", encoding="utf-8")
    with track(config, "sweep", {"sweep.folder": "here"}) as parent:
        parent.table(pd.DataFrame({"epsilon": [1.0], "mean": [0.9]}), "internal/frontier/table.json")
        child = TrackingConfig(uri=uri, parent_run_id=parent.run_id, system_seconds=0.2)
        with track(child, "point", watch=True) as tracker:
            tracker.dataset("people", PrivateTable(pd.DataFrame({"age": [3, 1, 2]}), SCHEMA))
            tracker.metric("released/rows", 3)
            time.sleep(0.5)
    tracking.attach(config, parent.run_id, [folder / "report.html"], "internal/report")
    (found,) = tracking.children(config, parent.run_id)
    assert found.info.status == "FINISHED" and found.data.metrics["released/rows"] == 3
    assert "internal/system/cpu_utilization_percentage" in found.data.metrics
    assert found.inputs.dataset_inputs[0].dataset.name == "people"
    assert tracking.tags_of(config, parent.run_id)["sweep.folder"] == "here"
    page = tracking.fetch(config, parent.run_id, "internal/report/report.html", folder)
    assert page.read_text(encoding="utf-8") == "<p>report</p>"
    assert tracking.fetch(config, parent.run_id, "internal/frontier/table.json", folder) is not None


@pytest.fixture
def postgres(monkeypatch):
    """A database server of its own behind a socket in a folder; yields the store's URI."""
    pytest.importorskip("psycopg2")
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, homes), os.environ["PATH"]])
    if shutil.which("initdb", path=path) is None:
        pytest.skip("PostgreSQL is not installed")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to be run by root
        user = next((entry.pw_name for entry in pwd.getpwall() if entry.pw_name == "postgres"), None)
        if user is None:
            pytest.skip("PostgreSQL has no user to run as")
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())  # short: sockets' names are
    if user is not None:
        shutil.chown(folder, user)

    def run(*words: str) -> None:
        environ = {**os.environ, "PATH": path, "LC_ALL": "C"}
        subprocess.run(
            words, cwd=folder, env=environ, user=user, check=True, stdout=subprocess.DEVNULL, timeout=120
        )

    run("initdb", "-D", str(folder / "data"), "-U", "runs", "--auth=trust")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    run("pg_ctl", "-D", str(folder / "data"), "-l", str(folder / "log"), "-w", "-o", options, "start")
    try:
        yield f"postgresql+psycopg2://runs@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_a_postgresql_database_keeps_all_that_eight_jobs_write(postgres, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    use(postgres, tmp_path)


def test_a_server_keeps_all_that_eight_jobs_write(tmp_path, monkeypatch):
    port = free_port()
    (tmp_path / "server").mkdir()
    words = ["server", "--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "files"]
    server = subprocess.Popen(
        [Path(sys.executable).with_name("mlflow"), *words, "--port", str(port), "--workers", "1"],
        cwd=tmp_path / "server",
        env=environment(MLFLOW_DISABLE_TELEMETRY="true"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(1)
        use(f"http://127.0.0.1:{port}", tmp_path)
        assert list((tmp_path / "server" / "files").rglob("report.html")), "files lie with the server"
        assert not (tmp_path / "mlruns").exists()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)
