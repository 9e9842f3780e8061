"""What each purchase of a run counts, on the table and on the table without each unit in turn.

The counting functions of one run are called again on every neighbour, with the questions, bounds and cells
that the run's own noisy answers made: so adaptive questions are equal, and the difference of two exact
answers is all that one unit can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth import pipeline
from dpsynth.data.schema import Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.data.units.units import units_of
from dpsynth.privacy.measuring import undeclared
from dpsynth.privacy.measuring.answers import Shop
from dpsynth.privacy.noise.entropy import FixedEntropy


@dataclass
class Event:
    """What one event's exact answers change by, in the units of its sensitivity.

    Args:
      norms: by unit: L2 of a vector, or the largest change of a score.
      others: exact answers on the table without each unit.
      bought: what the event gave the run.
      divided: it chose how to divide leaves.
    """

    sensitivity: float
    norms: list[float] = field(default_factory=list)
    others: list[np.ndarray] = field(default_factory=list)
    bought: Any = None
    divided: bool = False

    @property
    def worst(self) -> float:
        """The largest change over what was paid for."""
        return max(self.norms) / self.sensitivity


class _Bought(Exception):
    """All purchases before training are made."""


def changes(schema: Schema, frame: pd.DataFrame, recipe: pipeline.Recipe, folder) -> dict[str, Event]:
    """Runs all purchases on a table; returns what removing each of its units changes, by event."""
    units, found = units_of(schema), {}
    table = PrivateTable(frame, schema)
    others = [PrivateTable(units.without(frame, number), schema)._frame for number in range(units.num(frame))]
    with _recorded(found, others):
        with pytest.raises(_Bought):
            pipeline.run(table, recipe, folder, entropy=FixedEntropy())
    return found


def replayed(
    schema: Schema, frame: pd.DataFrame, recipe: pipeline.Recipe, folder, found: dict[str, Event]
) -> dict[str, np.ndarray]:
    """Runs all purchases on another table with the answers of the first; returns the exact ones."""
    exact: dict[str, np.ndarray] = {}

    def answered(count_of):
        def stand_in(self, name, ask, *more, **_):
            exact[name] = count_of(ask, self._table._frame, *more)
            return found[name].bought

        return stand_in

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shop, "noisy", answered(lambda count, rows: count(rows)))
        patch.setattr(Shop, "choose", answered(lambda score, rows: score(rows)))
        by_ballot = answered(lambda ballots, rows, score: [score(rows, ballot) for ballot in ballots])
        patch.setattr(Shop, "divide", by_ballot)
        patch.setattr(Shop, "select", answered(lambda find, rows: np.zeros(0)))
        patch.setattr("dpsynth.privacy.training.fit.fit", _stop)
        with pytest.raises(_Bought):
            pipeline.run(PrivateTable(frame, schema), recipe, folder, entropy=FixedEntropy())
    return exact


def _stop(*_):
    raise _Bought


@contextmanager
def _recorded(found: dict[str, Event], others: list[pd.DataFrame]) -> Iterator[None]:
    noisy, choose, divide, select = Shop.noisy, Shop.choose, Shop.divide, Shop.select

    def event_of(shop: Shop, name: str) -> Event:
        return found.setdefault(name, Event(sensitivity=shop.plan.event(name).sensitivity))

    def spying(self, name, ask, norm):
        def spy(frame):
            whole = ask(frame)
            if frame is self._rows:  # not on made-up units
                event = event_of(self, name)
                event.others = [ask(other) for other in others]
                assert {other.shape for other in event.others} <= {whole.shape}, f"the length of {name}"
                event.norms = [norm(whole - other) for other in event.others]
            return whole

        return spy

    def recording_noisy(self, name, count, *, scale=1):
        def norm(change):
            return float(np.linalg.norm(change.astype(np.float64))) / scale

        event_of(self, name).bought = noisy(self, name, spying(self, name, count, norm), scale=scale)
        return found[name].bought

    def recording_choose(self, name, score):
        spy = spying(self, name, score, lambda change: float(np.abs(change).max()))
        event_of(self, name).bought = choose(self, name, spy)
        return found[name].bought

    def recording_divide(self, name, ballots, score):
        """A unit moves the scores of all leaves of a ballot together by no more than the sensitivity."""

        def spy(frame, ballot):
            whole = score(frame, ballot)
            if frame is self._rows:
                event, less = event_of(self, name), [score(other, ballot) for other in others]
                event.others = [[*seen, one] for seen, one in zip(event.others or [[]] * len(less), less)]
                event.norms += [float(np.abs(whole - other).max(axis=1, initial=0.0).sum()) for other in less]
            return whole

        event_of(self, name).divided = True
        event_of(self, name).bought = divide(self, name, ballots, spy)
        return found[name].bought

    def recording_select(self, name, find):
        def spy(frame, *rest):
            columns = [column for column, kind in self.schema.undeclared if kind == "values"]
            for other in others:
                pairs = [(undeclared.value_counts(t[column]) for t in (frame, other)) for column in columns]
                change = [whole.sub(less, fill_value=0).to_numpy() for whole, less in pairs]
                event_of(self, name).norms.append(float(np.linalg.norm(np.concatenate(change))))
            return find(frame, *rest)

        event_of(self, name).bought = select(self, name, spy)
        return found[name].bought

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shop, "noisy", recording_noisy)
        patch.setattr(Shop, "choose", recording_choose)
        patch.setattr(Shop, "divide", recording_divide)
        patch.setattr(Shop, "select", recording_select)
        patch.setattr("dpsynth.privacy.training.fit.fit", _stop)
        yield
