"""Drafts a schema from names and dtypes alone, and says in comments what is left to declare or to buy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

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
from dpsynth.data.schema.dtypes import storage_dtype
from dpsynth.data.schema.file import to_yaml
from dpsynth.data.schema.origins import Origin, pandas_origin
from dpsynth.data.schema.schema import Schema

_HEAD = """Drafted from column names and dtypes alone: no value was used. (The dtypes of a text file are
inferred from its values, so they say for example that a column holds whole numbers only, dates of
one format, or blanks; dtypes are treated as public.) Before you use it, decide what is public and
true of ANY such table, and never copy a bound or a list of values from the rows:

- kind: continuous, integer, categorical, boolean, datetime, identifier (never released, fresh keys
  instead) or drop. Integer codes become categories only by declaration.
- min, max, values: what is public. What stays undeclared is bought with a part of the budget.
- nullable: true where values may be missing; clip: true moves numbers beyond the bounds onto them.
- unit: whose presence is protected. By default a row; where one person has several rows, declare
  unit: {column: NAME, max_rows: CAP} with that column an identifier.
- num_units: an approximate, public number of units, if there is one.
- target: the column to predict, if there is one."""

_OPEN = "declare, or bought:"
_KINDS = {"boolean": Boolean, "integer": Integer, "number": Continuous, "moment": Datetime}


def draft(dtypes: Mapping[str, str]) -> Schema:
    """Returns a schema that declares no more than names and dtypes.

    Args:
      dtypes: pandas dtypes by column name, in order. Public.
    """
    found = {name: pandas_origin(pd.api.types.pandas_dtype(dtype)) for name, dtype in dtypes.items()}
    return Schema(columns=tuple(of_origin(name, origin) for name, origin in found.items()))


def remarks(schema: Schema) -> dict[str, str]:
    """Says per column what must still be declared, or will be bought."""
    return {column.name: text for column in schema.columns if (text := _remark(column))}


def draft_yaml(schema: Schema, notes: tuple[str, ...] = ()) -> str:
    """Returns a schema as a commented YAML file, as `Schema.load` reads it."""
    more = "\n".join(f"- {note}" for note in notes)
    text = to_yaml(schema, head=f"{_HEAD}\n\n{more}" if notes else _HEAD, remarks=remarks(schema))
    absent = [
        "# unit: {column: NAME, max_rows: CAP}  # declare where one person has several rows",
        "# num_units: 10000  # declare, if it is public, about how many units there are",
        "# target: NAME  # declare if there is one",
    ]
    keys = [line.split(":")[0] for line in text.splitlines()]
    missing = [line for line in absent if line[2:].split(":")[0] not in keys]
    return text.replace("columns:\n", "\n".join([*missing, "columns:"]) + "\n", 1)


def of_origin(name: str, origin: Origin) -> Column:
    """Chooses the kind of a column by its type, and keeps dtypes that are not the kind's own.

    What no kind takes (lists, times of day, durations, bytes) is left out, and the remark says so.
    """
    if not origin.known:
        return Drop(name=name)
    kind = Categorical if origin.category else _KINDS.get(origin.type, Categorical)
    extra: dict[str, Any] = {"format": "%Y-%m-%d %H:%M:%S"} if kind is Datetime else {}
    if kind is Continuous:
        extra["decimals"] = origin.scale
    column = kind(name=name, **extra)
    return column if storage_dtype(column) == origin.dtype else kind(name=name, dtype=origin.dtype, **extra)


def _remark(column: Column) -> str:
    if isinstance(column, Identifier):
        return "replaced by fresh keys"
    if isinstance(column, Drop):
        return "left out: declare another kind to keep it (lists, times and durations: convert them first)"
    wanted = []
    if isinstance(column, Categorical):
        wanted = ["values"] if column.values is None else []
    elif not isinstance(column, Boolean):
        wanted = [key for key in ("min", "max") if getattr(column, key) is None]
    text = f"{_OPEN} {', '.join(wanted)}" if wanted else ""
    if isinstance(column, Integer) and wanted:
        text += " (codes are categorical"
        text += ", dates such as 20240131 are datetime, format: '%Y%m%d')"
    if isinstance(column, Datetime) and column.format == "%Y%m%d":
        text += " (are these dates? numbers are integer)"
    return text
