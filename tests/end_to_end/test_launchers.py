"""Sweeps on Ray, on Slurm's stand-in and with Optuna: real jobs on a small table, one thread each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpsynth.study.points import collect
from tests.end_to_end.test_train import QUICK, here, runs_of, table  # noqa: F401  fixtures

ROOT = Path(__file__).resolve().parents[2]
TWO = ["generator=independent", "privacy.epsilon=1,2"]


def swept(here: Path, table: list[str], *words: str) -> list:  # noqa: F811
    """Runs a sweep as a user does, in a process of its own; returns its points."""
    command = [sys.executable, "-m", "experiments.train", "-m", *words, *table, *QUICK, "num_rows=100"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in ("OMP_NUM_THREADS", "RAY_USAGE_STATS_ENABLED"):
        env.pop(name, None)
    done = subprocess.run(command, env=env, cwd=here, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return collect(next((here / "outputs").glob("*/*")))


def test_jobs_run_as_ray_tasks_with_one_thread_each(table, here):  # noqa: F811
    pytest.importorskip("ray")
    points = swept(here, table, *TWO, "hydra/launcher=ray", "hydra.launcher.num_cpus=2")
    assert [(point.status, point.epsilon) for point in points] == [("FINISHED", 1.0), ("FINISHED", 2.0)]
    runs = runs_of(here)
    parent = next(run for run in runs if run.data.tags["dpsynth.kind"] == "sweep")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 2 and {run.data.metrics["internal/system/threads"] for run in children} == {1.0}


def test_jobs_run_under_submitit(table, here):  # noqa: F811
    """Slurm itself is not here; the plugin's local executor submits, pickles and waits the same way."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    points = swept(here, table, *TWO, "hydra/launcher=submitit_local")
    assert [point.status for point in points] == ["FINISHED"] * 2


def test_the_slurm_launcher_is_configured():
    plugin = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    from omegaconf import OmegaConf

    command = [sys.executable, "-m", "experiments.train", "hydra/launcher=submitit_slurm"]
    command += ["hydra.launcher.partition=long", "--cfg", "hydra"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    launcher = OmegaConf.create(done.stdout).hydra.launcher
    assert launcher.partition == "long" and launcher.cpus_per_task == 1
    assert "OMP_NUM_THREADS=1" in launcher.setup[0]
    assert set(launcher) <= set(OmegaConf.structured(plugin.SlurmQueueConf))  # no key that it does not know


def test_optuna_maximises_utility_at_a_fixed_epsilon(table, here):  # noqa: F811
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = [
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_jobs=1",
        "privacy.epsilon=1",
    ]
    points = swept(here, table, *words, "generator=independent", "privacy.count_share=interval(0.01,0.2)")
    assert [point.epsilon for point in points] == [1.0] * 3
    assert len({point.settings["privacy.count_share"] for point in points}) == 3
    (path,) = here.glob("outputs/*/*/optimization_results.yaml")
    from omegaconf import OmegaConf

    from dpsynth.evaluation.types import Evaluation
    from experiments.train import utility_of

    # The choice looked at unpaid figures: no number for the sweep, and each release's run says why.
    runs = runs_of(here)
    assert len(runs) == 4 and all("No epsilon covers" in run.data.tags["dp.search"] for run in runs)
    parent = next(run for run in runs if run.data.tags["dpsynth.kind"] == "sweep")
    assert not [name for name in parent.data.metrics if name.startswith("privacy/")]
    assert "epsilon=" not in parent.data.tags["mlflow.note.content"].partition("costs in privacy")[2]
    found = OmegaConf.load(path)
    utilities = [utility_of(Evaluation.from_dict(point.evaluation)) for point in points]
    assert found.best_value == pytest.approx(max(utilities))
