"""The kinds of column that a schema declares, with the rules that each declaration must keep."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar

from dpsynth.data.schema.dtype_limits import dtype_problems
from dpsynth.errors import Problem

MAX_VALUES = 1000
MAX_INTEGER = 2**53
FORMS = ("NFC", "NFKC")
UNLISTED = ("other", "missing", "spread")


@dataclass(frozen=True, kw_only=True)
class Column:
    """Base of the kinds of column.

    Args:
      name: as in the table.
      nullable: whether values may be missing. Missing values are a cell of their own and come back missing.
      dtype: pandas dtype with which values come back; `None` is the kind's own (see `values.storage_dtype`).
    """

    kind: ClassVar[str] = ""
    name: str
    nullable: bool = False
    dtype: str | None = None

    @property
    def modelled(self) -> bool:
        """Whether a generator may learn this kind."""
        return True

    @property
    def undeclared(self) -> str | None:
        """What has to be bought before the column can be used: `bounds`, `values` or nothing."""
        return None

    @property
    def gaps(self) -> bool:
        """Whether a value may come back missing, though none may be missing in the table."""
        return self.nullable

    def problems(self) -> Iterator[Problem]:
        """Yields the rules that this declaration breaks."""
        if not isinstance(self.nullable, bool):
            yield self._problem(f"nullable={self.nullable!r} is not a boolean.", "Write true or false.")
        if self.dtype is not None and not isinstance(self.dtype, str):
            yield self._problem(f"dtype={self.dtype!r} is not text.", "Write a pandas dtype such as int64.")
        elif self.dtype is not None:
            yield from dtype_problems(self)

    def to_dict(self) -> dict[str, Any]:
        """Returns the declaration as JSON-able values, without the keys that hold their default."""
        own = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        given = {key: plain(value) for key, (value, default) in own.items() if value != default}
        return {"name": given.pop("name", self.name), "kind": self.kind} | given

    def _problem(self, rule: str, fix: str) -> Problem:
        return Problem(f"column {self.name!r}", rule, fix)

    def _bounds_problems(self, low: Any, high: Any) -> Iterator[Problem]:
        if low is not None and high is not None and low > high:
            text = f"min={self.min} is above max={self.max}."  # type: ignore[attr-defined]
            yield self._problem(text, "Swap them.")
        if not isinstance(self.clip, bool):  # type: ignore[attr-defined]
            yield self._problem("clip is not a boolean.", "Write true or false.")


@dataclass(frozen=True, kw_only=True)
class Continuous(Column):
    """Real numbers in [min, max]; `decimals` is the resolution of what comes back."""

    kind: ClassVar[str] = "continuous"
    min: float | None = None
    max: float | None = None
    decimals: int | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        for key in ("min", "max"):
            value = getattr(self, key)
            if isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, key, float(value))

    @property
    def undeclared(self) -> str | None:
        return "bounds" if self.min is None or self.max is None else None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        bad = [k for k in ("min", "max") if not (getattr(self, k) is None or _is_finite(getattr(self, k)))]
        for key in bad:
            yield self._problem(f"{key}={getattr(self, key)!r} is not a finite number.", "Write a number.")
        if self.decimals is not None and not (_is_int(self.decimals) and 0 <= self.decimals <= 15):
            yield self._problem(
                f"decimals={self.decimals!r} is not a whole number in [0, 15].", "Correct it."
            )
        if not bad:
            yield from self._bounds_problems(self.min, self.max)


@dataclass(frozen=True, kw_only=True)
class Integer(Column):
    """Whole numbers in [min, max]. Codes that have no order are `Categorical`, by declaration only."""

    kind: ClassVar[str] = "integer"
    min: int | None = None
    max: int | None = None
    clip: bool = False

    @property
    def undeclared(self) -> str | None:
        return "bounds" if self.min is None or self.max is None else None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        bad = [k for k in ("min", "max") if not (getattr(self, k) is None or _is_int(getattr(self, k)))]
        for key in bad:
            yield self._problem(f"{key}={getattr(self, key)!r} is not a whole number.", "Write an integer.")
        if not bad:
            for key in ("min", "max"):
                if abs(getattr(self, key) or 0) > MAX_INTEGER:
                    yield self._problem(f"{key} is outside ±2^53.", "Declare an identifier or rescale.")
            yield from self._bounds_problems(self.min, self.max)


@dataclass(frozen=True, kw_only=True)
class Categorical(Column):
    """One of `values`, all text, integers, floats or booleans; `ordered` if their order counts.

    Args:
      other: what values outside the list count and come back as. With `values` it is one of them, and without
        it such values are refused. Where values are bought, it stands for those that too few units share.
      unlisted: what becomes of values that are not bought: `other` (the default for text, as "(other)"; or
        where `other` is declared), `missing` (the default for the rest), or `spread` over the bought values
        by their shares. Never a bought value by itself.
      normalise: Unicode form that texts are brought to before they are compared; None leaves them.
    """

    kind: ClassVar[str] = "categorical"
    values: tuple[Any, ...] | None = None
    ordered: bool = False
    other: Any = None
    unlisted: str | None = None
    normalise: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.values, list):
            object.__setattr__(self, "values", tuple(self.values))
        if self.values and isinstance(self.values[0], float):  # equal values have one look
            object.__setattr__(self, "values", tuple(_without_sign(value) for value in self.values))

    @property
    def undeclared(self) -> str | None:
        return "values" if self.values is None else None

    @property
    def gaps(self) -> bool:
        text = self.dtype in (None, "str", "string", "object", "category")
        return self.nullable or (self.values is None and (not text or self.unlisted == "missing"))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from _form_problems(self)
        if not isinstance(self.ordered, bool):
            yield self._problem("ordered is not a boolean.", "Write true or false.")
        if self.unlisted is not None and (self.values is not None or self.unlisted not in UNLISTED):
            rule = f"unlisted={self.unlisted!r} is for values that are bought: {', '.join(UNLISTED)}."
            yield self._problem(rule, "Correct it, or leave it out.")
        if self.values is None:
            return
        if self.other is not None and self.other not in self.values:
            rule = f"other={self.other!r} is not among its values."
            yield self._problem(rule, "Add it to values; values that are not listed come back as it.")
        if not isinstance(self.values, tuple) or not self.values:
            yield self._problem(
                "values is not a list of at least one value.", "List them, or leave values out."
            )
        elif len({type(v) for v in self.values}) > 1 or not isinstance(self.values[0], (str, int, float)):
            yield self._problem(
                "values are not all text, integers, floats or booleans.", "Quote text values."
            )
        elif any(isinstance(v, float) and not math.isfinite(v) for v in self.values):
            yield self._problem(
                "values holds a number that is not finite.", "Use nullable for missing values."
            )
        elif len(self.values) > MAX_VALUES:
            rule = f"{len(self.values)} declared values exceed the limit of {MAX_VALUES}."
            yield self._problem(rule, "Group them, or declare the column integer, identifier or drop.")
        elif twice := [value for value, times in Counter(self.values).items() if times > 1]:
            listed = ", ".join(repr(value) for value in twice[:3])
            yield self._problem(f"values lists {listed} more than once.", "List each value once.")
        elif self.normalise in FORMS and isinstance(self.values[0], str):
            for value in self.values:
                if unicodedata.normalize(self.normalise, value) != value:
                    yield self._problem(f"value {value!r} is not in form {self.normalise}.", "Write it so.")


@dataclass(frozen=True, kw_only=True)
class Boolean(Column):
    """True or false; 0 and 1 are read as such. Its values need no declaration."""

    kind: ClassVar[str] = "boolean"


@dataclass(frozen=True, kw_only=True)
class Datetime(Column):
    """Dates or times as text in a `strptime` format, or as a datetime dtype; bounds are in that format.

    A format with an offset (`%z`) reads moments of any zone and writes them in UTC; one of a time of day
    (`%H:%M`) is of no day.
    """

    kind: ClassVar[str] = "datetime"
    format: str = "%Y-%m-%d"
    min: str | None = None
    max: str | None = None
    clip: bool = False

    @property
    def undeclared(self) -> str | None:
        return "bounds" if self.min is None or self.max is None else None

    def parse(self, text: str) -> datetime:
        """Reads one public bound; one with an offset as that moment in UTC."""
        moment = datetime.strptime(text, self.format)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)

    def text(self, moment: datetime) -> str:
        """Writes a moment of UTC as the table does."""
        return moment.replace(tzinfo=UTC).strftime(self.format)

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if not isinstance(self.format, str) or "%" not in self.format or "%Z" in self.format:
            rule = f"format={self.format!r} is not a strptime format, or names a zone."
            yield self._problem(rule, "Correct it; offsets such as +0200 are %z.")
            return
        parsed: dict[str, datetime] = {}
        for key in ("min", "max"):
            value = getattr(self, key)
            try:
                parsed |= {} if value is None else {key: self.parse(value)}
            except (TypeError, ValueError):
                yield self._problem(
                    f"{key}={value!r} does not match format {self.format!r}.", "Correct one of them."
                )
        yield from self._bounds_problems(parsed.get("min"), parsed.get("max"))


@dataclass(frozen=True, kw_only=True)
class Identifier(Column):
    """Names a row or an entity. Never learned and never released: fresh surrogate keys take its place."""

    kind: ClassVar[str] = "identifier"
    normalise: str | None = None

    @property
    def modelled(self) -> bool:
        return False

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from _form_problems(self)


@dataclass(frozen=True, kw_only=True)
class Drop(Column):
    """Thrown away at reading; may be absent from the table."""

    kind: ClassVar[str] = "drop"

    @property
    def modelled(self) -> bool:
        return False


KINDS: dict[str, type[Column]] = {
    cls.kind: cls for cls in (Continuous, Integer, Categorical, Boolean, Datetime, Identifier, Drop)
}


def plain(value: Any) -> Any:
    """Turns tuples into lists, for JSON and YAML."""
    return [plain(v) for v in value] if isinstance(value, tuple) else value


def _form_problems(column: Any) -> Iterator[Problem]:
    if column.normalise is not None and column.normalise not in FORMS:
        rule = f"normalise={column.normalise!r} is unknown."
        yield column._problem(rule, f"Write one of {', '.join(FORMS)}, or leave it out.")


def _without_sign(value: Any) -> Any:
    return value + 0.0 if isinstance(value, float) else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
