"""Drafts a schema from names and dtypes alone, and says in comments what is left to declare or to buy."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from pandas.api import types

from dpsynth.data.dtypes import storage_dtype
from dpsynth.data.schema import (
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Drop,
    Identifier,
    Integer,
    Schema,
)
from dpsynth.data.schema_file import to_yaml

_HEAD = """Drafted from column names and dtypes alone: no value was used. (The dtypes of a text file are
inferred from its values, so they say for example that a column holds whole numbers only; dtypes
are treated as public.) Before you use it, decide what is public and true of ANY such table,
and never copy a bound or a list of values from the rows:

- kind: continuous, integer, categorical, boolean, datetime, identifier (never released, fresh keys
  instead) or drop. Integer codes become categories only by declaration.
- min, max, values: what is public. What stays undeclared is bought with a part of the budget.
- nullable: true where values may be missing; clip: true moves numbers beyond the bounds onto them.
- unit: whose presence is protected. By default a row; where one person has several rows, declare
  unit: {column: NAME, max_rows: CAP} with that column an identifier.
- num_units: an approximate, public number of units, if there is one.
- target: the column to predict, if there is one."""

_OPEN = "declare, or bought:"


def draft(dtypes: Mapping[str, str]) -> Schema:
    """Returns a schema that declares no more than names and dtypes.

    Args:
      dtypes: pandas dtypes by column name, in order. Public.
    """
    return Schema(columns=tuple(_column(name, dtype) for name, dtype in dtypes.items()))


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


def _column(name: str, dtype: str) -> Column:
    """Chooses the kind of a column by its dtype, and keeps dtypes that are not the kind's own."""
    found = pd.api.types.pandas_dtype(dtype)
    kind: type[Column] = Categorical
    if isinstance(found, pd.CategoricalDtype):
        kind = Categorical
    elif types.is_bool_dtype(found):
        kind = Boolean
    elif types.is_integer_dtype(found):
        kind = Integer
    elif types.is_float_dtype(found):
        kind = Continuous
    elif types.is_datetime64_any_dtype(found):
        kind = Datetime
    extra = {"format": "%Y-%m-%d %H:%M:%S"} if kind is Datetime else {}
    column = kind(name=name, **extra)
    return column if storage_dtype(column) == dtype else kind(name=name, dtype=dtype, **extra)


def _remark(column: Column) -> str:
    if isinstance(column, Identifier):
        return "replaced by fresh keys"
    if isinstance(column, Drop):
        return "left out"
    wanted = []
    if isinstance(column, Categorical):
        wanted = ["values"] if column.values is None else []
    elif not isinstance(column, Boolean):
        wanted = [key for key in ("min", "max") if getattr(column, key) is None]
    text = f"{_OPEN} {', '.join(wanted)}" if wanted else ""
    if isinstance(column, Integer) and wanted:
        text += " (codes are categorical)"
    return text
