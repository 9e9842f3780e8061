"""Values that generated rows are asked to have: only those that the schema allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.data.validation import check_column
from dpsynth.errors import InvalidInput, Problem


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
        rules = _broken_rules(value, name, schema)
        try:
            if not rules:
                encoded[name] = encode[name](pd.Series([value]))
        except (InvalidInput, ValueError, TypeError):
            rules = ["It is not among the values of the column."]
        if rules:
            rule = f"cannot take the value {value!r}. {' '.join(rules)}"
            problems.append(Problem(name, rule, "Choose one that the schema allows."))
    if problems:
        raise InvalidInput("the conditions", problems)
    return encoded


def _broken_rules(value: Any, name: str, schema: Schema) -> list[str]:
    """Rules of the column's declaration that a value breaks; a derived column has none."""
    if name not in schema.names:
        return []
    column = schema.column(name)
    if getattr(column, "clip", False):
        column = replace(column, clip=False)  # a condition is met as it stands or refused
    if column.nullable and pd.isna(value):
        return []
    checked = check_column(pd.Series([value], name=name), replace(column, dtype=None), schema, text=False)
    return [problem.rule for problem in checked.problems]
