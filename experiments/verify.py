"""Verifies a release: `python -m experiments.verify release=DIR`; exit code 0 if its claim holds, else 1."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dpsynth.data.tables.untrusted import MOST_CELLS
from dpsynth.errors import InvalidInput, Problem, nearest

from . import command_line

KEYS = ("release", "key", "fingerprint", "most_cells", "make_key")


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """What to verify, or which keys to make; keys of conf/verify.yaml.

    Args:
      release: folder; None where keys are made.
      fingerprint: of the key that must have signed it; None asks for none.
    """

    release: Path | None
    fingerprint: str | None = None
    most_cells: int = MOST_CELLS
    make_key: str | None = None


def checked(node: DictConfig | Mapping[str, Any]) -> VerifyRequest:
    """Checks the composed configuration, the key's file included; one `InvalidInput` with all mistakes."""
    plain = OmegaConf.to_container(node) if isinstance(node, DictConfig) else dict(node)
    plain = {key: None if value == "???" else value for key, value in plain.items()}
    problems = [
        Problem(str(key), "is not a known key.", nearest(str(key), KEYS)) for key in plain if key not in KEYS
    ]
    folder, made = plain.get("release"), plain.get("make_key")
    if made is None and folder is None:
        problems.append(Problem("release", "is not given.", "Add release=DIR."))
    elif made is not None and folder is not None:
        problems.append(Problem("make_key", "makes keys, and verifies nothing.", "Leave release out."))
    elif folder is not None and not Path(str(folder)).is_dir():
        problems.append(Problem("release", f"No folder {folder!r}.", "Correct release=DIR."))
    most = plain.get("most_cells", MOST_CELLS)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        problems.append(Problem("most_cells", f"{most!r} is not a number from 1 on.", "Leave it out."))
    fingerprint = _fingerprint(plain, problems)
    if problems:
        raise InvalidInput("The configuration", problems)
    return VerifyRequest(
        release=None if folder is None else Path(str(folder)),
        fingerprint=fingerprint,
        most_cells=most,
        make_key=None if made is None else str(made),
    )


def _fingerprint(plain: Mapping[str, Any], problems: list[Problem]) -> str | None:
    """The fingerprint that is asked for, given itself or by its key."""
    from dpsynth.privacy.release.signing import read_fingerprint

    key, text = plain.get("key"), plain.get("fingerprint")
    if key is not None and text is not None:
        problems.append(Problem("fingerprint", "is given beside key.", "Give one of the two."))
    elif key is not None:
        try:
            return read_fingerprint(str(key))
        except InvalidInput as error:
            problems += error.problems
    elif text is not None:
        digits = str(text).lower().replace(":", "")
        if len(digits) == 64 and set(digits) <= set("0123456789abcdef"):
            return digits
        rule = f"{text!r} is not the SHA-256 of a key: 64 hexadecimal digits."
        problems.append(Problem("fingerprint", rule, "Copy it whole, or give key=FILE.pub."))
    return None


def main(node: DictConfig) -> None:
    """Prints the checks of one release, and leaves with 1 if any failed; or makes a pair of keys."""
    from dpsynth.privacy.release.signing import make_key
    from dpsynth.privacy.verify import verify

    request = checked(node)
    if request.make_key is not None:
        print(f"Fingerprint {make_key(request.make_key)}: tell it to whoever verifies, by another way.")
        print(f"{request.make_key} signs by release.sign_key={request.make_key}; keep it to yourself.")
        print(f"{request.make_key}.pub is for everybody: experiments.verify release=DIR key=FILE.pub.")
        return
    found = verify(request.release, most_cells=request.most_cells, fingerprint=request.fingerprint)
    print(found.table())
    if not found.passed:
        sys.exit(1)


if __name__ == "__main__":
    command_line.run(main, "verify", checked=checked)
