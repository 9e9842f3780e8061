"""Drafts a schema: `python -m experiments.schema data.path=FILE [out=FILE] [sdv=FILE | sdv=export]`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dpsynth.errors import InvalidInput, Problem, nearest

from .command_line import run

EXPORT = "export"


@dataclass(frozen=True, kw_only=True)
class SchemaRequest:
    """What to draft, from what, and where to.

    Args:
      path: the table; only its names and dtypes are used.
      schema: a schema file, for `sdv=export`.
      out: the file to write; `None` prints.
      sdv: a metadata file of SDV to start from, or `export`.
    """

    path: str | None
    schema: str | None
    out: str | None
    sdv: str | None


def checked(node: DictConfig | dict[str, Any]) -> SchemaRequest:
    """Checks the composed configuration and raises one `InvalidInput`, before anything is read."""
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    data = plain.get("data") or {}
    request = SchemaRequest(
        path=data.get("path"), schema=data.get("schema"), out=plain.get("out"), sdv=plain.get("sdv")
    )
    problems = [
        Problem(key, "Is not a known key.", nearest(key, ("data", "out", "sdv")))
        for key in plain
        if key not in ("data", "out", "sdv")
    ]
    if request.sdv == EXPORT and request.schema is None and request.path is None:
        problems.append(Problem("data.schema", "Is not given.", "Add data.schema=FILE to export it."))
    elif request.sdv is None and request.path is None:
        problems.append(Problem("data.path", "Is not given.", "Add data.path=FILE, or sdv=metadata.json."))
    files = {"data.path": request.path, "data.schema": request.schema}
    if request.sdv != EXPORT:
        files["sdv"] = request.sdv
        if request.schema is not None:
            problems.append(
                Problem("data.schema", "Is there already.", "Use it as it is, or add sdv=export.")
            )
    for key, file in files.items():
        if file is not None and not Path(str(file)).is_file():
            problems.append(Problem(key, f"No file {file!r}.", f"Correct {key}."))
    if request.out is not None and Path(request.out).exists():
        problems.append(Problem("out", f"{request.out!r} exists.", "Name another file, or remove it."))
    if problems:
        raise InvalidInput("The configuration", problems)
    return request


def text_of(request: SchemaRequest) -> str:
    """Returns what is asked for: a commented schema file, or SDV metadata."""
    from dpsynth.data.schema import Schema
    from dpsynth.data.schema.draft import draft_yaml
    from dpsynth.data.schema.sdv import merge_dtypes, read_sdv, to_sdv
    from dpsynth.data.tables.io import read_draft

    asked = request.path is not None and not request.schema
    drafted = Schema(columns=read_draft(request.path)) if asked else None
    if request.sdv == EXPORT:
        schema = Schema.load(request.schema) if request.schema is not None else drafted
        return json.dumps(to_sdv(schema), indent=2, ensure_ascii=False) + "\n"
    if request.sdv is None:
        return draft_yaml(drafted)
    schema, notes = read_sdv(request.sdv)
    return draft_yaml(schema if drafted is None else merge_dtypes(schema, drafted), notes)


def main(node: DictConfig) -> None:
    """Writes or prints one schema."""
    request = checked(node)
    text = text_of(request)
    if request.out is None:
        print(text, end="")
        return
    Path(request.out).parent.mkdir(parents=True, exist_ok=True)
    Path(request.out).write_text(text, encoding="utf-8")
    more = "" if request.sdv == EXPORT else " Its comments say what is left to declare."
    print(f"Wrote {request.out}.{more}")


if __name__ == "__main__":
    run(main, "schema", checked=checked)
