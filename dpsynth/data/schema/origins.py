"""What a file or a frame says of a column whatever its rows are, and its values in one form.

Files say it by the types of Arrow, frames by the dtypes of pandas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

NOTHING = "nothing"  # no value at all, so no type


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is known of a column's values before any is looked at. Public.

    Args:
      type: `text`, `integer`, `number`, `boolean`, `moment`, `object`, `nothing`; or the name of a type that
        no kind of column takes.
      category: the values are stored as codes of a list, which itself is private.
      zone: of moments; None where they have none.
      scale: of decimals, how many digits follow the point.
      dtype: the dtype of pandas that a draft declares.
    """

    type: str
    category: bool = False
    zone: str | None = None
    scale: int | None = None
    dtype: str = "str"

    @property
    def known(self) -> bool:
        """Whether some kind of column takes it."""
        return self.type in ("text", "integer", "number", "boolean", "moment", "object", NOTHING)


def arrow_origin(kind) -> Origin:
    """Returns what a type of Arrow says."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        inner = arrow_origin(kind.value_type)
        return Origin(type=inner.type, category=True, zone=inner.zone, dtype="category")
    if types.is_null(kind):
        return Origin(type=NOTHING)
    if types.is_boolean(kind):
        return Origin(type="boolean", dtype="bool")
    if types.is_integer(kind):
        return Origin(type="integer", dtype=str(kind))
    if types.is_floating(kind):
        return Origin(
            type="number", dtype={"halffloat": "float16", "float": "float32"}.get(str(kind), "float64")
        )
    if types.is_decimal(kind):
        if kind.scale <= 0 and kind.precision <= 15:
            return Origin(type="integer", dtype="int64")
        return Origin(type="number", scale=min(max(kind.scale, 0), 15), dtype="float64")
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return Origin(type="text")
    if types.is_timestamp(kind) or types.is_date(kind):
        zone = getattr(kind, "tz", None)
        return Origin(type="moment", zone=zone, dtype=moment_dtype(zone))
    return Origin(type=str(kind).partition("<")[0].partition("[")[0])


def pandas_origin(dtype) -> Origin:
    """Returns what a dtype of pandas says."""
    types = pd.api.types
    if isinstance(dtype, pd.CategoricalDtype):
        if dtype.categories is None:
            return Origin(type=NOTHING, category=True, dtype="category")
        inner = pandas_origin(dtype.categories.dtype)
        empty = inner.type == "object" and not len(dtype.categories)
        return Origin(type=NOTHING if empty else inner.type, category=True, zone=inner.zone, dtype="category")
    if isinstance(dtype, pd.ArrowDtype):
        return arrow_origin(dtype.pyarrow_dtype)
    if isinstance(dtype, pd.SparseDtype):
        return pandas_origin(dtype.subtype)
    if pd.api.types.is_object_dtype(dtype):
        return Origin(type="object", dtype="object")
    if types.is_bool_dtype(dtype):
        return Origin(type="boolean", dtype=str(dtype))
    if types.is_integer_dtype(dtype):
        return Origin(type="integer", dtype=str(dtype))
    if types.is_float_dtype(dtype):
        return Origin(type="number", dtype=str(dtype))
    if types.is_string_dtype(dtype):
        return Origin(type="text")
    if types.is_datetime64_any_dtype(dtype):
        zone = None if getattr(dtype, "tz", None) is None else str(dtype.tz)
        return Origin(type="moment", zone=zone, dtype=moment_dtype(zone))
    return Origin(type=str(dtype).partition("[")[0])


def moment_dtype(zone: str | None) -> str:
    """Returns the one dtype of moments in a zone: microseconds, whatever unit a file counts in."""
    return "datetime64[us]" if zone is None else f"datetime64[us, {zone}]"


def values_of(series: pd.Series) -> pd.Series:
    """Returns a column's values in the one dtype of their type; equal values look equal afterwards.

    Whole numbers are `Int64` (`UInt64` where that is their dtype), numbers `float64` without a negative zero,
    booleans `boolean`, text `str`, moments `datetime64[us]` with their zone; objects stay as they are.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        listed = values_of(pd.Series(dtype.categories.to_series().reset_index(drop=True)))
        taken = listed.array.take(series.cat.codes.to_numpy(), allow_fill=True)
        return pd.Series(taken, index=series.index, name=series.name)
    if isinstance(dtype, pd.ArrowDtype):
        import pyarrow as pa

        found = arrow_values(pa.chunked_array(pa.array(series.array)))
        return found.set_axis(series.index).rename(series.name)
    if isinstance(dtype, pd.SparseDtype):
        return values_of(series.sparse.to_dense())
    origin = pandas_origin(dtype)
    if origin.type == "integer":
        return series.astype("UInt64" if str(dtype).lower() == "uint64" else "Int64")
    if origin.type == "number":
        narrow = origin.dtype.lower() in ("float16", "float32", "halffloat")
        numbers = series.to_numpy(dtype=origin.dtype.lower() if narrow else np.float64, na_value=np.nan)
        return pd.Series(_widened(numbers) + 0.0, index=series.index, name=series.name)  # -0.0 + 0.0 is 0.0
    if origin.type == "boolean":
        return series.astype("boolean")
    if origin.type == "text":
        return series.astype("str")
    if origin.type == "moment":
        return series.astype(moment_dtype(origin.zone))
    return series


def _widened(numbers: np.ndarray) -> np.ndarray:
    """Returns narrow floats as the float64 that one writes them as: 0.1 stays 0.1, not 0.10000000149."""
    return numbers if numbers.dtype == np.float64 else numbers.astype("U").astype(np.float64)


def arrow_values(column) -> pd.Series:
    """Returns a column of Arrow as `values_of` does one of pandas; whether one is missing changes no dtype.

    Edge cases: dictionaries come back as their values; numbers too large for their type raise Arrow's errors.
    """
    import pyarrow as pa

    origin, kind = arrow_origin(column.type), column.type
    if origin.category:
        return arrow_values(column.cast(kind.value_type))
    if origin.type == NOTHING:
        return pd.Series([None] * len(column), dtype="str")
    if origin.type == "integer":
        unsigned = pa.types.is_uint64(kind)
        wide, dtype = (pa.uint64(), pd.UInt64Dtype()) if unsigned else (pa.int64(), pd.Int64Dtype())
        return column.cast(wide).to_pandas(types_mapper={wide: dtype}.get)
    if origin.type == "number":
        return values_of((column.cast(pa.float64()) if pa.types.is_decimal(kind) else column).to_pandas())
    if origin.type == "boolean":
        return column.to_pandas(types_mapper={kind: pd.BooleanDtype()}.get)
    if origin.type == "text":
        return column.cast(pa.large_string()).to_pandas().astype("str")
    if origin.type == "moment":
        return column.cast(pa.timestamp("us", tz=origin.zone), safe=False).to_pandas().astype(origin.dtype)
    return column.to_pandas()
