"""Verifies a release: `python -m experiments.verify release=DIR`; exit code 0 if its claim holds, else 1."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpsynth.errors import InvalidInput, Problem, nearest

from . import command_line


def checked(node: DictConfig | dict[str, Any]) -> Path:
    """Returns the release's folder; raises one `InvalidInput` with all mistakes."""
    try:
        plain = OmegaConf.to_container(node, throw_on_missing=True) if isinstance(node, DictConfig) else node
    except OmegaConfBaseException:
        plain = {"release": None}
    problems = [
        Problem(str(key), "is not a known key.", nearest(str(key), ["release"]))
        for key in plain
        if key != "release"
    ]
    folder = plain.get("release")
    if folder is None:
        problems.append(Problem("release", "is not given.", "Add release=DIR."))
    elif not Path(str(folder)).is_dir():
        problems.append(Problem("release", f"No folder {folder!r}.", "Correct release=DIR."))
    if problems:
        raise InvalidInput("The configuration", problems)
    return Path(str(folder))


def main(node: DictConfig) -> None:
    """Prints the checks of one release; leaves with 1 if any failed."""
    from dpsynth.privacy.verify import verify

    found = verify(checked(node))
    print(found.table())
    if not found.passed:
        sys.exit(1)


if __name__ == "__main__":
    command_line.run(main, "verify", checked=checked)
