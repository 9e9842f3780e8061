"""Methods that make rows: one file or folder each, with its settings in `conf/generator`."""

import pkgutil

_SHARED = ("base", "marginals", "parts")


def generator_names() -> tuple[str, ...]:
    """Names of all methods, in order; imports none of them."""
    return tuple(sorted(item.name for item in pkgutil.iter_modules(__path__) if item.name not in _SHARED))
