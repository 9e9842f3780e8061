"""CTGAN: a conditional Wasserstein GAN for rows of numbers and categories (Xu et al. 2019)."""

from importlib import import_module
from typing import Any

_HOMES = {"Config": "settings", "Generator": "generator"}


def __getattr__(name: str) -> Any:
    """Loads the settings without the method, and the method when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
