"""CTGAN: a conditional Wasserstein GAN for rows of numbers and categories (Xu et al. 2019)."""

from typing import Any

from dpsynth.generators.ctgan.settings import Config as Config


def __getattr__(name: str) -> Any:
    """Loads the method, and with it torch, when it is asked for."""
    if name != "Generator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dpsynth.generators.ctgan.generator import Generator

    return Generator
