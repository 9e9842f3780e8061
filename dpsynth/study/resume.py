"""Finding the run that is to go on, or saying that it is not there; and the command that goes on with one."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpsynth.config import SUBJECT, RunConfig, identity
from dpsynth.errors import InvalidInput, Problem
from dpsynth.places import command

MARK = "point.txt"  # names the point that works in a folder: what decides identity, then all that it computes
_SHOWN = 4  # differences in one message


def begun_in(folder: str | Path) -> list[Path]:
    """Lists the folders of runs in a sweep's folder, or the folder itself where it is a run's own."""
    folder = Path(folder)
    if (folder / MARK).is_file():
        return [folder]
    return sorted(mark.parent for mark in folder.glob(f"*/{MARK}")) if folder.is_dir() else []


def mark_of(config: RunConfig) -> str:
    return f"{config.mark}\n{config.complete}\n"


def found(config: RunConfig, folder: str | Path) -> tuple[Path, bool] | None:
    """Returns where a point was begun, and whether its figures are those that are asked for now."""
    alike = [(path, (path / MARK).read_text(encoding="utf-8").split()) for path in begun_in(folder)]
    alike = [(path, words) for path, words in alike if words[:1] == [config.mark]]
    same = [path for path, words in alike if words[1:] == [config.complete]]
    return (same[0], True) if same else (alike[0][0], False) if alike else None


def refuse_unknown(points: Sequence[RunConfig], folder: str | Path) -> None:
    """Refuses to go on where none of the points was begun: it would spend anew without a word.

    Raises:
      InvalidInput: names the run there that is nearest, and what differs.
    """
    begun = begun_in(folder)
    if not begun:
        rule = (
            f"No run was begun in {str(folder)!r}."
            if Path(folder).exists()
            else f"No folder {str(folder)!r}."
        )
        raise InvalidInput(
            SUBJECT,
            [Problem("sweep.resume", rule, "Name the folder of a run or of a sweep, or leave it out.")],
        )
    known = sum(found(point, folder) is not None for point in points)
    if points and not known:
        path, differences = _nearest(points, begun)
        rule = (
            f"None of these points was begun there. The nearest is {path}: {'; '.join(differences[:_SHOWN])}."
        )
        fix = "Restore these settings to go on with it; without sweep.resume, a run spends anew."
        raise InvalidInput(SUBJECT, [Problem("sweep.resume", rule, fix)])
    if known < len(points):
        print(
            f"{len(points) - known} of {len(points)} points were not begun there; they begin now.",
            file=sys.stderr,
        )


def _nearest(points: Sequence[RunConfig], begun: Sequence[Path]) -> tuple[Path, list[str]]:
    import yaml

    compared = []
    for path in begun:
        try:
            kept = identity(yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, yaml.YAMLError):
            compared.append((path, ["its config.yaml cannot be read"] * 1000))
            continue
        compared += [(path, list(_differences(kept, identity(point.to_dict())))) for point in points]
    return min(compared, key=lambda pair: len(pair[1]))


def _differences(kept: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*kept, *given]):
        if kept.get(key) != given.get(key):
            yield f"{key} is {kept.get(key)!r} there and {given.get(key)!r} here"


def going_on(entry: str, arguments: Sequence[str], folder: Path) -> str:
    """Returns the one command that continues what works in a folder."""
    words = [word for word in arguments if not word.startswith("sweep.resume=")]
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    text = str(shown)
    plain = all(letter.isalnum() or letter in "/_-.+" for letter in text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return command(
        shlex.join([entry, *words, f"sweep.resume={text if plain else chr(39) + escaped + chr(39)}"])
    )


@contextlib.contextmanager
def resumable(entry: str, arguments: Sequence[str], folder: Path) -> Iterator[None]:
    """Says at the start how to go on, since a kill leaves no time to, and again when it is interrupted."""
    text = going_on(entry, arguments, folder)
    print(f"If it is interrupted, it goes on with: {text}", file=sys.stderr, flush=True)
    try:
        yield
    except SystemExit as stopped:  # by a signal
        if isinstance(stopped.code, int) and stopped.code > 128:
            print(f"\nInterrupted. It goes on with: {text}", file=sys.stderr, flush=True)
        raise
