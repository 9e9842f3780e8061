"""A store whose tables are made once: making them takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dpsynth import tracking
from dpsynth.tracking import TrackingConfig


@pytest.fixture(scope="session")
def made_store(tmp_path_factory) -> Path:
    """The file of a store without runs."""
    config = TrackingConfig(uri=f"sqlite:///{tmp_path_factory.mktemp('made')}/mlflow.db")
    tracking.prepare(config)
    return config.file


@pytest.fixture
def new_store(made_store):
    """Makes a store of its own in a folder."""

    def make(folder: Path) -> TrackingConfig:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(made_store, folder / "mlflow.db")
        return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")

    return make
