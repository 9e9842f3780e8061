"""A tree of columns, each drawn given its parent: a baseline on bought pairs alone."""

from typing import Any

from dpsynth.generators.bayes_net.settings import Config as Config


def __getattr__(name: str) -> Any:
    """Loads the method, and with it torch, when it is asked for."""
    if name != "Generator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dpsynth.generators.bayes_net.generator import Generator

    return Generator
