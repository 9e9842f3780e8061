"""A network fitted to bought joint histograms alone: no DP-SGD."""

from typing import Any

from dpsynth.generators.marginal_net.settings import Config as Config


def __getattr__(name: str) -> Any:
    """Loads the method, and with it torch, when it is asked for."""
    if name != "Generator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dpsynth.generators.marginal_net.generator import Generator

    return Generator
