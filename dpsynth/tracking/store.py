"""The MLflow store: made once, by whoever starts the jobs, so that jobs cannot race to create its tables."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dpsynth.errors import DpsynthError
from dpsynth.tracking.config import TrackingConfig

# What the dependencies send home unless told not to; a user who wants it sets them otherwise.
NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # how the user interface opens the study


def without_telemetry() -> None:
    """Turns the dependencies' usage telemetry off, here and in child processes, unless the user chose."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)


def import_mlflow() -> Any:
    """Imports MLflow late (it takes seconds) and with its usage telemetry off, unless the user chose."""
    without_telemetry()
    os.environ.pop("MLFLOW_RUN_ID", None)  # an outer run's id would capture ours
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    import mlflow

    return mlflow


@contextlib.contextmanager
def only_one_process(config: TrackingConfig) -> Iterator[None]:
    """Holds a lock beside a SQLite store, or among this user's settings for a store elsewhere.

    MLflow makes the tables of a new store without one: of eight processes at a fresh PostgreSQL database,
    seven fail. Jobs on other machines start after the process that prepared the store.
    """
    if os.name == "nt":
        yield
        return
    import fcntl

    path = config.salt_file.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def prepare(config: TrackingConfig) -> str:
    """Creates the store's tables and the experiment where they are missing; returns the experiment's id.

    Call it once before parallel jobs start. Calling it again, even at the same moment from other processes,
    is harmless.
    """
    mlflow = import_mlflow()
    config = config.absolute()
    with only_one_process(config):
        client = mlflow.MlflowClient(config.address)
        found = client.get_experiment_by_name(config.experiment)
        if found is not None:
            return found.experiment_id
        try:
            return client.create_experiment(config.experiment, tags=_KIND)
        except mlflow.exceptions.MlflowException:  # another machine was first
            found = client.get_experiment_by_name(config.experiment)
            if found is None:
                raise
            return found.experiment_id


def children(config: TrackingConfig, parent_run_id: str) -> list[Any]:
    """Returns the runs of a sweep."""
    mlflow = import_mlflow()
    client = mlflow.MlflowClient(config.absolute().address)
    return list(
        client.search_runs(
            [prepare(config)], f"tags.`mlflow.parentRunId` = '{parent_run_id}'", max_results=5000
        )
    )


def tags_of(config: TrackingConfig, run_id: str) -> dict[str, str]:
    """Returns the tags of a recorded run.

    Raises:
      DpsynthError: there is no such store, or no such run in it.
    """
    if (file := config.absolute().file) is not None and not file.exists():
        raise DpsynthError(f"There is no store {config.uri}.")
    mlflow = import_mlflow()
    try:
        return dict(mlflow.MlflowClient(config.absolute().address).get_run(run_id).data.tags)
    except mlflow.exceptions.MlflowException as error:
        raise DpsynthError(f"{config.uri} has no run {run_id!r}: {str(error).splitlines()[0]}") from None


def fetch(config: TrackingConfig, run_id: str, name: str, folder: Path | str) -> Path | None:
    """Copies an artefact of a recorded run into a folder; None where the run has no such artefact."""
    mlflow = import_mlflow()
    client = mlflow.MlflowClient(config.absolute().address)
    parent = name.rpartition("/")[0]
    if name not in {item.path for item in client.list_artifacts(run_id, parent or None)}:
        return None
    return Path(client.download_artifacts(run_id, name, str(folder)))


def attach(config: TrackingConfig, run_id: str, files: Sequence[Path], folder: str) -> None:
    """Copies files to a recorded run, for instance a report that was written after it ended.

    Raises:
      DpsynthError: the store has no such run.
    """
    tags_of(config, run_id)
    client = import_mlflow().MlflowClient(config.absolute().address)
    for file in files:
        client.log_artifact(run_id, str(file), folder)


def how_to_open(config: TrackingConfig) -> str:
    """Returns the one command that shows the store in a browser."""
    if config.uri.startswith(("http://", "https://")):
        return f"open {config.uri}"
    program = Path(sys.executable).with_name("mlflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return f"DO_NOT_TRACK=true {program} ui --backend-store-uri {config.uri}"
