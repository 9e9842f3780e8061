"""Schemas from and to the metadata JSON of SDV, for one table.

SDV's metadata has no bounds, no lists of values, no unit of privacy and no public size: importing leaves them
undeclared, exporting leaves them out. Reads `SINGLE_TABLE_V1`, and `V1` where it holds one table; writes
`SINGLE_TABLE_V1`, which SDV 1.x reads.

Source: docs.sdv.dev, "Metadata JSON" and "Sdtypes".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpsynth.data.schema.columns import (
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Drop,
    Identifier,
    Integer,
)
from dpsynth.data.schema.schema import Schema, Unit
from dpsynth.errors import InvalidInput, Problem

_VERSIONS = ("SINGLE_TABLE_V1", "V1")
_SDTYPES: dict[type[Column], str] = {
    Continuous: "numerical",
    Integer: "numerical",
    Categorical: "categorical",
    Boolean: "boolean",
    Datetime: "datetime",
    Identifier: "id",
    Drop: "unknown",
}
_FLOATS = ("Float", "Double")


def from_sdv(
    metadata: Mapping[str, Any], subject: str = "the SDV metadata"
) -> tuple[Schema, tuple[str, ...]]:
    """Turns SDV metadata into a schema, with notes on what SDV cannot say.

    `id` becomes an identifier, `unknown` and every sdtype of personal information (`email`, `phone_number`,
    what is marked `pii`) is dropped. `numerical` is continuous unless `computer_representation` says Int.

    Raises:
      InvalidInput: lists everything in the metadata that cannot be read.
    """
    table, problems = _table(metadata)
    if problems:
        raise InvalidInput(subject, problems)
    columns, notes = [], []
    keys = {key for key in (table.get("primary_key"), table.get("sequence_key")) if isinstance(key, str)}
    for name, facts in table["columns"].items():
        if not isinstance(facts, Mapping) or not isinstance(facts.get("sdtype"), str):
            problems.append(Problem(f"column {name!r}", "Has no sdtype.", "Add one, such as categorical."))
            continue
        column = Identifier(name=name) if name in keys else _column(name, facts)
        if isinstance(column, Drop):
            notes.append(f"{name}: sdtype {facts['sdtype']} is dropped; declare another kind to keep it.")
        if isinstance(column, Datetime) and "datetime_format" not in facts:
            notes.append(f"{name}: SDV gives no format of dates; declare it.")
        columns.append(column)
    unit = Unit()
    if isinstance(table.get("sequence_key"), str):
        unit = Unit(column=table["sequence_key"])
        notes.append(
            "unit: SDV gives no cap of rows; declare max_rows (now 1), and sequence if order counts."
        )
    try:
        schema = Schema(columns=tuple(columns), unit=unit)
    except InvalidInput as error:
        problems += [p for p in error.problems if columns]
    if problems:
        raise InvalidInput(subject, problems)
    return schema, tuple(notes)


def to_sdv(schema: Schema) -> dict[str, Any]:
    """Returns a schema as SDV metadata for one table, without bounds, values and the facts of privacy."""
    columns: dict[str, dict[str, Any]] = {}
    for column in schema.columns:
        facts: dict[str, Any] = {"sdtype": _SDTYPES[type(column)]}
        if isinstance(column, Integer):
            facts["computer_representation"] = "Int64"
        elif isinstance(column, Continuous):
            facts["computer_representation"] = "Float"
        elif isinstance(column, Datetime):
            facts["datetime_format"] = column.format
        elif isinstance(column, Drop):
            facts["pii"] = True
        columns[column.name] = facts
    out: dict[str, Any] = {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", "columns": columns}
    if schema.sequence is not None:
        out["sequence_key"] = schema.unit.column
        if schema.sequence.time is not None:
            out["sequence_index"] = schema.sequence.time
    return out


def read_sdv(path: str | Path) -> tuple[Schema, tuple[str, ...]]:
    """Reads a metadata file of SDV; see `from_sdv`."""
    try:
        metadata = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise _refused(path, "No such file.", "Correct sdv=FILE.") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise _refused(path, "Is not JSON.", "Write it with SDV's save_to_json.") from None
    return from_sdv(metadata, str(path))


def merge_dtypes(schema: Schema, drafted: Schema) -> Schema:
    """Gives an imported schema the order and dtypes that were drafted from a file, column by column.

    Where SDV says no more than `numerical`, whole-number dtypes make a column integer.

    Raises:
      InvalidInput: the file and the metadata do not have the same columns.
    """
    ours = {column.name: column for column in schema.columns}
    found = {column.name: column for column in drafted.columns}
    problems = [
        Problem(f"column {n!r}", "Is not in the metadata.", "Add it there.") for n in found if n not in ours
    ]
    problems += [
        Problem(
            f"column {name!r}", "Is in the metadata but not in the table.", "Take it out of the metadata."
        )
        for name in ours
        if name not in found and not isinstance(ours[name], Drop)
    ]
    if problems:
        raise InvalidInput("the SDV metadata", problems)
    columns = []
    for name, draft in found.items():
        column = ours[name]
        if isinstance(column, Continuous) and isinstance(draft, Integer):
            column = draft
        elif type(column) is type(draft) or isinstance(column, Categorical):
            column = replace(column, dtype=draft.dtype)
        columns.append(column)
    return replace(schema, columns=tuple(columns))


def _table(metadata: Any) -> tuple[Mapping[str, Any], list[Problem]]:
    """Finds the one table of the metadata, with its columns."""
    if not isinstance(metadata, Mapping):
        return {}, [Problem("file", "Is not a JSON object.", "Write it with SDV's save_to_json.")]
    version = metadata.get("METADATA_SPEC_VERSION")
    if version not in _VERSIONS:
        rule = f"METADATA_SPEC_VERSION={version!r} is unknown."
        return {}, [Problem("file", rule, f"Known: {', '.join(_VERSIONS)}.")]
    table: Any = metadata
    if "tables" in metadata:
        tables = metadata["tables"]
        if not isinstance(tables, Mapping) or len(tables) != 1:
            return {}, [Problem("tables", "Does not hold exactly one table.", "Export the table alone.")]
        table = next(iter(tables.values()))
    if (
        not isinstance(table, Mapping)
        or not isinstance(table.get("columns"), Mapping)
        or not table["columns"]
    ):
        return {}, [Problem("columns", "Is missing or empty.", "Write it with SDV's save_to_json.")]
    return table, []


def _column(name: str, facts: Mapping[str, Any]) -> Column:
    sdtype = facts["sdtype"]
    if facts.get("pii") is True and sdtype != "id":
        return Drop(name=name)
    if sdtype == "numerical":
        representation = str(facts.get("computer_representation", "Float"))
        return Continuous(name=name) if representation.startswith(_FLOATS) else Integer(name=name)
    if sdtype == "datetime":
        return Datetime(name=name, format=facts.get("datetime_format", "%Y-%m-%d"))
    simple = {"categorical": Categorical, "boolean": Boolean, "id": Identifier}
    return simple.get(sdtype, Drop)(name=name)


def _refused(path: str | Path, rule: str, fix: str) -> InvalidInput:
    return InvalidInput(str(path), [Problem("file", rule, fix)])
