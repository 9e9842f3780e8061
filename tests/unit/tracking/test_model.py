"""A registered release answers with synthetic rows, where there is neither the data nor this package."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dpsynth import pipeline
from dpsynth.data.schema import Schema
from dpsynth.data.schema.columns import Categorical, Continuous, Datetime
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import DpsynthError, InvalidInput
from dpsynth.generators import independent
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.serving import MOST_REQUESTS, MOST_ROWS, ServedRelease
from dpsynth.tracking import model, track
from tests.support.processes import environment

SCHEMA = Schema(
    version=1,
    columns=(
        Categorical(name="town", values=("north", "south")),
        Continuous(name="income", min=0.0, max=100.0, nullable=True),
        Datetime(name="day", format="%Y-%m-%d", min="2020-01-01", max="2020-12-31"),
    ),
    num_units=400,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A release of the floor, made from random rows."""
    random = np.random.default_rng(0)
    rows = {
        "town": random.choice(["north", "south"], 400),
        "income": np.where(random.random(400) < 0.3, np.nan, random.uniform(0, 100, 400)),
        "day": pd.Series(pd.to_datetime("2020-01-01") + pd.to_timedelta(random.integers(0, 366, 400), "D")),
    }
    recipe = pipeline.Recipe(
        generator="independent",
        settings=independent.Config(),
        privacy=PrivacyConfig(epsilon=1.0, delta=1e-4),
        training=TrainingConfig(),
    )
    table = PrivateTable(pd.DataFrame(rows).assign(day=rows["day"].dt.strftime("%Y-%m-%d")), SCHEMA)
    folder = tmp_path_factory.mktemp("made")
    return pipeline.run(table, recipe, folder).release, folder / "release"


@pytest.mark.parametrize(
    ("asked", "params", "num"),
    [
        (7, None, 7),
        ([2, 3], None, 5),
        (np.array([4]), None, 4),
        ({"n": 3, "seed": 1}, None, 3),
        ({"n": [1, 2]}, None, 3),
        (pd.DataFrame({"n": [2.0, np.nan]}), {"n": 5}, 7),
        (pd.DataFrame(), {"n": 6}, 6),
        (None, {"n": 4, "seed": None}, 4),
        (None, None, 100),
    ],
)
def test_as_many_rows_come_as_are_asked_for(made, asked, params, num):
    rows = ServedRelease(made[0]).predict(asked, params)
    assert len(rows) == num and list(rows.columns) == list(SCHEMA.names)


@pytest.mark.parametrize(
    "asked",
    [
        *(0, -3, 1.5, "many", "5", True, MOST_ROWS + 1, 1e300, np.inf, {"n": 1, "seed": "x"}),
        *({"n": 1, "seed": 1e300}, [1, -1], [MOST_ROWS, 1], [1] * (MOST_REQUESTS + 1)),
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_refused(made, asked):
    with pytest.raises(InvalidInput, match="the request"):
        ServedRelease(made[0]).predict(asked)


def test_nothing_is_made_of_a_call_whose_last_request_is_refused(made, monkeypatch):
    monkeypatch.setattr(ServedRelease, "_rows", lambda *_: pytest.fail("rows were made"))
    with pytest.raises(InvalidInput, match="in all"):
        ServedRelease(made[0]).predict([MOST_ROWS // 2, MOST_ROWS // 2, 1])


@pytest.mark.parametrize("asked", [1.5, -1, 10**9, [MOST_ROWS, MOST_ROWS], "=1+1"])
def test_a_server_answers_a_wrong_request_with_a_sentence_and_400(made, asked):
    from mlflow.exceptions import MlflowException

    from dpsynth.tracking.served import Answering

    with pytest.raises(MlflowException) as refused:
        Answering(ServedRelease(made[0])).predict(asked)
    assert refused.value.get_http_status_code() == 400 and "the request has" in refused.value.message


def test_a_seed_repeats_rows_and_no_seed_makes_new_ones(made):
    served = ServedRelease(made[0])
    first, again, other = (served.predict(50, {"seed": seed}) for seed in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)
    assert not served.predict(50).equals(served.predict(50))


def test_what_is_missing_is_null_in_json(made):
    rows = ServedRelease(made[0]).predict(100, {"seed": 0})
    text = json.dumps(rows.to_dict("records"), allow_nan=False)
    assert '"income": null' in text and rows["income"].notna().any()


_LOADS = """
import json, sys
assert not any(path.endswith(sys.argv[1]) for path in sys.path)
import mlflow
loaded = mlflow.pyfunc.load_model(sys.argv[2])
import dpsynth
assert dpsynth.__file__.startswith(sys.argv[3]), dpsynth.__file__
rows = [loaded.predict(5), loaded.predict([1, 2]), loaded.predict([1], params={"seed": 1})]
print(json.dumps([len(part) for part in rows]))
"""


@pytest.fixture(scope="module")
def registered(made, made_store, tmp_path_factory):
    """A store with two versions of a model; returns its address and the folder of its files."""
    import shutil

    from dpsynth.tracking import TrackingConfig

    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(made_store, folder / "mlflow.db")
    config = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", register="people")
    for _ in range(2):
        with track(config, "run") as tracker:
            tracker.register(made[1])
    return config, tracker


def test_each_registered_release_is_the_next_version_and_says_what_it_promises(registered):
    config, tracker = registered
    run = tracker.client.get_run(tracker.run_id)
    version = tracker.client.get_model_version("people", "2")
    assert run.data.tags["dpsynth.model"] == "models:/people/2"
    assert version.tags["dp.claim"] == "epsilon=1, delta=0.0001" and version.run_id == tracker.run_id
    assert "independent" in version.description


def test_a_model_loads_without_this_package_beside_it_and_holds_no_pickle(registered, tmp_path):
    config, tracker = registered
    files = tracker.client.download_artifacts(tracker.run_id, "model", str(tmp_path))
    names = {path.name for path in Path(files).rglob("*") if path.is_file()}
    assert "certificate.json" in names and not any(name.endswith((".pkl", ".pickle")) for name in names)
    # the package under test may be installed in development mode: look away from it
    root = str(Path(__file__).resolve().parents[3])
    code = f"import sys; sys.path = [p for p in sys.path if p not in ('', {root!r})]\n" + _LOADS
    environ = environment(MLFLOW_DISABLE_TELEMETRY="true")
    environ.pop("PYTHONPATH")
    done = subprocess.run(
        [sys.executable, "-c", code, root, files, files],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1]) == [5, 3, 1]


def test_without_a_name_nothing_is_registered(made, new_store, tmp_path):
    with track(new_store(tmp_path), "run") as tracker:
        tracker.register(made[1])
    assert tracker.client.search_registered_models() == []
    with pytest.raises(DpsynthError, match="is not a release"):
        model.save(tmp_path, tmp_path / "model")


@pytest.mark.slow
def test_mlflow_serves_synthetic_rows_over_http(registered, tmp_path):
    config, _ = registered
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = Path(sys.executable).parent
    environ = environment(MLFLOW_TRACKING_URI=config.uri, MLFLOW_DISABLE_TELEMETRY="true")
    environ["PATH"] = f"{programs}{os.pathsep}{environ['PATH']}"  # as in an activated environment
    words = ["models", "serve", "-m", "models:/people/2", "--env-manager", "local", "-p", str(port)]
    server = subprocess.Popen(
        [programs / "mlflow", *words],
        cwd=tmp_path,
        env=environ,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def ask(body: dict) -> tuple[int, dict]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read(), parse_constant=pytest.fail)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(1)
        status, answer = ask({"dataframe_records": [{"n": 40}]})
        rows = answer["predictions"]
        assert status == 200 and len(rows) == 40 and set(rows[0]) == set(SCHEMA.names)
        assert {row["town"] for row in rows} <= {"north", "south"}
        assert None in {row["income"] for row in rows}
        assert ask({"inputs": [3], "params": {"seed": 1}}) == ask({"inputs": [3], "params": {"seed": 1}})
        assert ask({"inputs": [0]})[0] == 400
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)
