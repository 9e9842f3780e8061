"""Which methods fit which schemas, known without importing any of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dpsynth.alone import stated
from dpsynth.data.units.encoder import Encoder, OfRows, OfSequences

if TYPE_CHECKING:
    from dpsynth.data.schema import Schema
    from dpsynth.errors import Problem

_ENCODERS: dict[str, type[Encoder]] = {"TableEncoder": OfRows, "SequenceEncoder": OfSequences}


def encoder_of(name: str) -> type[Encoder]:
    """Returns what the encoder of a method accepts, read off the method's file."""
    return _ENCODERS[stated(f"dpsynth.generators.{name}", "Generator", "encoder_type")]


def fit_problems(name: str, schema: Schema, names: Iterable[str]) -> tuple[Problem, ...]:
    """Lists why a method does not fit a schema; public facts alone.

    Args:
      names: of all methods; those that fit are listed in the fix.
    """
    if not list(encoder_of(name).problems(schema)):
        return ()
    others = [other for other in names if not list(encoder_of(other).problems(schema))]
    return tuple(encoder_of(name).problems(schema, name, others))
