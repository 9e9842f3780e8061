"""Values that generated rows are asked to have: only those that the schema allows and the release knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dpsynth.data.schema import Categorical, Column, Schema
from dpsynth.data.schema.dtypes import value_type
from dpsynth.data.schema.validation import Checked, check_column
from dpsynth.errors import InvalidInput, Problem

SUBJECT = "the conditions"


def read_conditions(given: Any) -> dict[str, Any]:
    """Reads conditions: a mapping, YAML or JSON text, or `@FILE` with either.

    Of a text every name and value is taken as it stands there, so that 007, no and 1e5 stay what they are;
    the column's kind makes of it what it is. Unquoted `null` and `~` ask for missing values.

    Raises:
      InvalidInput: the file cannot be read, or is no mapping of names to single values.
    """
    from dpsynth.data.schema.file import load_plain_text

    if isinstance(given, str) and given.startswith("@"):
        try:
            given = Path(given[1:]).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeError) as error:
            problem = Problem(
                given, f"Cannot be read ({type(error).__name__}).", "Give a file of YAML or JSON."
            )
            raise InvalidInput(SUBJECT, [problem]) from None
    if isinstance(given, str):
        given = load_plain_text(given, SUBJECT)
    given = {} if given is None else given
    single = isinstance(given, Mapping) and not any(isinstance(v, list | dict) for v in given.values())
    if not single:
        rule = "Is not one value for each of some columns."
        raise InvalidInput(SUBJECT, [Problem("conditions", rule, "Write 'conditions={COLUMN: VALUE}'.")])
    return dict(given)


def coerced(conditions: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Returns each value as its column stores it; what a column cannot take stays, to be refused later."""
    found = {}
    for name, value in conditions.items():
        found[name] = value
        if name in schema.names and value is not None:
            checked = _checked(value, schema.column(name), schema)
            found[name] = value if checked.problems else checked.values.iloc[0]
    return found


def encoded_conditions(
    conditions: Mapping[str, Any],
    schema: Schema,
    encode: Mapping[str, Callable[[pd.Series], np.ndarray]],
    *,
    kind: str,
) -> dict[str, np.ndarray]:
    """Encodes each value as one row; all of this is public.

    Args:
      encode: of the columns that can be asked for.
      kind: what such a column is, in words.
    Raises:
      InvalidInput: other columns, values outside the declared bounds or lists, or not among those that were
        bought; every problem is listed.
    """
    problems, encoded = [], {}
    for name, value in conditions.items():
        if name not in encode:
            problems.append(Problem(name, f"is not {kind}.", f"Choose one of {', '.join(encode)}."))
            continue
        series, rules = pd.Series([value]), []
        if name in schema.names:
            column = schema.column(name)
            if not (column.nullable and pd.isna(value)):
                checked = _checked(value, column, schema)
                series, rules = checked.values, [problem.rule for problem in checked.problems]
        try:
            if not rules:
                encoded[name] = encode[name](series)
        except (InvalidInput, ValueError, TypeError):
            rules = ["It is not among the values of the column."]
        if rules:
            rule = f"cannot take the value {value!r}. {' '.join(rules)}"
            problems.append(Problem(name, rule, "Choose one that the schema allows."))
    if problems:
        raise InvalidInput(SUBJECT, problems)
    return encoded


def _checked(value: Any, column: Column, schema: Schema) -> Checked:
    """Reads a value by the column's kind, and says which rules of its declaration it breaks."""
    if getattr(column, "clip", False):
        column = replace(column, clip=False)  # a condition is met as it stands or refused
    if isinstance(column, Categorical):
        column = replace(column, other=None) if column.values else column
        if value_type(column) in (str, None):
            value = value if isinstance(value, str) or pd.isna(value) else str(value)
            return check_column(pd.Series([value], name=column.name, dtype="str"), column, schema, text=False)
    text = isinstance(value, str) or pd.isna(value)
    series = pd.Series([value], name=column.name, dtype="str" if text else None)
    return check_column(series, column, schema, text=text)
