"""Which methods fit which schemas, known from their settings alone."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from dpsynth.data.units.encoder import Encoder

if TYPE_CHECKING:
    from dpsynth.data.schema import Schema
    from dpsynth.errors import Problem


def encoder_of(name: str) -> type[Encoder]:
    """Returns what the encoder of a method accepts, as its settings say."""
    return import_module(f"dpsynth.generators.{name}").Config.fits


def fit_problems(name: str, schema: Schema, names: Iterable[str]) -> tuple[Problem, ...]:
    """Lists why a method does not fit a schema; public facts alone.

    Args:
      names: of all methods; those that fit are listed in the fix.
    """
    if not list(encoder_of(name).problems(schema)):
        return ()
    others = [other for other in names if not list(encoder_of(other).problems(schema))]
    return tuple(encoder_of(name).problems(schema, name, others))
