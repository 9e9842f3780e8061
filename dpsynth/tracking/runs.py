"""One run while it lasts: what it is called, what it records, how it ends."""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.tables.salt import local_salt
from dpsynth.errors import DpsynthError, described, trace
from dpsynth.tracking.config import TrackingConfig
from dpsynth.tracking.store import import_mlflow, prepare

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema
    from dpsynth.data.tables.table import PrivateTable

# `public` is declared, `released` was paid for, `internal` touched private data without paying.
# Times and loads of the machine follow private rows, so they are internal as well.
METRIC_NAMES = re.compile(r"(public|released|internal|privacy)/.+")
_SYSTEM = "internal/system/"
_LONGEST_KEY = 250
# What MLflow refuses in a key, parts of paths that it would fold, and what looks like an escape of ours.
_REFUSED = re.compile(r"[^\w\-. :/]|[^\x00-\x7f]|^[/.]|[/.]$|(?<=/)[/.]|_(?=u[0-9a-f]*_)")
_BATCH = 500  # MLflow accepts 1000 metrics in one call
_LONGEST_PARAM = 6000
_LONGEST_SCHEMA = 60_000
_DIGEST = 36  # characters that MLflow keeps


@functools.cache
def git_commit() -> str:
    """Returns the commit of this code, marked when the working tree differs from it."""
    file = Path(__file__).resolve()

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)  # an installed package may lie in another's repository
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
        """Records a number; its name starts with its visibility; `privacy/` is what was spent.

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

    def dataset(self, name: str, table: PrivateTable) -> None:
        """Records which table was used: what is declared about it and a salted digest, never a row."""

    def table(self, frame: pd.DataFrame, name: str) -> None:
        """Stores a small table, which the user interface shows as one."""

    def register(self, release: Path | str) -> None:
        """Makes the release the next version of the configured model; without a name there is none."""

    def flush(self) -> None:
        """Writes what still waits."""

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Records how long a stage took as `internal/seconds/STAGE`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.metric(f"internal/seconds/{stage}", time.perf_counter() - start)


class MlflowTracker(Tracker):
    """Records a run that exists in an MLflow store, gathering metrics into few calls."""

    def __init__(self, client: Any, run_id: str, config: TrackingConfig):
        self.client, self.run_id, self.config = client, run_id, config
        self._waiting, self._flushed = [], time.monotonic()

    def params(self, flat: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [
            Param(key_of(key), "null" if value is None else str(value)[:_LONGEST_PARAM])
            for key, value in flat.items()
        ]
        for start in range(0, len(params), 100):
            self.client.log_batch(self.run_id, params=params[start : start + 100])

    def tags(self, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(
            self.run_id, tags=[RunTag(key_of(key), str(value)[:5000]) for key, value in tags.items()]
        )

    def metric(self, name: str, value: float, step: int = 0) -> None:
        super().metric(name, value, step)
        from mlflow.entities import Metric

        self._waiting.append(Metric(key_of(name), float(value), int(time.time() * 1000), int(step)))
        if len(self._waiting) >= _BATCH or time.monotonic() - self._flushed >= self.config.flush_seconds:
            self.flush()

    def artifacts(self, path: Path | str, folder: str | None = None) -> None:
        log = self.client.log_artifacts if Path(path).is_dir() else self.client.log_artifact
        log(self.run_id, str(path), folder)

    def text(self, text: str, name: str) -> None:
        self.client.log_text(self.run_id, text, name)

    def dataset(self, name: str, table: PrivateTable) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = table.fingerprint(local_salt(self.config.salt_file))
        entry = Dataset(
            name,
            digest[:_DIGEST],
            source_type="private",
            source=json.dumps({"schema": table.schema.digest}),
            schema=_declared(table.schema),
        )
        context = InputTag("mlflow.data.context", "training")
        self.client.log_inputs(self.run_id, [DatasetInput(entry, tags=[context])])

    def table(self, frame: pd.DataFrame, name: str) -> None:
        self.client.log_table(self.run_id, frame, name)

    def register(self, release: Path | str) -> None:
        if (name := self.config.register) is None:
            return
        from dpsynth.tracking.model import register

        self.tags({"dpsynth.model": f"models:/{name}/{register(self, release, name)}"})

    def flush(self) -> None:
        waiting, self._waiting, self._flushed = self._waiting, [], time.monotonic()
        for start in range(0, len(waiting), _BATCH):
            self.client.log_batch(self.run_id, metrics=waiting[start : start + _BATCH])


def key_of(name: str) -> str:
    """Returns the key under which MLflow takes any name: itself where it may, and no two names get one key.

    Letters that MLflow refuses are written by their code, `_u24_` for a dollar sign; very long names end in
    their hash.
    """
    key = _REFUSED.sub(lambda found: f"_u{ord(found[0]):x}_", name) or "_u_"
    return key if len(key) <= _LONGEST_KEY else f"{key[:180]}_u_{hashlib.sha256(name.encode()).hexdigest()}"


def _declared(schema: Schema) -> str:
    """Returns the declared columns, in the form that the user interface lists."""
    types = {"integer": "long", "continuous": "double", "boolean": "boolean", "datetime": "datetime"}
    facts = [column.to_dict() for column in schema.columns]
    columns = [
        {
            "name": fact["name"],
            "type": types.get(fact["kind"], "string"),
            "required": not fact.get("nullable", False),
        }
        for fact in facts
    ]
    full = json.dumps({"mlflow_colspec": columns, "declared": schema.to_dict()}, default=str)
    return full if len(full) <= _LONGEST_SCHEMA else json.dumps({"mlflow_colspec": columns})[:_LONGEST_SCHEMA]


def _started(config: TrackingConfig, name: str, tags: Mapping[str, Any]) -> MlflowTracker:
    """Creates a run and returns its tracker."""
    mlflow = import_mlflow()
    config = config.absolute()
    experiment_id = prepare(config)
    client = mlflow.MlflowClient(config.address)
    system = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": Path(sys.argv[0]).name,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git_commit(),
    }
    if config.parent_run_id:
        system["mlflow.parentRunId"] = config.parent_run_id
    all_tags = {key: str(value) for key, value in {**system, **tags}.items()}
    run = client.create_run(experiment_id, run_name=config.run_name or name, tags=all_tags)
    return MlflowTracker(client, run.info.run_id, config)


@contextlib.contextmanager
def _watched(tracker: MlflowTracker) -> Iterator[None]:
    """Records the machine's processor, memory, network and accelerators now and then; internal."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    config = tracker.config
    monitor = SystemMetricsMonitor(
        tracker.run_id, sampling_interval=config.system_seconds, tracking_uri=config.address
    )
    monitor._metrics_prefix = _SYSTEM  # else the names would say that anybody may see them
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
        with contextlib.suppress(Exception):  # the last look, which the monitor itself throws away
            tracker.metrics(
                {f"{_SYSTEM}{key}": value for key, value in monitor.aggregate_metrics().items()},
                monitor._logging_step,
            )


@contextlib.contextmanager
def track(
    config: TrackingConfig, name: str, tags: Mapping[str, Any] | None = None, *, watch: bool = False
) -> Iterator[Tracker]:
    """Records a run for as long as the block lasts.

    The run ends FINISHED, or FAILED with the error as a tag and its traceback under `internal/` when the
    block raises, or KILLED when it is interrupted. The exception goes on in every case.

    Args:
      config: where; with `parent_run_id` the run is that run's child.
      name: the run's name, unless the configuration gives one.
      tags: facts known at the start.
      watch: record the machine's load as well, every `system_seconds`.
    """
    if config.name == "none":
        yield Tracker()
        return
    tracker = _started(config, name, tags or {})
    watching = watch and config.system_seconds is not None
    try:
        with _watched(tracker) if watching else contextlib.nullcontext():
            yield tracker
        tracker.flush()
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        with contextlib.suppress(Exception):  # the error that matters is the one under way
            tracker.flush()
            tracker.tags({"error": described(error)})
            tracker.text(trace(error), "internal/traceback.txt")
        tracker.client.set_terminated(tracker.run_id, "KILLED" if interrupted else "FAILED")
        raise
    tracker.client.set_terminated(tracker.run_id)
