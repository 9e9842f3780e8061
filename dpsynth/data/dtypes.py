"""The dtypes with which values come back. They are public: declared, or facts of the file's format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from dpsynth.data.schema import Boolean, Categorical, Column, Continuous, Datetime, Drop, Integer, Schema

_BY_TYPE = {
    bool: ("bool", "boolean"),
    int: ("int64", "Int64"),
    float: ("float64", "float64"),
    str: ("str", "str"),
}


def storage_dtype(column: Column) -> str:
    """Returns the pandas dtype of a column: the declared one, or its kind's own.

    It is a function of the schema alone. Inferred from values it would depend on single rows: one missing
    value turns whole numbers into float64.
    """
    if column.dtype is not None:
        return column.dtype
    if isinstance(column, Continuous):
        return "float64"
    own: type = str
    if isinstance(column, Integer):
        own = int
    elif isinstance(column, Boolean):
        own = bool
    elif isinstance(column, Categorical) and column.values:
        own = type(column.values[0])
    return _BY_TYPE[own][column.nullable]


def restore(series: pd.Series, column: Column) -> pd.Series:
    """Casts a column's values to its storage dtype; dates become text where that is text.

    Edge cases: `category` gets the declared values as its categories, never those of some table; missing
    values in a dtype that cannot hold them (an integer dtype of numpy) raise pandas' `ValueError`.
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
    return series.astype(dtype)


def restore_frame(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Casts every declared column of a frame to its storage dtype; other columns stay as they are."""
    return frame.assign(**{c.name: restore(frame[c.name], c) for c in schema.columns if c.name in frame})


def with_format(schema: Schema, frame: pd.DataFrame) -> Schema:
    """Returns the schema with the frame's order of columns, and its dtypes where they are not the kinds' own.

    Names, order and dtypes of a table are facts of its format and treated as public; no value is read.
    """
    place = {name: number for number, name in enumerate(frame.columns)}
    columns = []
    for column in schema.columns:
        if not isinstance(column, Drop) and column.name in place:
            found = dtype_name(frame[column.name].dtype)
            column = column if found == storage_dtype(column) else replace(column, dtype=found)
        columns.append(column)
    columns.sort(key=lambda column: place.get(column.name, len(place)))
    return replace(schema, columns=tuple(columns))


def dtype_name(dtype: object) -> str:
    """Returns the name under which pandas finds a dtype again; categories are left out of it."""
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
    elif dtype.startswith("datetime") or dtype in ("bool", "boolean"):
        return keys
    return keys.astype(dtype)


def _restore_dates(series: pd.Series, column: Datetime, dtype: str) -> pd.Series:
    """Writes dates as text, or casts them; dates without a zone are UTC where the dtype has one."""
    if not pd.api.types.is_datetime64_any_dtype(series):
        if not dtype.startswith("datetime64"):
            return series if dtype_name(series.dtype) == dtype else series.astype(dtype)
        series = pd.to_datetime(series.astype(object), format=column.format)
    if not dtype.startswith("datetime64"):
        return series.dt.strftime(column.format).astype(dtype)
    if "," not in dtype:
        return series.astype(dtype)
    if series.dt.tz is None:
        series = series.dt.tz_localize("UTC")
    return series.astype(dtype)
