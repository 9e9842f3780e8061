"""Which encoder fits which units: packing, counting, and why a method and a schema do not go together.

Light on purpose: a configuration that cannot work is refused before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dpsynth.data.units.units import EntityUnits, RowUnits, SequenceUnits, Units, units_of
from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dpsynth.data.schema import Schema


class Encoder:
    """Packs units into numbers and counts over them.

    Formal guarantee: axis 0 of what `encode` returns is the unit, and `encode` and `count` treat each unit by
    itself. A unit adds to an answer of `count` a non-negative array of sum at most
    `units.mass * units.resolution` (`privacy.measuring.extremes` holds every encoder to it before anything is
    charged).

    Args:
      schema: public; of a kind that `accepts` lists.
    Raises:
      InvalidInput: the schema is of another kind.
    """

    accepts: ClassVar[tuple[type[Units], ...]] = ()
    max_cells: ClassVar[int] = 32  # coarse cells per column, over which joint histograms are bought
    schema: Schema
    units: Units

    def __init__(self, schema: Schema):
        if problems := list(self.problems(schema)):
            raise InvalidInput("the schema", problems)
        self.schema, self.units = schema, units_of(schema)

    @classmethod
    def problems(cls, schema: Schema, method: str = "", others: Sequence[str] = ()) -> Iterator[Problem]:
        """Yields why this encoder does not fit a schema.

        Args:
          method: the generator that uses the encoder.
          others: generators that do fit the schema.
        """
        units = units_of(schema)
        if isinstance(units, cls.accepts):
            return
        known = " or ".join(dict.fromkeys(kind.kind for kind in cls.accepts))
        declares = units.kind if units.name == "row" else f"{units.kind} by {units.name}"
        rule = f"{method or cls.__name__} is for {known}, but the schema declares {declares}."
        fixes = [f"use one of {', '.join(others)}"] if others else []
        if units.ordered:
            fixes.append("declare sequence: null to forget the order")
        elif units.name != "row":
            fixes.append("declare the sequence")
        text = ", or ".join(fixes) or "use another generator"
        yield Problem("generator", rule, f"{text[0].upper()}{text[1:]}.")

    @classmethod
    def crossing(cls, schema: Schema) -> str | None:
        """The column whose cells cross the 1-way histograms of the others, or None."""
        return None

    @classmethod
    def num_refined(cls, schema: Schema) -> int:
        """How many joint histograms are bought a second time, chosen by the answers to the first."""
        return 0

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """Packs whole units, float32 [unit, …]; as many as `units.num(frame)`."""
        raise NotImplementedError

    def decode(
        self, packed: np.ndarray, *, seed: int, conditions: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Turns packed samples back into rows."""
        raise NotImplementedError

    def shape(self, question: Any) -> tuple[int, ...]:
        """Cells of each axis of the answer to a question; public."""
        raise NotImplementedError

    def count(self, question: Any, packed: np.ndarray) -> np.ndarray:
        """Answers exactly, int64 in 1/`units.resolution`; private until noise is added."""
        raise NotImplementedError


class OfRows(Encoder):
    """Encoders of rows; those of one entity are packed beside each other."""

    accepts = (RowUnits, EntityUnits)

    @classmethod
    def crossing(cls, schema: Schema) -> str | None:
        from dpsynth.data.bought.questions import crossing

        return crossing(schema)

    @classmethod
    def num_refined(cls, schema: Schema) -> int:
        from dpsynth.data.bought.questions import num_refined

        return num_refined(schema)


class OfSequences(Encoder):
    """Encoders of entities with their rows in order."""

    accepts = (SequenceUnits,)
    max_cells = 12  # pairs along time are bought over these, for few entities
