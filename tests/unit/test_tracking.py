"""Runs land in MLflow whole: none lost, none mislabelled, none sent anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dpsynth import tracking
from dpsynth.errors import DpsynthError
from dpsynth.tracking import TrackingConfig, track

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return TrackingConfig(uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", flush_seconds=1e9)


def client(config):
    import mlflow

    return mlflow.MlflowClient(config.uri)


def test_a_run_records_params_tags_metrics_and_files(store, tmp_path):
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "certificate.json").write_text("{}")
    with track(store, "tvae epsilon=1", {"dp.claim": "epsilon=1, delta=1e-05"}) as tracker:
        tracker.params({"privacy.epsilon": 1.0, "training.steps": None})
        for step in range(1, 1201):
            tracker.metric("privacy/epsilon", step / 1200, step)
        with tracker.timed("train"):
            pass
        tracker.artifacts(tmp_path / "release", "release")
        tracker.dataset("hi", "ab" * 32, {"columns": []})
    run = client(store).get_run(tracker.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "tvae epsilon=1"
    assert run.data.params == {"privacy.epsilon": "1.0", "training.steps": "null"}
    assert run.data.tags["dp.claim"] == "epsilon=1, delta=1e-05"
    assert run.data.tags["mlflow.source.git.commit"]
    history = client(store).get_metric_history(tracker.run_id, "privacy/epsilon")
    assert [metric.step for metric in history] == list(range(1, 1201))
    assert run.data.metrics["seconds/train"] >= 0
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.dataset.schema) == (
        "hi",
        "ab" * 18,
        '{"columns": []}',
    )
    assert [f.path for f in client(store).list_artifacts(tracker.run_id, "release")] == [
        "release/certificate.json"
    ]


def test_metrics_are_gathered_into_few_calls(store):
    with track(store, "calls") as tracker:
        calls, log_batch = [], tracker.client.log_batch
        tracker.client.log_batch = lambda *args, **kwargs: calls.append(1) or log_batch(*args, **kwargs)
        for step in range(1000):
            tracker.metric("privacy/epsilon", 1.0, step)
        tracker.flush()
    assert len(calls) == 2


def test_a_failed_run_says_so_with_its_traceback_and_keeps_its_metrics(store):
    with pytest.raises(DpsynthError), track(store, "fails") as tracker:
        tracker.metric("privacy/epsilon", 0.5, 3)
        raise DpsynthError("column age: is missing.")
    run = client(store).get_run(tracker.run_id)
    assert run.info.status == "FAILED" and run.data.tags["error"] == "DpsynthError: column age: is missing."
    assert run.data.metrics["privacy/epsilon"] == 0.5
    text = Path(client(store).download_artifacts(tracker.run_id, "internal/traceback.txt")).read_text()
    assert "test_tracking.py" in text and "column age" in text


def test_an_error_of_another_library_is_recorded_without_the_value_that_it_quotes(store):
    with pytest.raises(ValueError, match="salary-of-bob"), track(store, "quotes") as tracker:
        float("salary-of-bob")
    run = client(store).get_run(tracker.run_id)
    assert run.data.tags["error"].startswith("ValueError at test_tracking.py:")
    text = Path(client(store).download_artifacts(tracker.run_id, "internal/traceback.txt")).read_text()
    assert "ValueError" in text and "could not convert" not in text


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_is_killed_not_finished(store, stop):
    with pytest.raises(stop), track(store, "interrupted") as tracker:
        raise stop
    assert client(store).get_run(tracker.run_id).info.status == "KILLED"


def test_children_are_found_by_their_parent_and_ignore_an_outer_run(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody-elses")
    with track(store, "sweep") as parent:
        for name in ("a", "b"):
            child = TrackingConfig(uri=store.uri, parent_run_id=parent.run_id)
            with track(child, name):
                pass
    assert {run.info.run_name for run in tracking.children(store, parent.run_id)} == {"a", "b"}
    assert "somebody-elses" not in {run.info.run_id for run in tracking.children(store, parent.run_id)}


@pytest.mark.parametrize("name", ["loss", "epsilon", "release/auc", "released/", "Internal/loss"])
def test_a_metric_without_visibility_is_refused(name):
    with pytest.raises(DpsynthError, match="visibility"):
        tracking.Tracker().metric(name, 1.0)


def test_tracking_none_records_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with track(TrackingConfig(name="none"), "nothing") as tracker:
        tracker.metric("privacy/epsilon", 1.0)
        tracker.params({"seed": 0})
    assert tracker.run_id is None and not list(tmp_path.iterdir())


def test_a_relative_store_is_named_absolutely_for_jobs_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TrackingConfig().absolute().uri == f"sqlite:///{tmp_path}/mlflow.db"
    for uri in (f"sqlite:///{tmp_path}/x.db", "postgresql://host/db", "http://host:5000"):
        assert TrackingConfig(uri=uri).absolute().uri == uri


def _python(code: str, cwd: Path, **env: str) -> str:
    """Runs code in a fresh process that does not look like a test run, where telemetry is always off."""
    hidden = ("PYTEST", "CI", "GITHUB", "DO_NOT_TRACK", "MLFLOW")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**clean, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


_RACE = """
import os
from dpsynth import tracking
tracking._mlflow()  # the slow imports once; the store is touched by the jobs alone
import alembic.command, mlflow.store.tracking.sqlalchemy_store
config = tracking.TrackingConfig(flush_seconds=0.0)
jobs = []
for job in range(8):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with tracking.track(config, f"job{job}") as tracker:
                tracker.params({f"p{i}": i for i in range(20)})
                for step in range(25):
                    tracker.metric("privacy/epsilon", float(step), step)
            status = 0
        finally:
            os._exit(status)
    jobs.append(pid)
failed = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in jobs)
client = tracking._mlflow().MlflowClient(config.absolute().uri)
experiments = [e for e in client.search_experiments() if e.name == "dpsynth"]
runs = client.search_runs([e.experiment_id for e in experiments])
points = sum(len(client.get_metric_history(run.info.run_id, "privacy/epsilon")) for run in runs)
finished = sum(run.info.status == "FINISHED" for run in runs)
print([failed, len(experiments), finished, points, sum(len(run.data.params) for run in runs)])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_eight_processes_writing_to_a_fresh_store_lose_nothing(tmp_path):
    assert json.loads(_python(_RACE, tmp_path)) == [0, 1, 8, 8 * 25, 8 * 20]


_CALLS_HOME = """
import json, socket, time
tried = []
def refuse(*args, **kwargs):
    tried.append(str(args))
    raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from dpsynth import tracking
with tracking.track(tracking.TrackingConfig(), "run") as tracker:
    tracker.metric("privacy/epsilon", 1.0)
deadline = time.monotonic() + {seconds}
while time.monotonic() < deadline and not tried:
    time.sleep(0.05)
print(json.dumps(len(tried)))
"""


@pytest.fixture
def folder_with_store(store, tmp_path):
    tracking.prepare(store)
    shutil.copy(store.uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    return tmp_path


def test_a_run_attempts_no_outgoing_connection(folder_with_store):
    assert json.loads(_python(_CALLS_HOME.format(seconds=1), folder_with_store)) == 0


def test_the_connection_detector_sees_telemetry_when_the_user_turns_it_on(folder_with_store):
    """The broken twin of the test above: MLflow's own default calls home from a thread."""
    on = {"MLFLOW_DISABLE_TELEMETRY": "false", "DO_NOT_TRACK": "false"}
    assert json.loads(_python(_CALLS_HOME.format(seconds=20), folder_with_store, **on)) > 0
