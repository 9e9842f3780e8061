"""Makes more rows from a release, free and without private data: `python -m experiments.sample --help`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dpsynth.data.tables.untrusted import shown
from dpsynth.errors import InvalidInput, Problem, nearest

from . import command_line
from .overrides import as_typed

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema

KEYS = ("release", "num_rows", "seed", "conditions", "out", "csv")
_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """What to make; keys of conf/sample.yaml."""

    release: Path
    num_rows: int | None
    seed: int
    conditions: Mapping[str, Any]
    out: Path
    formulas: str = "text"


def checked(node: DictConfig | dict[str, Any]) -> SampleRequest:
    """Checks the composed configuration before anything is loaded; one `InvalidInput` with every problem."""
    from dpsynth.data.rows.conditions import read_conditions

    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    problems = [Problem(key, "Is not a known key.", nearest(key, KEYS)) for key in plain if key not in KEYS]
    release = Path(str(plain.get("release") or ""))
    if plain.get("release") is None:
        problems.append(Problem("release", "Is not given.", "Add release=DIR."))
    elif not (release / "release.json").is_file():
        problems.append(Problem("release", f"No release in {str(release)!r}.", "Correct release=DIR."))
    num_rows, seed, conditions = plain.get("num_rows"), plain.get("seed"), plain.get("conditions") or {}
    if num_rows is not None and not _is_whole(num_rows, least=1):
        fix = "Give how many, or null for the bought count."
        problems.append(Problem("num_rows", f"{num_rows!r} is not a number from 1 on.", fix))
    if not _is_whole(seed, least=0):
        problems.append(Problem("seed", f"{seed!r} is not a number from 0 on.", "Set seed=0."))
    try:
        conditions = read_conditions(as_typed(conditions))
    except InvalidInput as error:
        problems += error.problems
    out = Path(str(plain.get("out") or ""))
    if not out.name.endswith(_ENDINGS):
        problems.append(Problem("out", f"{out.name!r} names no format.", f"End it in {', '.join(_ENDINGS)}."))
    csv = plain.get("csv") or {}
    formulas = csv.get("formulas", "text") if isinstance(csv, Mapping) and set(csv) <= {"formulas"} else csv
    if formulas not in ("text", "keep"):
        fix = "Set csv.formulas=text, or keep."
        problems.append(Problem("csv.formulas", f"{formulas!r} is neither text nor keep.", fix))
    if problems:
        raise InvalidInput("The configuration", problems)
    return SampleRequest(
        release=release, num_rows=num_rows, seed=seed, conditions=conditions, out=out, formulas=formulas
    )


def write(rows: pd.DataFrame, path: Path, schema: Schema | None, formulas: str) -> str:
    """Writes rows; returns which columns of a text file held what a spreadsheet would run, or empty text."""
    from dpsynth.data.tables.formulas import as_text
    from dpsynth.data.tables.io import write_table

    names: tuple[str, ...] = ()
    if formulas == "text" and path.suffix != ".parquet":
        rows, names = as_text(rows)
    write_table(rows, path, schema)
    if not names:
        return ""
    return f"Written as text, with ' before it, what begins like a formula: {shown(', '.join(names))}. " + (
        "csv.formulas=keep leaves it."
    )


def main(node: DictConfig) -> None:
    """Writes the rows and says what claim covers them."""
    from dpsynth import pipeline
    from dpsynth.data.tables.untrusted import CHECKED
    from dpsynth.privacy.release.release import Release

    request = checked(node)
    release = Release.load(request.release)
    rows = pipeline.sample(release, request.num_rows, seed=request.seed, conditions=request.conditions)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    written = write(rows, request.out, release.schema, request.formulas)
    print(f"Wrote {len(rows):,} synthetic rows to {request.out}. Claim: {release.claim}.")
    if written:
        print(written)
    print(CHECKED)


def _is_whole(value: Any, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


if __name__ == "__main__":
    command_line.run(main, "sample", checked=checked)
