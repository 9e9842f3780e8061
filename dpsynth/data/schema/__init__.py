"""The public description of a private table; what is declared is never read off the data."""

from dpsynth.data.schema.columns import (
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Drop,
    Identifier,
    Integer,
)
from dpsynth.data.schema.schema import Schema, Sequence, Unit

__all__ = [
    "Boolean",
    "Categorical",
    "Column",
    "Continuous",
    "Datetime",
    "Drop",
    "Identifier",
    "Integer",
    "Schema",
    "Sequence",
    "Unit",
]
