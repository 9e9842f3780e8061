"""MLflow, and nothing else, lives here: one store, one parent run per sweep, one child per point.

A tracker is internal by nature: it is for the people who hold the data. Still, a number that was not paid for
never goes under a `released/` name, and the names say which is which. The store is prepared once, by the
process that starts the jobs, so that parallel jobs cannot race to create its tables.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import json
import logging
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dpsynth.errors import DpsynthError

# `public` is declared, `released` was paid for, `internal` touched private data without paying.
METRIC_NAMES = re.compile(r"(public|released|internal|privacy|audit|seconds|system)/.+")
_BATCH = 500  # MLflow accepts 1000 metrics in one call
_LONGEST_PARAM = 6000
_LONGEST_SCHEMA = 60_000


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where runs are recorded.

    Args:
      name: `mlflow`, or `none` to record nothing.
      uri: the MLflow store; SQLite in the working directory by default, or `postgresql://...`, `http://...`.
      experiment: the study's name.
      run_name: the run's name; None composes one from the generator and the claim.
      parent_run_id: the sweep's run; set by the process that starts the jobs.
      flush_seconds: how long metrics may wait to be written together.
    """

    name: Literal["mlflow", "none"] = "mlflow"
    uri: str = "sqlite:///mlflow.db"
    experiment: str = "dpsynth"
    run_name: str | None = None
    parent_run_id: str | None = None
    flush_seconds: float = 5.0

    def __post_init__(self):
        if not self.experiment.strip():
            raise ValueError("Expected tracking.experiment to be a name, got an empty one.")
        if self.flush_seconds < 0:
            raise ValueError(f"Expected tracking.flush_seconds={self.flush_seconds} to be at least 0.")

    def absolute(self) -> TrackingConfig:
        """Returns the same store named so that a job in another working directory finds it."""
        prefix = "sqlite:///"
        path = self.uri.removeprefix(prefix)
        if not self.uri.startswith(prefix) or path.startswith("/") or path in ("", ":memory:"):
            return self
        return replace(self, uri=prefix + str(Path(path).resolve()))


def _mlflow() -> Any:
    """Imports MLflow late (it takes seconds) and with its usage telemetry off, unless the user chose."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.pop("MLFLOW_RUN_ID", None)  # an outer run's id would capture ours
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    import mlflow

    return mlflow


@contextlib.contextmanager
def _only_one_process(config: TrackingConfig) -> Iterator[None]:
    """Holds a lock beside a SQLite store; other stores serialise their own migrations."""
    path = config.uri.removeprefix("sqlite:///")
    if not config.uri.startswith("sqlite:///") or path in ("", ":memory:") or os.name == "nt":
        yield
        return
    import fcntl

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def prepare(config: TrackingConfig) -> str:
    """Creates the store's tables and the experiment where they are missing; returns the experiment's id.

    Call it once before parallel jobs start. Calling it again, even at the same moment from other processes,
    is harmless.
    """
    mlflow = _mlflow()
    config = config.absolute()
    with _only_one_process(config):
        client = mlflow.MlflowClient(config.uri)
        found = client.get_experiment_by_name(config.experiment)
        if found is not None:
            return found.experiment_id
        try:
            return client.create_experiment(config.experiment)
        except mlflow.exceptions.MlflowException:  # another machine was first
            found = client.get_experiment_by_name(config.experiment)
            if found is None:
                raise
            return found.experiment_id


@functools.cache
def git_commit() -> str:
    """Returns the commit of this code, marked when the working tree differs from it."""
    where = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=where, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-modified" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


class Tracker:
    """Records one run; this base records nothing, which is what `tracking=none` asks for."""

    run_id: str | None = None

    def params(self, flat: Mapping[str, Any]) -> None:
        """Records settings by their dotted keys."""

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Records facts to search by, for example `dp.claim`."""

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Records a number; its name starts with its visibility or kind.

        Raises:
          DpsynthError: the name says neither.
        """
        if not METRIC_NAMES.fullmatch(name):
            raise DpsynthError(
                f"Metric {name!r} must start with its visibility: released/, internal/, privacy/ ..."
            )

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Records several numbers."""
        for name, value in values.items():
            self.metric(name, value, step)

    def artifacts(self, path: Path | str, folder: str | None = None) -> None:
        """Copies a file, or all files of a directory, to the run."""

    def text(self, text: str, name: str) -> None:
        """Stores a text as a file of the run."""

    def dataset(self, name: str, digest: str, schema: Mapping[str, Any]) -> None:
        """Records which table was used: by what is declared about it, never by its rows or their number."""

    def flush(self) -> None:
        """Writes what still waits."""

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Records how long a stage took as `seconds/STAGE`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.metric(f"seconds/{stage}", time.perf_counter() - start)


class MlflowTracker(Tracker):
    """Records a run that exists in an MLflow store, gathering metrics into few calls."""

    def __init__(self, client: Any, run_id: str, *, flush_seconds: float):
        self.client, self.run_id = client, run_id
        self._flush_seconds, self._waiting, self._flushed = flush_seconds, [], time.monotonic()

    def params(self, flat: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [
            Param(key, "null" if value is None else str(value)[:_LONGEST_PARAM])
            for key, value in flat.items()
        ]
        for start in range(0, len(params), 100):
            self.client.log_batch(self.run_id, params=params[start : start + 100])

    def tags(self, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(
            self.run_id, tags=[RunTag(key, str(value)[:5000]) for key, value in tags.items()]
        )

    def metric(self, name: str, value: float, step: int = 0) -> None:
        super().metric(name, value, step)
        from mlflow.entities import Metric

        self._waiting.append(Metric(name, float(value), int(time.time() * 1000), int(step)))
        if len(self._waiting) >= _BATCH or time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def artifacts(self, path: Path | str, folder: str | None = None) -> None:
        log = self.client.log_artifacts if Path(path).is_dir() else self.client.log_artifact
        log(self.run_id, str(path), folder)

    def text(self, text: str, name: str) -> None:
        self.client.log_text(self.run_id, text, name)

    def dataset(self, name: str, digest: str, schema: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        declared = json.dumps(schema, default=str)
        source = json.dumps({"schema": digest})
        entry = Dataset(
            name, digest[:36], source_type="declared", source=source, schema=declared[:_LONGEST_SCHEMA]
        )
        self.client.log_inputs(self.run_id, [DatasetInput(entry, tags=[])])

    def flush(self) -> None:
        waiting, self._waiting, self._flushed = self._waiting, [], time.monotonic()
        for start in range(0, len(waiting), _BATCH):
            self.client.log_batch(self.run_id, metrics=waiting[start : start + _BATCH])


def _started(config: TrackingConfig, name: str, tags: Mapping[str, Any]) -> MlflowTracker:
    """Creates a run and returns its tracker."""
    mlflow = _mlflow()
    config = config.absolute()
    experiment_id = prepare(config)
    client = mlflow.MlflowClient(config.uri)
    system = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git_commit(),
    }
    if config.parent_run_id:
        system["mlflow.parentRunId"] = config.parent_run_id
    all_tags = {key: str(value) for key, value in {**system, **tags}.items()}
    run = client.create_run(experiment_id, run_name=config.run_name or name, tags=all_tags)
    return MlflowTracker(client, run.info.run_id, flush_seconds=config.flush_seconds)


def described(error: BaseException) -> str:
    """Says what went wrong without quoting values: messages of other libraries may hold a private one."""
    if isinstance(error, DpsynthError):
        return f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _traceback(error: BaseException) -> str:
    """Returns the frames and the kind of error, not its message."""
    return "".join([*traceback.format_tb(error.__traceback__), described(error), "\n"])


@contextlib.contextmanager
def track(config: TrackingConfig, name: str, tags: Mapping[str, Any] | None = None) -> Iterator[Tracker]:
    """Records a run for as long as the block lasts.

    The run ends FINISHED, or FAILED with the error as a tag and its traceback under `internal/` when the
    block raises, or KILLED when it is interrupted. The exception goes on in every case.

    Args:
      config: where; with `parent_run_id` the run is that run's child.
      name: the run's name, unless the configuration gives one.
      tags: facts known at the start.
    """
    if config.name == "none":
        yield Tracker()
        return
    tracker = _started(config, name, tags or {})
    try:
        yield tracker
        tracker.flush()
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        with contextlib.suppress(Exception):  # the error that matters is the one under way
            tracker.flush()
            tracker.tags({"error": described(error)})
            tracker.text(_traceback(error), "internal/traceback.txt")
        tracker.client.set_terminated(tracker.run_id, "KILLED" if interrupted else "FAILED")
        raise
    tracker.client.set_terminated(tracker.run_id)


def children(config: TrackingConfig, parent_run_id: str) -> list[Any]:
    """Returns the runs of a sweep."""
    mlflow = _mlflow()
    client = mlflow.MlflowClient(config.absolute().uri)
    return list(
        client.search_runs(
            [prepare(config)], f"tags.`mlflow.parentRunId` = '{parent_run_id}'", max_results=5000
        )
    )


def tags_of(config: TrackingConfig, run_id: str) -> dict[str, str]:
    """Returns the tags of a recorded run.

    Raises:
      DpsynthError: the store has no such run.
    """
    mlflow = _mlflow()
    try:
        return dict(mlflow.MlflowClient(config.absolute().uri).get_run(run_id).data.tags)
    except mlflow.exceptions.MlflowException as error:
        raise DpsynthError(f"{config.uri} has no run {run_id!r}: {str(error).splitlines()[0]}") from None


def fetch(config: TrackingConfig, run_id: str, name: str, folder: Path | str) -> Path | None:
    """Copies an artefact of a recorded run into a folder; None where the run has no such artefact."""
    mlflow = _mlflow()
    client = mlflow.MlflowClient(config.absolute().uri)
    parent = name.rpartition("/")[0]
    if name not in {item.path for item in client.list_artifacts(run_id, parent or None)}:
        return None
    return Path(client.download_artifacts(run_id, name, str(folder)))


def how_to_open(config: TrackingConfig) -> str:
    """Returns the one command that shows the store in a browser."""
    if config.uri.startswith(("http://", "https://")):
        return f"open {config.uri}"
    program = Path(sys.executable).with_name("mlflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return f"DO_NOT_TRACK=true {program} ui --backend-store-uri {config.uri}"
