"""Where the settings lie, and how a command is called, in a checkout and where the package is installed.

A wheel brings `experiments/` and `conf/` as `dpsynth/commands/` and `dpsynth/conf/`, so that it puts nothing
but `dpsynth` among the packages.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent
INSTALLED = (_PACKAGE / "commands").is_dir()
COMMANDS = _PACKAGE / "commands" if INSTALLED else _CHECKOUT / "experiments"
COMMANDS_PACKAGE = "dpsynth.commands" if INSTALLED else "experiments"
CONF = _PACKAGE / "conf" if INSTALLED else _CHECKOUT / "conf"

IN_A_CHECKOUT = "python -m experiments."


def command(words: str) -> str:
    """Returns a command as one types it here: `train seed=1` is `python -m experiments.train seed=1` in the
    root of a checkout, and `dpsynth train seed=1` elsewhere."""
    in_root = not INSTALLED and Path.cwd() == _CHECKOUT
    return f"{IN_A_CHECKOUT}{words}" if in_root else f"dpsynth {words}"


def as_typed_here(text: str) -> str:
    """Returns a text whose commands are written for a checkout with those that work here."""
    return text.replace(IN_A_CHECKOUT, command(""))
