"""Where runs are recorded, and with which secret their tables are named."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dpsynth.tracking.secrets import PASSWORD, holds_password, with_password

_SQLITE = "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where runs are recorded.

    Args:
      name: `mlflow`, or `none` to record nothing.
      uri: the MLflow store; SQLite in the working directory by default, or `postgresql://...`, `http://...`;
        without a password, which the environment has.
      experiment: the study's name.
      run_name: the run's name; None composes one from the generator and the claim.
      parent_run_id: the sweep's run; set by the process that starts the jobs.
      flush_seconds: how long metrics may wait to be written together.
      system_seconds: time between two looks at processor, memory and network; None looks at nothing.
      register: a name in the Model Registry, under which each release becomes a version; None registers none.
    """

    name: Literal["mlflow", "none"] = "mlflow"
    uri: str = "sqlite:///mlflow.db"
    experiment: str = "dpsynth"
    run_name: str | None = None
    parent_run_id: str | None = None
    flush_seconds: float = 5.0
    system_seconds: float | None = 10.0
    register: str | None = None

    def __post_init__(self):
        if holds_password(self.uri):
            raise ValueError(
                "Expected tracking.uri without a password: configurations are stored. Set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server, "
                f"{PASSWORD} for a database."
            )
        if not self.experiment.strip():
            raise ValueError("Expected tracking.experiment to be a name, got an empty one.")
        if self.flush_seconds < 0:
            raise ValueError(f"Expected tracking.flush_seconds={self.flush_seconds} to be at least 0.")
        if self.system_seconds is not None and self.system_seconds <= 0:
            raise ValueError(
                f"Expected tracking.system_seconds={self.system_seconds} above 0; null for none."
            )
        if self.register is not None and (not self.register.strip() or set(self.register) & set("/:.")):
            raise ValueError(
                f"Expected tracking.register={self.register!r} to be a name without / : and dots."
            )

    def absolute(self) -> TrackingConfig:
        """Returns the same store named so that a job in another working directory finds it."""
        path = self.uri.removeprefix(_SQLITE)
        if self.file is None or path.startswith("/"):
            return self
        return replace(self, uri=_SQLITE + str(Path(path).resolve()))

    @property
    def address(self) -> str:
        """The store's address with a database's password from the environment, for opening it alone."""
        return with_password(self.uri)

    @property
    def file(self) -> Path | None:
        """The file of a SQLite store; None for any other store."""
        path = self.uri.removeprefix(_SQLITE)
        return Path(path) if self.uri.startswith(_SQLITE) and path not in ("", ":memory:") else None

    @property
    def salt_file(self) -> Path:
        """Where the secret lies with which this store's tables are named: never in the store itself.

        It is beside a SQLite store, and for a server among this user's own settings.
        """
        if self.file is not None:
            return self.file.with_name(f"{self.file.name}.salt")
        name = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
        return Path.home() / ".config" / "dpsynth" / f"{name}.salt"
