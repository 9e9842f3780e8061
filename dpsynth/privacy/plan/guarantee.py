"""What is promised: the guarantee, or its explicit absence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dpsynth.data.wording import up

NEIGHBOURS = "add_or_remove_one"


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """(epsilon, delta)-differential privacy of everything in a Release.

    Formal guarantee: for all tables that differ by one unit (added or removed, with all its rows up to the
    cap) and all sets S of Releases, P(S | table) <= exp(epsilon) * P(S | neighbour) + delta.

    Args:
      epsilon: public; 0 where nothing is read.
      delta: public, in (0, 1).
      unit: public: "row", or the name of the column that names the entity.
      max_rows: public: the cap of rows per unit, enforced before anything is read.
    """

    epsilon: float
    delta: float
    unit: str = "row"
    max_rows: int = 1
    neighbours: str = NEIGHBOURS

    def __post_init__(self):
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0.0):
            raise ValueError(f"Expected epsilon={self.epsilon} to be finite and at least 0.")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"Expected delta={self.delta} in (0, 1).")
        if self.max_rows < 1:
            raise ValueError(f"Expected max_rows={self.max_rows} of at least 1.")
        if self.neighbours != NEIGHBOURS:
            raise ValueError(f'Expected neighbours="{self.neighbours}" to be "{NEIGHBOURS}".')

    @property
    def private(self) -> bool:
        return True

    @property
    def claim(self) -> str:
        """The tag `dp.claim` of a run."""
        return f"epsilon={up(self.epsilon)}, delta={up(self.delta)}"

    @property
    def band(self) -> str:
        """How strong the promise is, in the field's rule of thumb."""
        if self.epsilon <= 1.0:
            return "strong"
        return "medium" if self.epsilon <= 10.0 else "weak"


@dataclass(frozen=True, kw_only=True)
class NonPrivate:
    """No promise: epsilon is infinite and every artefact says NON-PRIVATE."""

    unit: str = "row"
    max_rows: int = 1
    neighbours: str = NEIGHBOURS
    delta: float = 0.0

    @property
    def epsilon(self) -> float:
        return math.inf

    @property
    def private(self) -> bool:
        return False

    @property
    def claim(self) -> str:
        return "NON-PRIVATE"

    @property
    def band(self) -> str:
        return "none"
