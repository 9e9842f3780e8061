"""The store: parallel jobs lose nothing in it, and it may be a file, a database or a server."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.processes import python

_RACE = """
import os
from dpsynth import tracking
from dpsynth.tracking import store
store.import_mlflow()  # the slow imports once; the store is touched by the jobs alone
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
client = store.import_mlflow().MlflowClient(config.absolute().uri)
experiments = [e for e in client.search_experiments() if e.name == "dpsynth"]
runs = client.search_runs([e.experiment_id for e in experiments])
points = sum(len(client.get_metric_history(run.info.run_id, "privacy/epsilon")) for run in runs)
finished = sum(run.info.status == "FINISHED" for run in runs)
print([failed, len(experiments), finished, points, sum(len(run.data.params) for run in runs)])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_eight_processes_writing_to_a_fresh_store_lose_nothing(tmp_path):
    assert json.loads(python(_RACE, tmp_path)) == [0, 1, 8, 8 * 25, 8 * 20]
