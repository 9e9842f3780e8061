"""DGAN (DoppelGANger): sequences of numbers and categories with attributes, one entity per unit."""

from typing import Any

from dpsynth.generators.dgan.settings import Config as Config


def __getattr__(name: str) -> Any:
    """Loads the method, and with it torch, when it is asked for."""
    if name != "Generator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dpsynth.generators.dgan.generator import Generator

    return Generator
