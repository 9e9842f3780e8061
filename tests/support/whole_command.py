"""The command as a user types it, on a table and its neighbours: what leaves, and what is handed to payers.

Noise is a fixed source in which one unit vanishes, and units bring their coins along, so that what still
differs was not paid for. What differs where it is paid for must be what the payer expects: tables that differ
in one unit, and scores of which one unit moves one.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth.tracking import Tracker
from tests.support.leftovers import leftovers
from tests.support.swamped import CoarseEntropy


@dataclass
class Left:
    """What a command left behind.

    Args:
      public: everything that is declared or released, by name.
      handed: the table of each run of the pipeline, in order, as what it is read as.
      scores: the exact sum of each paid score.
    """

    public: dict[str, Any] = field(default_factory=dict)
    handed: list[pd.DataFrame] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


class _Recorder(Tracker):
    """Keeps what a store would show, by name; what is internal by its name is left out."""

    def __init__(self, left: Left, name: str, tags: dict):
        self.left, self.run_id, self._run = left, f"run {name}", name
        self._keep("name", "", name)
        self.tags(tags)

    def _keep(self, kind: str, key: str, value: Any) -> None:
        if not key.startswith("internal/"):
            self.left.public[f"{self._run}: {kind} {key}"] = value

    def params(self, flat) -> None:
        for key, value in flat.items():
            self._keep("param", key, str(value))

    def tags(self, tags) -> None:
        for key, value in tags.items():
            if key not in (
                "sweep.folder",
                "mlflow.note.content",
            ):  # a place; figures, which it says are internal
                self._keep("tag", key, str(value))

    def metric(self, name: str, value: float, step: int = 0) -> None:
        super().metric(name, value, step)
        self._keep("metric", f"{name} {step}", value)

    def text(self, text: str, name: str) -> None:
        self._keep("text", name, text)


class Command:
    """Runs `experiments.train` in this process."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder, self.patch = folder, patch

    def __call__(self, write, held: Sequence[bool], words: Sequence[str]) -> Left:
        """Runs the command on what `write` writes into an empty working directory.

        Args:
          held: the coin of each unit, in the order of first appearance.
        """
        from dpsynth import pipeline, tracking
        from dpsynth.data.tables import split
        from dpsynth.privacy.many_runs import selection
        from dpsynth.privacy.noise import entropy
        from experiments import command_line, sweep, train

        left, place = Left(), self.folder / "here"  # one place, since places are settings
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        write(place)
        run, noisy_score = pipeline.run, selection.noisy_score

        def kept_run(table, *rest, **named):
            left.handed.append(table._frame.copy())
            return run(table, *rest, **named)

        def kept_score(scores, *rest, **named):
            left.scores.append(float(np.sum(scores)))
            return noisy_score(scores, *rest, **named)

        @contextlib.contextmanager
        def track(config, name, tags=None, **_) -> Iterator[Tracker]:
            yield Tracker() if config.name == "none" else _Recorder(left, name, dict(tags or {}))

        with self.patch.context() as patch:
            patch.chdir(place)
            patch.setenv("XDG_DATA_HOME", str(place / "home"))
            patch.setattr(pipeline, "run", kept_run)
            patch.setattr(selection, "noisy_score", kept_score)
            patch.setattr(tracking, "track", track)
            patch.setattr(entropy, "make_entropy", lambda *_: CoarseEntropy())
            patch.setattr(sweep, "record_frontier", lambda *_: None)  # pictures: internal, and slow
            patch.setattr(sys, "argv", ["train.py", *words])
            if split.coins.__module__ == split.__name__:  # unless a test has broken them
                patch.setattr(split, "coins", lambda num, share, secret: np.array(held, dtype=bool))
            try:
                command_line.run(train.job, "train", around=sweep.around)
            except SystemExit as stop:
                left.public["exit code"] = stop.code
        left.public |= {
            name: content
            for release in sorted(place.glob("out/**/release"))
            for name, content in _named(release, place).items()
        }
        return left


def _named(release: Path, place: Path) -> dict[str, bytes]:
    """The files of a release, and the configuration beside it, by their place in the working directory."""
    files = {f"{release.relative_to(place)}/{name}": content for name, content in leftovers(release).items()}
    config = release.parent / "config.yaml"
    return files | {str(config.relative_to(place)): config.read_bytes()}


def differences(one: Left, other: Left, unit: str | None = None) -> list[str]:
    """Lists what differs without being paid, and what differs by more than is paid for.

    Args:
      unit: the column that names units; None where rows are units.
    """
    found = [
        name
        for name in sorted(one.public.keys() | other.public.keys())
        if name not in one.public or name not in other.public or one.public[name] != other.public[name]
    ]
    if len(one.handed) != len(other.handed) or len(one.scores) != len(other.scores):
        return [*found, "another number of purchases"]
    for run, (table, neighbour) in enumerate(zip(one.handed, other.handed)):
        if not are_neighbours(table, neighbour, unit):
            found.append(f"run {run} was handed tables that differ in more than one unit")
    for run, (scores, others) in enumerate(zip(one.scores, other.scores)):
        if abs(scores - others) > 1.0 + 1e-9:
            found.append(f"the score of trial {run} moved by more than one")
    return found


def are_neighbours(one: pd.DataFrame, other: pd.DataFrame, unit: str | None) -> bool:
    """Says whether two tables are equal but for all rows of one unit, looks and dtypes included."""
    if list(one.dtypes.astype(str)) != list(other.dtypes.astype(str)):
        return False
    small, large = sorted((one, other), key=len)
    rows = [[tuple(map(repr, row)) for row in table.itertuples(index=False)] for table in (small, large)]
    if unit is not None:
        keys = large[unit].map(repr).tolist()
        for key in set(keys) - set(small[unit].map(repr)):
            rows[1] = [row for row, owner in zip(rows[1], keys) if owner != key]
            break
        return rows[0] == rows[1]
    if len(rows[1]) - len(rows[0]) == 1:
        at = next((i for i, (a, b) in enumerate(zip(*rows)) if a != b), len(rows[0]))
        del rows[1][at]
    return rows[0] == rows[1]
