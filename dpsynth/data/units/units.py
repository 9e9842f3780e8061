"""What a unit of privacy is: the one place that looks at the kind of a schema.

Plan, purchases, measuring, training, certificate, coins, holdout and audits ask the object that `units_of`
returns: which rows belong together, how much one unit can move a histogram, and what the neighbour is.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.bought.statistics import Statistics
    from dpsynth.data.schema import Schema
    from dpsynth.errors import Problem

RESOLUTION = 2**20  # integer weight of a whole sequence; exact discrete noise needs integers


@dataclass(frozen=True)
class Units(ABC):
    """The units of privacy of one schema. Public; equal schemas have equal units.

    Formal guarantee: what `capped` keeps of a unit, and the weights of its rows, are functions of that
    unit's own rows. One unit changes a histogram of rows, each with its weight, by at most
    `mass * resolution` in L1, hence in L2, and k of them together by sqrt(k) times that (L2).

    Args:
      schema: public.
    """

    schema: Schema

    kind: ClassVar[str]  # of the schema, in the words of messages
    resolution: ClassVar[int] = 1  # weights and answers are whole numbers in 1/resolution
    ordered: ClassVar[bool] = False  # whether the order of a unit's rows means something

    @property
    @abstractmethod
    def mass(self) -> int:
        """The most by which one unit changes one histogram (L1)."""

    @property
    def name(self) -> str:
        """The column that names units, or "row"."""
        return self.schema.unit.column or "row"

    @property
    def max_rows(self) -> int:
        """The most rows of one unit: what it can change where rows are counted one by one (L1)."""
        return self.schema.unit.max_rows

    @property
    def by_row(self) -> bool:
        """Whether each row is a unit."""
        return self.schema.unit.column is None

    @property
    def time(self) -> str | None:
        """The column that orders a unit's rows, or None."""
        return self.schema.sequence.time if self.ordered else None

    @property
    def protects(self) -> str:
        """Whom the claim is about, in words."""
        return f"one {self.name}" + (f" with at most {self.max_rows} rows" if self.max_rows > 1 else "")

    def capped(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Keeps the first `max_rows` rows of each unit, in file order. Private."""
        place = frame.groupby(self.name, sort=False, dropna=False, observed=True).cumcount()
        return frame[place.to_numpy() < self.max_rows]

    def owners(self, frame: pd.DataFrame) -> np.ndarray:
        """Numbers the unit of each row, int64 [row], in the order of first appearance. Private."""
        import pandas as pd

        return pd.factorize(frame[self.name], use_na_sentinel=False)[0].astype(np.int64)

    def num(self, frame: pd.DataFrame) -> int:
        """Counts units. Private."""
        return int(self.owners(frame).max(initial=-1)) + 1

    def without(self, frame: pd.DataFrame, number: int) -> pd.DataFrame:
        """The neighbour: all rows but those of one unit; nothing else changes."""
        return frame[self.owners(frame) != number]

    def weights(self, owners: np.ndarray) -> np.ndarray:
        """Weight of each row in a histogram, int64 [row] in 1/`resolution`; at most `mass` per unit."""
        return np.ones(len(owners), dtype=np.int64)

    def blocks(self, frame: pd.DataFrame, num: int) -> Iterator[pd.DataFrame]:
        """Cuts a table into blocks of `num` whole units, in the order of their first rows."""
        owners = self.owners(frame)
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], np.arange(self.num(frame) + 1))
        for first in range(0, len(starts) - 1, num):
            last = min(first + num, len(starts) - 1)
            yield frame.iloc[order[starts[first] : starts[last]]]

    def num_samples(self, statistics: Statistics) -> float:
        """How many samples a release has by default: rows, or sequences."""
        return statistics.num_rows

    def problems(self, frame: pd.DataFrame) -> list[Problem]:
        """Lists what in a table breaks the declared order of rows; names no value."""
        return []

    def example(self, num: int = 12) -> pd.DataFrame:
        """Makes up extreme units: few rows, as many as the cap, all alike, all different, all missing."""
        from dpsynth.data.units.examples import example

        return example(self, num)


class RowUnits(Units):
    """Each row is a unit."""

    kind = "rows"
    mass = 1

    def capped(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    def owners(self, frame: pd.DataFrame) -> np.ndarray:
        return np.arange(len(frame), dtype=np.int64)

    def blocks(self, frame: pd.DataFrame, num: int) -> Iterator[pd.DataFrame]:
        for first in range(0, len(frame), num):
            yield frame.iloc[first : first + num]


class EntityUnits(Units):
    """An entity with all its rows, in no order, at most `max_rows`; each row weighs 1."""

    kind = "entities with several rows"

    @property
    def mass(self) -> int:
        return self.max_rows


class SequenceUnits(Units):
    """An entity with its rows in order; they share the weight of one, however many they are."""

    kind = "sequences"
    resolution = RESOLUTION
    ordered = True
    mass = 1

    def weights(self, owners: np.ndarray) -> np.ndarray:
        return self.resolution // np.bincount(owners)[owners] if len(owners) else owners

    def num_samples(self, statistics: Statistics) -> float:
        return statistics.num_units

    def problems(self, frame: pd.DataFrame) -> list[Problem]:
        from dpsynth.data.units.order import sequence_problems

        return sequence_problems(self.capped(frame), self.schema)


@functools.lru_cache(maxsize=64)
def units_of(schema: Schema) -> Units:
    """Returns the units of privacy that a schema declares; a function of the schema alone."""
    if schema.sequence is not None:
        return SequenceUnits(schema)
    return RowUnits(schema) if schema.unit.column is None else EntityUnits(schema)
