"""The dtypes with which values come back. They are public: declared, or facts of the file's types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
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
from dpsynth.data.schema.dtype_limits import dtype_range
from dpsynth.data.schema.origins import NOTHING, Origin, moment_dtype
from dpsynth.data.schema.parsing import moments_of
from dpsynth.data.schema.schema import Schema

_OWN = {bool: "bool", int: "int64", float: "float64", str: "str"}
_GAPPY = {"bool": "boolean"} | {
    f"{sign}int{bits}": f"{sign.upper()}Int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_BY_ORIGIN = {"integer": "int64", "number": "float64", "boolean": "bool", "text": "str", NOTHING: "str"}


def storage_dtype(column: Column) -> str:
    """Returns the pandas dtype of a column: the declared one, or its kind's own.

    It is a function of the schema alone. Inferred from values it would depend on single rows: one missing
    value turns whole numbers into float64. A column whose values may be missing has a dtype that holds that
    whether or not one is; numbers that name things have the widest, as there may be many to name.
    """
    dtype = column.dtype or _own_dtype(column)
    if isinstance(column, Identifier):
        dtype = _wide(dtype)
    return _GAPPY.get(dtype, dtype) if column.gaps else dtype


def _own_dtype(column: Column) -> str:
    if isinstance(column, Continuous):
        return "float64"
    if isinstance(column, Integer):
        return "int64"
    if isinstance(column, Boolean):
        return "bool"
    return _OWN[value_type(column) or str]


def _wide(dtype: str) -> str:
    number = pd.api.types.is_numeric_dtype(dtype) and not dtype.lower().startswith("uint64")
    if not number:
        return dtype
    return "Int64" if dtype[0].isupper() or dtype == "boolean" else "int64"


def value_type(column: Categorical) -> type | None:
    """Returns the type of a category's values: as declared, by `values` or by `dtype`; None where neither."""
    if getattr(column, "values", None):
        return type(column.values[0])
    dtype = (column.dtype or "").lower()
    for start, own in (("int", int), ("uint", int), ("float", float), ("bool", bool), ("str", str)):
        if dtype.startswith(start):
            return own
    return str if dtype == "object" else None


def typed(column: Column, origin: Origin) -> Column:
    """Returns the column with the dtype of its values, where neither its kind nor the schema says it.

    Numbers and booleans have their kind's own dtype, however wide the file's is. Dates are moments where the
    file has moments, else text; categories are `category` where the file has lists of them.
    """
    if column.dtype is not None or isinstance(column, Continuous | Integer | Boolean):
        return column
    dtype = _own_dtype(column)
    if isinstance(column, Datetime):
        dtype = {"moment": moment_dtype(origin.zone), "integer": "int64"}.get(origin.type, dtype)
    elif isinstance(column, Identifier):
        dtype = {"integer": "int64", "number": "int64"}.get(origin.type, "str")
        dtype = "uint64" if origin.dtype.lower() == "uint64" else dtype
    elif origin.category:
        dtype = "category"
    elif value_type(column) is None:
        dtype = _BY_ORIGIN.get(origin.type, "object")
    return column if dtype == _own_dtype(column) else replace(column, dtype=dtype)


def restore(series: pd.Series, column: Column) -> pd.Series:
    """Casts a column's values to its storage dtype; dates become text where that is text.

    Edge cases: `category` gets the declared values as its categories, never those of some table.

    Raises:
      ValueError: a value does not fit in the dtype, or a missing value in one that cannot hold it. Without
        the check, whole numbers would wrap and floats overflow without a word.
    """
    dtype = storage_dtype(column)
    if isinstance(column, Datetime):
        return _restore_dates(series, column, dtype)
    if dtype == "category":
        values = getattr(column, "values", None)
        if values is None:
            return series.astype("category")
        return series.astype(pd.CategoricalDtype(list(values), ordered=column.ordered))
    if str(series.dtype) == dtype:
        return series
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype if not series.isna().any() else object)
    if dtype == "object":
        return series.astype(object).where(series.notna(), None)
    return _held(series, dtype)


def _held(series: pd.Series, dtype: str) -> pd.Series:
    """Casts to a dtype and makes sure that it held the values."""
    if dtype.lower().startswith(("int", "uint")) and pd.api.types.is_numeric_dtype(series.dtype):
        low, high = dtype_range(dtype)
        if ((series < low) | (series > high)).any():
            raise ValueError("a number is out of the dtype's range")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = series.astype(dtype)
    if series.dtype.kind == "f" and cast.dtype.kind in "iu" and (cast != series).any():
        raise ValueError("a number is not whole, or beyond the dtype's range")
    if dtype.lower().startswith("float") and np.isinf(cast.to_numpy(dtype=np.float64, na_value=np.nan)).any():
        raise ValueError("a number is out of the dtype's range")
    return cast


def restore_frame(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Casts every declared column of a frame to its storage dtype; other columns stay as they are."""
    return frame.assign(**{c.name: restore(frame[c.name], c) for c in schema.columns if c.name in frame})


def with_format(schema: Schema, frame: pd.DataFrame) -> Schema:
    """Returns the schema with the frame's order of columns, and its dtypes where they are not the kinds' own.

    Names, order and the types of a file are facts of its format and treated as public; no value is read.

    Args:
      frame: as `io.read_table` returns it, so that its dtypes follow from the schema and the file's types.
    """
    place = {name: number for number, name in enumerate(frame.columns)}
    columns = []
    for column in schema.columns:
        if not isinstance(column, Drop) and column.name in place:
            found = dtype_name(frame[column.name].dtype)
            column = column if found == storage_dtype(column) else replace(column, dtype=found)
            column = replace(column, nullable=column.gaps)  # of what comes back
        columns.append(column)
    columns.sort(key=lambda column: place.get(column.name, len(place)))
    return replace(schema, columns=tuple(columns))


def dtype_name(dtype: object) -> str:
    """Returns the name by which pandas finds a dtype again, without lists of categories."""
    if isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if isinstance(dtype, pd.StringDtype):
        return "str" if dtype.na_value is np.nan else "string"
    return str(dtype)


def surrogate_keys(column: Column, num: int) -> pd.Series:
    """Returns `num` fresh keys for an identifier: 0, 1, ... in its storage dtype; no real key is used."""
    keys = pd.Series(np.arange(num), name=column.name)
    dtype = storage_dtype(column)
    if dtype in ("str", "string", "object", "category") or dtype.startswith("string"):
        keys = keys.astype("str")
    elif dtype.startswith("datetime"):
        return keys
    return keys.astype(dtype)


def dates_as_text(series: pd.Series, column: Datetime) -> pd.Series:
    """Writes moments in a column's format; those of a zone, and offsets, in UTC."""
    plain = series if series.dt.tz is None else series.dt.tz_convert(None)
    return (plain.dt.tz_localize("UTC") if "%z" in column.format else plain).dt.strftime(column.format)


def _restore_dates(series: pd.Series, column: Datetime, dtype: str) -> pd.Series:
    """Writes dates as text, or casts them; dates without a zone are UTC where the dtype has one."""
    if not pd.api.types.is_datetime64_any_dtype(series):
        if not dtype.startswith("datetime64"):
            return series if dtype_name(series.dtype) == dtype else series.astype(dtype)
        parsed = moments_of(series, column.format)
        if (parsed.isna() & series.notna()).any():
            raise ValueError("a value is no date in the declared format")
        series = parsed
    if not dtype.startswith("datetime64"):
        texts = dates_as_text(series, column)
        return texts.astype("Int64").astype(dtype) if "int" in dtype.lower() else texts.astype(dtype)
    if "," not in dtype:
        return series.astype(dtype)
    if series.dt.tz is None:
        series = series.dt.tz_localize("UTC")
    return series.astype(dtype)
