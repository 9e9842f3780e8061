"""What a declared dtype can hold, checked before anything is read: nothing wraps or overflows later."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dpsynth.errors import Problem

_KNOWN = re.compile(
    r"u?int(8|16|32|64)|U?Int(8|16|32|64)|float(16|32|64)|Float(32|64)|bool|boolean|str|string(\[\w+\])?|object"
    r"|category|datetime64\[(s|ms|us|ns)(, .+)?\]"
)
OF_DIGITS = ("%Y%m%d", "%Y")  # dates that are whole numbers too: no zero leads them
_FITTING = {
    "continuous": ("float", "object", "category"),
    "integer": ("int", "uint", "float", "object", "category"),
    "boolean": ("bool", "int", "uint", "float", "object", "category"),
    "datetime": ("datetime64", "str", "object", "int", "uint"),
}


def dtype_range(dtype: str) -> tuple[float, float]:
    """Returns the least and the largest number of a dtype; infinite for one that is not of numbers."""
    import numpy as np

    name = dtype.lower()
    if name.startswith(("int", "uint")):
        limits = np.iinfo(name)
        return int(limits.min), int(limits.max)
    if name.startswith("float"):
        return float(np.finfo(name).min), float(np.finfo(name).max)
    return float("-inf"), float("inf")


def dtype_problems(column: Any) -> Iterator[Problem]:
    """Yields why a column's declared dtype does not go with its kind, or cannot hold what is declared."""
    where, dtype = f"column {column.name!r}", column.dtype
    if not _KNOWN.fullmatch(dtype):
        yield Problem(where, f"dtype={dtype!r} is unknown.", "Write one such as int64, float32 or category.")
        return
    fitting = _FITTING.get(column.kind)
    digits = "int" not in dtype.lower() or getattr(column, "format", OF_DIGITS[0]) in OF_DIGITS
    if fitting and not (dtype.lower().startswith(fitting) and digits):
        rule = f"dtype={dtype} does not hold what is {column.kind}."
        yield Problem(where, rule, "Leave it out, or declare another kind.")
        return
    numbers = [getattr(column, key, None) for key in ("min", "max")]
    numbers += [*(getattr(column, "values", None) or ()), getattr(column, "other", None)]
    numbers = [number for number in numbers if isinstance(number, int | float)]
    if not all(_holds(dtype, number) for number in numbers):
        yield Problem(where, f"dtype={dtype} does not hold its bounds or values.", "Declare a wider one.")


def _holds(dtype: str, number: float) -> bool:
    import numpy as np

    low, high = dtype_range(dtype)
    if not low <= number <= high:
        return False
    if not dtype.lower().startswith("float"):
        return True
    return float(str(np.dtype(dtype.lower()).type(number))) == number  # as one writes it, 0.1 is 0.1
