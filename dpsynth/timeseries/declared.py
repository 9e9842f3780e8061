"""The schema of sequences for training under differential privacy: declarations and facts of the format.

Names, dtypes, and the number of steps of a 3-D array or a wide table are facts of the format. Nothing here
reads a value.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from dpsynth.data.schema import (
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Identifier,
    Integer,
    Schema,
    Sequence,
    Unit,
)
from dpsynth.data.schema.dtypes import dtype_name, storage_dtype
from dpsynth.data.sequences.arrays import LongTable, parsed_dates
from dpsynth.errors import InvalidInput, Problem, nearest


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What is public about sequences; bounds and values that it leaves open are bought.

    Args:
      columns: by the names of the table; of arrays `attribute_0`, …, `feature_0`, …; of a wide table, all
        steps together are `value`. Needed where a dtype does not say what a column holds and where values may
        be missing; worth it elsewhere, since what is declared costs no budget.
      min_length: steps that every sequence has at least; None is all of them for 3-D arrays and wide tables,
        else 1. The most steps are `Config.max_sequence_len`; of an entity with more rows the first are kept.
      num_units: approximate, public number of sequences; None buys it.
    """

    columns: tuple[Column, ...] = ()
    min_length: int | None = None
    num_units: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))


def declared_schema(
    table: LongTable,
    declared: Declared,
    *,
    calendar: Many[Any] | None,
    max_sequence_len: int | None,
    fixed_length: int | None,
) -> Schema:
    """Puts a schema together from public facts alone.

    Args:
      table: private; only its names and dtypes are looked at.
      fixed_length: steps of every sequence where the format fixes them.
    Raises:
      InvalidInput: what is neither declared nor bought; every problem is listed.
    """
    given = {column.name: column for column in declared.columns}
    modelled = [c for c in table.frame.columns if c in (table.time, *table.attributes, *table.features)]
    problems = [
        Problem(f"column {name!r}", "is declared but not in the table.", nearest(name, modelled))
        for name in given
        if name not in modelled
    ]
    if calendar is not None and table.time is not None and table.time not in given:
        given[table.time] = _of_calendar(table.time, calendar)
    columns: list[Column] = [Identifier(name=table.entity, dtype=_dtype(table, table.entity))]
    for name in modelled:
        found = given[name] if name in given else _of_dtype(table, name)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        own = storage_dtype(found) if name in table.untyped else _dtype(table, name)
        columns.append(found if found.dtype is not None else replace(found, dtype=own))
        if name in table.untyped and found.undeclared == "values":
            rule = "has values of no declared type."
            problems.append(Problem(f"column {name!r}", rule, "Declare them: Categorical(values=…)."))
    most = max_sequence_len or fixed_length or (None if calendar is None else len(calendar))
    if most is None:
        rule = "is not declared; the longest sequence is private."
        problems.append(Problem("max_sequence_len", rule, "Set Config(max_sequence_len=…)."))
    elif fixed_length is not None and fixed_length > most:
        rule = f"is {most}, but every sequence has {fixed_length} steps."
        problems.append(Problem("max_sequence_len", rule, "Raise it, or cut the sequences."))
    if problems:
        raise InvalidInput("training under differential privacy", problems)
    return Schema(
        columns=tuple(columns),
        unit=Unit(column=table.entity, max_rows=most),
        num_units=declared.num_units,
        sequence=Sequence(
            time=table.time,
            attributes=table.attributes,
            max_length=most,
            min_length=declared.min_length or fixed_length or 1,
            calendar=None if calendar is None else tuple(calendar),
        ),
    )


def _dtype(table: LongTable, name: str) -> str:
    return dtype_name(table.frame[name].dtype)


def _of_dtype(table: LongTable, name: str) -> Column | Problem:
    """The kind that a dtype says, with bounds and values left open; a problem where it says none."""
    dtype, types = table.frame[name].dtype, pd.api.types
    if name in table.untyped:
        rule = "comes from an array of objects or text; what it holds is not declared."
        return Problem(f"column {name!r}", rule, "Declare it in Declared(columns=…), with values or bounds.")
    if types.is_bool_dtype(dtype):
        return Boolean(name=name)
    if name in table.discrete:
        return Categorical(name=name)
    if types.is_integer_dtype(dtype):
        return Integer(name=name)
    if types.is_numeric_dtype(dtype):
        return Continuous(name=name)
    if types.is_datetime64_any_dtype(dtype):
        return Datetime(name=name, format="%Y-%m-%d %H:%M:%S")
    rule = "holds times as text, whose format is not declared."
    return Problem(f"column {name!r}", rule, "Declare it: Datetime(format=…), or give a calendar.")


def _of_calendar(name: str, calendar: Many[Any]) -> Column:
    """The time column as its declared calendar has it; the calendar is public."""
    times = pd.Series(list(calendar))
    if pd.api.types.is_integer_dtype(times.dtype):
        return Integer(name=name, min=int(times.min()), max=int(times.max()))
    if pd.api.types.is_numeric_dtype(times.dtype):
        return Continuous(name=name, min=float(times.min()), max=float(times.max()))
    dates, style = (times, "%Y-%m-%d %H:%M:%S")
    if not pd.api.types.is_datetime64_any_dtype(times.dtype):
        dates, style = parsed_dates(times.rename(name))
    return Datetime(name=name, format=style, min=dates.min().strftime(style), max=dates.max().strftime(style))
