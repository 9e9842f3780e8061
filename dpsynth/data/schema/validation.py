"""Checks a table against its schema, lists everything wrong with it at once, and makes its values canonical.

What is an error depends on the schema and on single values, never on how the values are spread: constant
columns, columns missing throughout (where nullable) and rare values are fine, because a release must behave
the same whether or not one unit makes a column constant. A refusal is shown to the holder of the table and
releases nothing; messages name the column and the rule, never a value, a row or a count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types

from dpsynth.data.schema.columns import (
    MAX_INTEGER,
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Identifier,
    Integer,
)
from dpsynth.data.schema.dtype_limits import OF_DIGITS
from dpsynth.data.schema.dtypes import dtype_name, restore, storage_dtype, typed, value_type
from dpsynth.data.schema.looks import MISSING_TEXTS
from dpsynth.data.schema.origins import Origin, pandas_origin, values_of
from dpsynth.data.schema.parsing import is_text, moments_of, numbers_of, text_of, truth_of
from dpsynth.data.schema.schema import Schema
from dpsynth.errors import Problem

_TEXT = Origin(type="text")
_SECONDS = "a number of seconds (kind: continuous or integer)"
_CLOCK = 'text such as 14:30:00 (kind: datetime, format: "%H:%M:%S")'
_REMEDIES = {"time32": _CLOCK, "time64": _CLOCK, "duration": _SECONDS, "timedelta64": _SECONDS}
_DECLARE = "Declare nullable: true, or complete the column."
_KEEP = "Where a text that was taken for missing is a value: list it in values, or declare missing: ['']."
_WIDEN = "Widen the bounds, correct the values, or declare clip: true."


@dataclass(frozen=True)
class Checked:
    """A column's values in their storage dtype, and what is wrong with them."""

    values: pd.Series
    problems: tuple[Problem, ...]


def check_columns(frame: pd.DataFrame, schema: Schema, *, text: bool) -> tuple[pd.DataFrame, list[Problem]]:
    """Checks every declared column of a frame; returns the frame in storage dtypes and all problems.

    Args:
      frame: private; columns the schema does not name are left out.
      schema: public.
      text: whether all values are text, as read from a CSV file.
    """
    done = [check_column(frame[n], schema.column(n), schema, text=text) for n in frame if n in schema.names]
    problems = [problem for checked in done for problem in checked.problems]
    values = {checked.values.name: checked.values.reset_index(drop=True) for checked in done}
    return pd.DataFrame(values), problems


def check_column(
    series: pd.Series, column: Column, schema: Schema, *, text: bool, origin: Origin | None = None
) -> Checked:
    """Checks one column and converts it to its storage dtype.

    Args:
      origin: what the file says of the column; None asks the dtype of `series`.
    """
    origin = origin or (_TEXT if text else pandas_origin(series.dtype))
    rules = list(_origin_rules(column, origin))
    if not rules:
        series, rules = _converted(series, typed(column, origin), schema, text)
    return Checked(series, tuple(Problem(f"column {column.name!r}", *rule) for rule in rules))


_Rule = tuple[str, ...]  # the rule, the fix, and what the terminal alone is shown
_Found = tuple[pd.Series, list[_Rule]]


def _origin_rules(column: Column, origin: Origin):
    """Yields what is refused by the column's type alone, so with and without any one row."""
    if not origin.known:
        fix = f"Convert it to {_REMEDIES.get(origin.type, 'numbers, text or dates')}, or declare kind: drop."
        yield f"Its type is {origin.type}.", fix
    free = isinstance(column, Categorical) and value_type(column) is None
    if free and column.dtype is None and origin.type == "moment":
        yield "Its dtype is datetime64.", "Declare it datetime."
    if column.dtype is None and origin.type == "object" and (free or isinstance(column, Identifier)):
        fix = "Declare dtype: str, int64 or float64, or convert it."
        yield "Its dtype is object, which does not say what its values are.", fix
    elif free and column.nullable and origin.type in ("integer", "number", "boolean"):
        fix = "Declare dtype: int64, float64 or bool."
        yield "Its values have no declared type; pandas' changes where one is missing.", fix


def _converted(series: pd.Series, column: Column, schema: Schema, text: bool) -> _Found:
    series, taken = _with_missing(values_of(series), column, schema, text=text)
    rules: list[_Rule] = []
    if not column.nullable and series.isna().any():
        names_unit = column.name == schema.unit.column
        fix = "Every row belongs to a unit: complete it." if names_unit else _DECLARE
        fix += f" {_KEEP}" if taken else ""
        rules.append(("Has missing values, but is not nullable.", fix, taken))
    for kind, check in _CHECKS.items():
        if isinstance(column, kind):
            series, found = check(series, column, text)
            rules += found
    if not rules:
        try:
            series = restore(series, column)
        except (TypeError, ValueError, OverflowError):
            rule = f"Its values do not fit in dtype {storage_dtype(column)}."
            rules.append((rule, "Correct dtype, or leave it out."))
    return series, rules


def missing_texts(column: Column, schema: Schema, *, text: bool) -> list[str]:
    """Lists the texts that stand for a missing value in a column: those declared, but for its own values."""
    listed = schema.missing if schema.missing is not None else MISSING_TEXTS if text else ()
    return [word for word in listed if word not in (getattr(column, "values", None) or ())]


def _with_missing(series: pd.Series, column: Column, schema: Schema, *, text: bool) -> tuple[pd.Series, str]:
    """Turns texts that stand for missing values into missing values, and says which of them there are."""
    texts = missing_texts(column, schema, text=text)
    if not texts or not (is_text(series) or series.dtype == object):
        return series, ""
    gone = series.isin(texts)
    seen = set(series[gone])
    taken = ", ".join(repr(word) for word in texts if word and word in seen)
    return (series.mask(gone) if seen else series), taken and f"{taken} taken for missing"


def _check_numbers(series: pd.Series, column: Continuous | Integer, text: bool) -> _Found:
    rules: list[_Rule] = []
    if types.is_bool_dtype(series.dtype):
        return series, [("Its dtype is bool.", "Declare it boolean.")]
    if types.is_datetime64_any_dtype(series.dtype):
        return series, [(f"Its dtype is {dtype_name(series.dtype)}.", "Declare it datetime.")]
    if not text and is_text(series) and series.notna().any():
        return series, [("Its dtype is text.", "Convert it to numbers, or declare it categorical.")]
    numbers, absent = numbers_of(series), series.isna().to_numpy()
    if (np.isnan(numbers) & ~absent).any():
        fix = "Write numbers with a decimal point, or declare missing."
        rules.append(("Holds values that are not numbers.", fix))
    if np.isinf(numbers).any():
        rules.append(("Holds infinite numbers.", "Replace them by finite or missing values."))
    known = numbers[np.isfinite(numbers)]
    if isinstance(column, Integer):
        if (known != np.round(known)).any():
            rules.append(("Holds numbers that are not whole.", "Declare it continuous."))
        elif (np.abs(known) > MAX_INTEGER).any():
            rules.append(("Holds numbers beyond ±2^53.", "Declare it identifier, or rescale."))
    low = -np.inf if column.min is None else column.min
    high = np.inf if column.max is None else column.max
    if ((known < low) | (known > high)).any() and not column.clip:
        rules.append((_bounds_rule(column), _WIDEN))
    numbers = pd.Series(np.clip(numbers, low, high), index=series.index, name=series.name)
    return (numbers if rules or isinstance(column, Continuous) else numbers.astype("Int64")), rules


def _check_dates(series: pd.Series, column: Datetime, text: bool) -> _Found:
    dated = types.is_datetime64_any_dtype(series.dtype)
    digits = types.is_integer_dtype(series.dtype) and column.format in OF_DIGITS
    if not (dated or digits or is_text(series) or series.dtype == object or series.isna().all()):
        fix = 'Convert it to dates or text, declare it integer, or, for 20240131, format: "%Y%m%d".'
        return series, [(f"Its dtype {dtype_name(series.dtype)} is neither dates nor text.", fix)]
    rules: list[_Rule] = []
    moments = moments_of(series, column.format)
    if (moments.isna() & series.notna()).any():
        fix = "Correct the values or the format, or declare it categorical."
        rules.append((f"Holds values that are not dates in format {column.format!r}.", fix))
    low, high = (
        None if bound is None else pd.Timestamp(column.parse(bound)) for bound in (column.min, column.max)
    )
    clipped = moments.clip(low, high)
    if not column.clip and not clipped.equals(moments):
        rules.append((_bounds_rule(column), _WIDEN))
    return clipped, rules


def _check_booleans(series: pd.Series, column: Boolean, text: bool) -> _Found:
    truth = truth_of(series) if text or not is_text(series) or series.isna().all() else None
    if truth is None:
        words = "true, false, 1, 0, yes, no and the like" if text else "true and false"
        rule = f"Holds values other than {words}."
        return series, [(rule, "Write true and false, or declare it categorical with its values.")]
    return truth, []


def _check_values(series: pd.Series, column: Categorical, text: bool) -> _Found:
    own = value_type(column) or _type_of(series)
    if not text and series.notna().any() and series.dtype != object and is_text(series) != (own is str):
        found, wanted = (
            dtype_name(series.dtype),
            "declared values are" if column.values else "declared dtype is",
        )
        return series, [(f"Its dtype is {found}, its {wanted} {own.__name__}.", "Make them the same.")]
    if column.other is not None and not isinstance(column.other, (own, int) if own is float else own):
        rule = f"other={column.other!r} is not of type {own.__name__}, as its values are."
        return series, [(rule, "Declare other of the same type, or dtype.")]
    values = _as_type(series, own, column.normalise)
    if values is None:
        fix = "Quote the declared values." if column.values else "Declare another dtype."
        return series, [(f"Holds values that are not of type {own.__name__}.", fix)]
    if column.values is None:
        return values, []
    unknown = values.notna() & ~values.isin(list(column.values))
    if not unknown.any():
        return values, []
    if column.other is not None:
        return values.mask(unknown, column.other), []
    fix = (
        "Declare every value or other: VALUE, correct the table, or leave values out and let them be bought."
    )
    return series, [("Holds values that the schema does not declare.", fix)]


def _type_of(series: pd.Series) -> type:
    """The type of values that nobody declared: that of the list in which the file keeps them."""
    if types.is_bool_dtype(series.dtype):
        return bool
    if types.is_integer_dtype(series.dtype):
        return int
    return float if types.is_float_dtype(series.dtype) else str


def _as_type(series: pd.Series, own: type, form: str | None) -> pd.Series | None:
    """Reads values as ones of a type; None where one is not."""
    if own is str:
        return text_of(series, form)
    if own is bool:
        return truth_of(series)
    if own is int and types.is_integer_dtype(series.dtype):
        return series
    numbers = numbers_of(series, truth=True)
    wrong = np.isnan(numbers) & series.notna().to_numpy()
    if wrong.any() or np.isinf(numbers).any():
        return None
    known = numbers[~np.isnan(numbers)]
    if own is int and ((known % 1).any() or (np.abs(known) >= 2.0**63).any()):
        return None
    numbers = pd.Series(numbers, index=series.index, name=series.name)
    return numbers.astype("Int64") if own is int else numbers


def _check_keys(series: pd.Series, column: Identifier, text: bool) -> _Found:
    if storage_dtype(column) == "str" and series.dtype == object:
        words = text_of(series, column.normalise)
        if words is None:
            return series, [("Holds values that are not text.", "Declare another dtype, or convert it.")]
        return words, []
    if not is_text(series):
        return series, []
    if types.is_numeric_dtype(storage_dtype(column)):  # exact, as float64 would not be
        series = series.str.strip().str.replace(r"\.0+$", "", regex=True)
    return text_of(series, column.normalise), []


def _bounds_rule(column: Continuous | Integer | Datetime) -> str:
    low = "-inf" if column.min is None else column.min
    high = "inf" if column.max is None else column.max
    return f"Holds values outside the declared [{low}, {high}]."


_CHECKS: dict[type | tuple[type, ...], Callable[..., _Found]] = {
    (Continuous, Integer): _check_numbers,
    Datetime: _check_dates,
    Boolean: _check_booleans,
    Categorical: _check_values,
    Identifier: _check_keys,
}
