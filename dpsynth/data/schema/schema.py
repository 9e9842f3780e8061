"""The public description of a private table: what is declared here is never read off the data.

A column says what its values may be. What stays `None` (bounds, values) is bought with part of the budget
or refused. Every object here is public, immutable and hashable; a `Schema` that breaks a rule cannot be made.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
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
    plain,
)
from dpsynth.errors import InvalidInput, Problem, nearest
from dpsynth.places import command

__all__ = [
    "Boolean",
    "Categorical",
    "Column",
    "Continuous",
    "Datetime",
    "Drop",
    "Identifier",
    "Integer",
    "Schema",
    "Sequence",
    "Unit",
]

VERSION = 1
_INNER = re.compile(r"^@(start|gap|length|step)$|@(missing|midpoint|half_range|\+\d+)$")


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Whose presence is protected: a row, or the entity named by `column` with at most `max_rows` rows."""

    column: str | None = None
    max_rows: int = 1


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """An entity's rows ordered by `time` (file order if `None`); `attributes` are constant per entity.

    Lengths are in [min_length, max_length]. A `calendar` lists the times of rows 1, 2, … of every entity;
    without one, times are modelled.
    """

    time: str | None = None
    attributes: tuple[str, ...] = ()
    max_length: int = 1
    min_length: int = 1
    calendar: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        for key in ("attributes", "calendar"):
            if isinstance(getattr(self, key), list):
                object.__setattr__(self, key, tuple(getattr(self, key)))


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Declares a table: columns in order, the unit of privacy and what else is public about it.

    Args:
      columns: in the order of the table.
      unit: the unit of privacy, with its cap of rows.
      num_units: approximate, public number of units; never the exact count of this table.
      target: the modelled column that a model trained on the release will predict.
      sequence: only for tables in which the order of an entity's rows means something.
      missing: the texts that stand for a missing value; None leaves it to the file: text files use an empty
        cell, NA and the like, typed ones none. A declared category of such a text stays a value.
      version: of the schema format.
    Raises:
      InvalidInput: lists every rule that the declaration breaks.
    """

    columns: tuple[Column, ...]
    unit: Unit = Unit()
    num_units: int | None = None
    target: str | None = None
    sequence: Sequence | None = None
    missing: tuple[str, ...] | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        for key in ("columns", "missing"):
            if isinstance(getattr(self, key), list):
                object.__setattr__(self, key, tuple(getattr(self, key)))
        if problems := list(_problems(self)):
            raise InvalidInput("the schema", problems)

    @classmethod
    def load(cls, path: str | Path) -> Schema:
        """Reads a YAML schema file; raises `InvalidInput` with every problem in it."""
        from dpsynth.data.schema.file import load_schema

        return load_schema(path)

    @classmethod
    def from_dict(cls, content: Any, subject: str = "the schema") -> Schema:
        """Builds a schema from the content of a schema file; raises `InvalidInput` with every problem."""
        from dpsynth.data.schema.file import parse_schema

        return parse_schema(content, subject)

    def dump(self, path: str | Path) -> None:
        """Writes a YAML schema file that `load` reads back as an equal schema."""
        from dpsynth.data.schema.file import to_yaml

        Path(path).write_text(to_yaml(self), encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """Returns the schema as JSON-able values; keys that hold their default are left out."""
        out: dict[str, Any] = {"version": self.version}
        for key in ("unit", "num_units", "target", "sequence", "missing"):
            empty = (None, {}) if key == "missing" else (None, [], {})
            if (facts := _facts(getattr(self, key))) not in empty:
                out[key] = facts
        return out | {"columns": [column.to_dict() for column in self.columns]}

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, in hex: equal schemas have equal digests."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def column(self, name: str) -> Column:
        """Returns the column of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        names = [column.name for column in self.columns]
        raise InvalidInput(
            "the schema", [Problem(f"column {name!r}", "Is not declared.", nearest(name, names))]
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that a table holds and a release gives back: all but `Drop`."""
        return tuple(c.name for c in self.columns if not isinstance(c, Drop))

    @property
    def modelled(self) -> tuple[Column, ...]:
        """Columns that a generator learns: no identifier, no dropped column, not the one naming the unit."""
        return tuple(c for c in self.columns if c.modelled and c.name != self.unit.column)

    @property
    def undeclared(self) -> tuple[tuple[str, str], ...]:
        """What must be bought: pairs of a modelled column's name and `bounds` or `values`."""
        return tuple((c.name, c.undeclared) for c in self.modelled if c.undeclared)

    def with_columns(self, *columns: Column) -> Schema:
        """Returns a copy in which the given columns take the place of those with the same names."""
        new = {column.name: column for column in columns}
        return replace(self, columns=tuple(new.get(c.name, c) for c in self.columns))


def _facts(value: Any) -> Any:
    """Turns a part of the schema into JSON-able values; keys that hold their default are left out."""
    if isinstance(value, (Unit, Sequence)):
        every = {f.name: (getattr(value, f.name), f.default) for f in fields(value)}
        return {key: plain(own) for key, (own, default) in every.items() if own != default}
    return plain(value)


def _problems(schema: Schema) -> Iterator[Problem]:
    """Yields every rule that the schema breaks, columns first."""
    if schema.version != VERSION or isinstance(schema.version, bool):
        yield Problem("version", f"Expected {VERSION}, got {schema.version!r}.", "Redraft the schema.")
    names = [column.name for column in schema.columns]
    if not names:
        yield Problem("columns", "No column is declared.", f"Draft a schema with {command('schema')}.")
    for column in schema.columns:
        if not isinstance(column.name, str) or not column.name:
            yield Problem("columns", f"name={column.name!r} is not text.", "Quote it.")
        elif "\0" in column.name:
            yield Problem("columns", f"name={column.name!r} holds a NUL character.", "Rename it.")
        yield from column.problems()
    for name in sorted({str(n) for n in names if names.count(n) > 1}):
        yield Problem(f"column {name!r}", "Is declared more than once.", "Keep one declaration.")
    if names and not any(c.modelled and c.name != schema.unit.column for c in schema.columns):
        yield Problem("columns", "Nothing is left to model.", "Declare a column besides identifier and drop.")
    for text in schema.missing or ():
        if not isinstance(text, str):
            yield Problem("missing", f"{text!r} is not text.", "Quote it.")
    yield from _unit_problems(schema, names)
    if schema.num_units is not None and not _is_positive(schema.num_units):
        rule = f"{schema.num_units!r} is not a whole number above 0."
        yield Problem("num_units", rule, "Write an approximate public size, or leave it out.")
    if schema.target is not None and schema.target not in [c.name for c in schema.modelled]:
        rule = f"{schema.target!r} is not a modelled column."
        yield Problem("target", rule, nearest(schema.target, [c.name for c in schema.modelled]))


def _unit_problems(schema: Schema, names: list[str]) -> Iterator[Problem]:
    """Yields the rules about the unit of privacy and the sequence that are broken."""
    unit, sequence = schema.unit, schema.sequence
    if not _is_positive(unit.max_rows):
        yield Problem(
            "unit.max_rows", f"{unit.max_rows!r} is not a whole number above 0.", "Declare the cap."
        )
    elif unit.column is None and unit.max_rows != 1:
        yield Problem("unit.max_rows", "A row that is its own unit has one row.", "Declare unit.column.")
    if unit.column is not None:
        if unit.column not in names:
            rule = f"{unit.column!r} is not a declared column."
            yield Problem("unit.column", rule, nearest(unit.column, names))
        else:
            column = schema.columns[names.index(unit.column)]
            if not isinstance(column, Identifier):
                yield Problem("unit.column", f"{unit.column!r} is {column.kind}.", "Declare it identifier.")
            elif column.nullable:
                rule = f"{unit.column!r} is nullable, but every row belongs to a unit."
                yield Problem("unit.column", rule, "Declare nullable: false.")
    if sequence is None:
        return
    for name in names:
        if isinstance(name, str) and _INNER.search(name):
            rule = "Is a name of what is derived from sequences."
            yield Problem(f"column {name!r}", rule, "Rename it.")
    if unit.column is None:
        yield Problem("sequence", "A sequence belongs to an entity.", "Declare unit.column.")
    for name in [sequence.time, *sequence.attributes]:
        if name is not None and name not in names:
            yield Problem("sequence", f"{name!r} is not a declared column.", nearest(name, names))
    if not _is_positive(sequence.max_length):
        yield Problem("sequence.max_length", f"{sequence.max_length!r} is not above 0.", "Declare the cap.")
    elif _is_positive(unit.max_rows) and sequence.max_length > unit.max_rows:
        rule = f"{sequence.max_length} exceeds unit.max_rows={unit.max_rows}."
        yield Problem("sequence.max_length", rule, "Raise unit.max_rows to it.")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
