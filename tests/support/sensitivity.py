"""What each purchase of a run counts, on the table and on the table without each unit in turn.

The counting functions of one run are called again on every neighbour, with the questions, bounds and cells
that the run's own noisy answers made: so adaptive questions are equal, and the difference of two exact
answers is all that one unit can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from dpsynth import pipeline
from dpsynth.data.schema import Schema
from dpsynth.data.table import PrivateTable
from dpsynth.data.units import units_of
from dpsynth.privacy import undeclared
from dpsynth.privacy.answers import Shop


@dataclass
class Event:
    """Changes of one event's exact answers, [unit, …], in the units of its sensitivity.

    Args:
      norms: L2 of vectors; largest change of a score.
      parts: L1 by histogram, [unit, histogram]; empty for scores.
    """

    sensitivity: float
    norms: list[float] = field(default_factory=list)
    parts: list[np.ndarray] = field(default_factory=list)

    @property
    def worst(self) -> float:
        """The largest change over what was paid for."""
        return max(self.norms) / self.sensitivity


class _Bought(Exception):
    """All purchases before training are made."""


def changes(
    schema: Schema, frame: pd.DataFrame, recipe: pipeline.Recipe, folder, entropy
) -> dict[str, Event]:
    """Runs all purchases on a table; returns what removing each of its units changes, by event."""
    units, found = units_of(schema), {}
    table = PrivateTable(frame, schema)
    others = [PrivateTable(units.without(frame, number), schema)._frame for number in range(units.num(frame))]
    with _recorded(found, others):
        with pytest.raises(_Bought):
            pipeline.run(table, recipe, folder, entropy=entropy)
    return found


@contextmanager
def _recorded(found: dict[str, Event], others: list[pd.DataFrame]) -> Iterator[None]:
    noisy, choose, select = Shop.noisy, Shop.choose, Shop.select

    def event_of(shop: Shop, name: str) -> Event:
        return found.setdefault(name, Event(sensitivity=shop.plan.event(name).sensitivity))

    def recording_noisy(self, name, count, *, scale=1):
        def spy(frame):
            whole = count(frame)
            if frame is self._rows:
                event, num = event_of(self, name), max(self.plan.event(name).num_histograms, 1)
                for other in others:
                    less = count(other)
                    assert less.shape == whole.shape, f"the length of {name} follows one unit"
                    change = (whole - less).astype(np.float64) / scale
                    event.norms.append(float(np.linalg.norm(change)))
                    event.parts.append(np.array([np.abs(part).sum() for part in _parts(change, num)]))
            return whole

        return noisy(self, name, spy, scale=scale)

    def recording_choose(self, name, score):
        def spy(frame):
            whole = score(frame)
            if frame is self._rows:
                moved = [float(np.abs(whole - score(other)).max()) for other in others]
                event_of(self, name).norms.extend(moved)
            return whole

        return choose(self, name, spy)

    def recording_select(self, name, find):
        def spy(frame, *rest):
            event, columns = event_of(self, name), [n for n, k in self.schema.undeclared if k == "values"]
            for other in others:
                pairs = [(_values(frame[column]), _values(other[column])) for column in columns]
                change = [whole.sub(less, fill_value=0).to_numpy() for whole, less in pairs]
                event.norms.append(float(np.linalg.norm(np.concatenate(change))))
                event.parts.append(np.array([np.abs(part).sum() for part in change]))
            return find(frame, *rest)

        return select(self, name, spy)

    def stop(*_):
        raise _Bought

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shop, "noisy", recording_noisy)
        patch.setattr(Shop, "choose", recording_choose)
        patch.setattr(Shop, "select", recording_select)
        patch.setattr(pipeline, "_train", stop)
        yield


def _values(series: pd.Series) -> pd.Series:
    return undeclared.value_counts(series)


def _parts(change: np.ndarray, num: int) -> list[np.ndarray]:
    """The histograms inside a vector; `change` of unknown cuts is one part."""
    return [change] if num == 1 or len(change) % num else np.split(change, num)
