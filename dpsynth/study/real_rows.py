"""Finds the real rows behind a release, for figures that stay internal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.errors import InvalidInput, Problem
from dpsynth.study import canary_coins, holdout

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dpsynth.data.schema import Schema

CONFIG = "config.yaml"


def file_problems(settings: dict, keys: tuple[str, ...]) -> list[Problem]:
    """Lists the given files that do not exist."""
    named = {key: settings.get(key) for key in keys}
    return [
        Problem(key, f"No file {file!r}.", f"Correct {key}.")
        for key, file in named.items()
        if file is not None and not Path(str(file)).is_file()
    ]


def find_real_rows(
    release: Path, schema: Schema, train: str | None, holdout: str | None, reason: str
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Returns (train, holdout) rows: the given files', else those of the run that made the release.

    A run leaves its configuration and its coins beside its release; the table is read and split again.
    Returns (None, None) where there are neither files nor a configuration.

    Args:
      release: its folder.
      reason: what the rows are revealed for; logged.
    """
    if train is not None or holdout is not None:
        return tuple(_revealed(file, schema, reason) for file in (train, holdout))
    found = rows_of_run(release, schema, reason)
    return (None, None) if found is None else (found.train, found.holdout)


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """The rows of a run of ours. Private.

    Args:
      train, holdout: trained on, and set aside before.
      canaries: where the run flipped coins: those trained on, and those left out. None otherwise.
      strata: of both in turn; None where units are entities, or no coins were flipped.
    """

    train: pd.DataFrame
    holdout: pd.DataFrame
    canaries: tuple[pd.DataFrame, pd.DataFrame] | None = None
    strata: np.ndarray | None = None


def rows_of_run(release: Path, schema: Schema, reason: str) -> RunRows | None:
    """Reads and splits the table again as the configuration beside the release says; None without one."""
    path = release.resolve().parent / CONFIG
    if not path.is_file():
        return None
    import yaml

    from dpsynth.config import parse
    from dpsynth.data.tables.datasets import load
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.data.units.units import units_of

    config = parse(yaml.safe_load(path.read_text(encoding="utf-8")))
    frame, found = load(config.data)
    if found.digest != schema.digest:
        problem = Problem(str(path), "describes another table.", "Name the rows: train=FILE holdout=FILE.")
        raise InvalidInput(str(release), [problem])
    rows = PrivateTable(frame, found).reveal(reason)
    train, held = holdout.same_again(rows, found, config.holdout_share, path.parent)
    digest = canary_coins.digest_of(release)
    if digest is None:
        return RunRows(train=train, holdout=held)
    plan, units = canary_coins.read(digest, str(release)), units_of(found).owners(train)
    kept, _ = plan.split(train, units)
    inside, outside, strata = canary_coins.targets(plan, train, found)
    return RunRows(train=kept.reset_index(drop=True), holdout=held, canaries=(inside, outside), strata=strata)


def _revealed(file: str | None, schema: Schema, reason: str) -> pd.DataFrame | None:
    if file is None:
        return None
    from dpsynth.data.tables.io import read_table
    from dpsynth.data.tables.table import PrivateTable

    return PrivateTable(read_table(file, schema), schema).reveal(reason)
