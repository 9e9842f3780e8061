"""Made-up rows for training on: rare combinations and extremes, inside the schema, of nobody.

A row at the ends of its columns, in a combination that nobody has, is the hardest to hide; flipped into the
training by coins, it shows what the method leaks of its most exposed unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Column, Schema

_SPARE = 10  # rows drawn for one that is kept
_AT_ENDS = 0.5  # of the numbers and dates
_MISSING = 0.1  # of the cells that may be missing


def check(schema: Schema) -> None:
    """Refuses a schema inside which no row can be made up.

    Raises:
      InvalidInput: units are entities, or bounds or values are not declared.
    """
    from dpsynth.data.units.units import units_of

    problems = []
    if not units_of(schema).by_row:
        rule = "Is above 0, but the unit of this table is an entity; only single rows are made up."
        problems.append(Problem("canary_constructed", rule, "Set it to 0."))
    problems += [
        Problem(f"column {name!r}", f"Declares no {what}, so no row can be made up inside them.", fix)
        for name, what in schema.undeclared
        for fix in ("Declare them, or set canary_constructed=0.",)
    ]
    if problems:
        raise InvalidInput("constructed canaries", problems)


def made_up(schema: Schema, num: int, like: pd.DataFrame, *, rng: np.random.Generator) -> pd.DataFrame:
    """Returns `num` rows, all different, with columns and dtypes as in `like`.

    Categories are drawn evenly from the declared values, each column by itself; half of the numbers and dates
    lie at an end of their bounds, the others evenly in between.

    Formal guarantee: reads names and dtypes of `like`, and no value of it; so the rows do not depend on the
    private table.

    Args:
      like: private.
    Raises:
      InvalidInput: the schema has hardly more combinations than rows are asked for.
    """
    import pandas as pd

    from dpsynth.data.schema.dtypes import dtype_name
    from dpsynth.data.schema.validation import check_columns

    columns = [replace(schema.column(name), dtype=dtype_name(like[name].dtype)) for name in like]
    cells = {c.name: _cells(c, _SPARE * num, like[c.name].dtype, rng) for c in columns}
    texts = pd.DataFrame({name: pd.Series(values, dtype="str") for name, values in cells.items()})
    texts = texts[~texts[[c.name for c in schema.modelled]].duplicated()].head(num)
    if len(texts) < num:
        rule = f"Asks for {num} different rows; the schema has hardly more combinations."
        raise InvalidInput("constructed canaries", [Problem("canary_constructed", rule, "Lower it.")])
    rows, problems = check_columns(texts, schema.with_columns(*columns), text=True)
    if problems:
        raise InvalidInput("constructed canaries", problems)
    return rows.astype({name: dtype for name, dtype in like.dtypes.items() if dtype != "category"})


def joined(rows: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of both tables with the dtypes of the first."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    out = pd.concat([rows, more], ignore_index=True)
    for name, dtype in rows.dtypes.items():
        if dtype == "category":
            out[name] = union_categoricals([rows[name], more[name].astype("category")])
    return out


def _cells(column: Column, num: int, dtype: Any, rng: np.random.Generator) -> list[str]:
    """Returns values of one column as text, as a file would hold them."""
    nullable = column.nullable and getattr(dtype, "kind", "O") not in "iub"
    nullable = nullable or (column.nullable and not isinstance(dtype, np.dtype))
    draw = _WAYS[column.kind](column)
    at_ends, places, gone = rng.random((3, num))
    ends = np.where(rng.random(num) < 0.5, 0.0, 1.0)
    bounded = column.kind in ("continuous", "integer", "datetime")
    where = np.where((at_ends < _AT_ENDS) & bounded, ends, places)
    missing = (gone < _MISSING) & nullable
    return ["" if none else draw(place) for place, none in zip(where, missing)]


def _number(column: Any) -> Callable[[float], str]:
    decimals = 6 if column.decimals is None else column.decimals

    def value(place: float) -> str:
        between = round(column.min + place * (column.max - column.min), decimals)
        return repr(float(min(max(between, column.min), column.max)))

    return value


def _integer(column: Any) -> Callable[[float], str]:
    return lambda place: str(column.min + round(place * (column.max - column.min)))


def _category(column: Any) -> Callable[[float], str]:
    values = column.values
    return lambda place: str(values[min(int(place * len(values)), len(values) - 1)])


def _date(column: Any) -> Callable[[float], str]:
    low, high = column.parse(column.min), column.parse(column.max)
    span = int((high - low).total_seconds())
    return lambda place: column.text(low + timedelta(seconds=round(place * span)))


_WAYS: dict[str, Callable[[Any], Callable[[float], str]]] = {
    "continuous": _number,
    "integer": _integer,
    "categorical": _category,
    "boolean": lambda column: lambda place: "true" if place >= 0.5 else "false",
    "datetime": _date,
    "identifier": lambda column: lambda place: str(-1 - int(place * 2**40)),
}
