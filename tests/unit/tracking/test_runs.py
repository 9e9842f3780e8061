"""Runs land in MLflow whole: none lost, none mislabelled, none sent anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth import tracking
from dpsynth.errors import DpsynthError
from dpsynth.tracking import TrackingConfig, track
from dpsynth.tracking.runs import key_of


@pytest.fixture(scope="module")
def store(made_store):
    return TrackingConfig(uri=f"sqlite:///{made_store}", flush_seconds=1e9)


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
    run = client(store).get_run(tracker.run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "tvae epsilon=1"
    assert run.data.params == {"privacy.epsilon": "1.0", "training.steps": "null"}
    assert run.data.tags["dp.claim"] == "epsilon=1, delta=1e-05"
    assert run.data.tags["mlflow.source.git.commit"]
    history = client(store).get_metric_history(tracker.run_id, "privacy/epsilon")
    assert [metric.step for metric in history] == list(range(1, 1201))
    assert run.data.metrics["internal/seconds/train"] >= 0
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
    assert "test_runs.py" in text and "column age" in text


def test_an_error_of_another_library_is_recorded_without_the_value_that_it_quotes(store):
    with pytest.raises(ValueError, match="salary-of-bob"), track(store, "quotes") as tracker:
        float("salary-of-bob")
    run = client(store).get_run(tracker.run_id)
    assert run.data.tags["error"].startswith("ValueError at test_runs.py:")
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


names = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    ["$", "_u24_", "_u", "a//b", "../b", "a/./b", "a/", "/a", ".", "", "é", "x=1,y", "x" * 300, "x" * 301]
)


@settings(deadline=None, max_examples=200)
@given(first=names, second=names)
def test_any_name_is_a_key_for_mlflow_and_no_two_names_share_one(first, second):
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, path_not_unique, validate_param_and_metric_name

    for name in (first, second):
        key = key_of(name)
        assert validate_param_and_metric_name(key) and not path_not_unique(key)
        assert 0 < len(key) <= MAX_ENTITY_KEY_LENGTH
    assert (key_of(first) == key_of(second)) == (first == second)


@pytest.mark.parametrize(
    "name", ["internal/tv_1way", "internal/seconds/a b", "mlflow.user", "privacy/table_epsilon"]
)
def test_names_of_ours_are_keys_as_they_are(name):
    assert key_of(name) == name
