"""Text that a spreadsheet would run: a cell that begins like a formula is written as text.

Source: OWASP, CSV Injection: a quote (') before = + - @, tab or carriage return.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_SIGNS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def as_text(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns rows for a text file, and the names of the columns (as they were) in which something changed.

    Edge cases: numbers stay numbers, also those in columns of text; names of columns are cells as well.
    To read such a file back, take one ' off cells that begin with ' and one of the signs.
    """
    made, changed = frame.copy(deep=False), []
    for name in frame:
        column = frame[name]
        if column.dtype == "category":
            values = column.cat.categories
            again = values.map(_plain)
            if any(_differs(one, other) for one, other in zip(values, again)):
                made[name] = column.astype(object).map(_plain, na_action="ignore")
                changed.append(name)
        elif column.dtype == object or str(column.dtype).startswith(("str", "large_string")):
            again = column.map(_plain, na_action="ignore")
            if any(_differs(one, other) for one, other in zip(column, again)):
                made[name] = again
                changed.append(name)
        if name != _plain(name) and name not in changed:
            changed.append(name)
    return made.rename(columns={name: _plain(name) for name in frame}), tuple(changed)


def _plain(cell: Any) -> Any:
    """The cell, with a quote before it if it begins like a formula."""
    if not isinstance(cell, str) or not cell.startswith(_SIGNS) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def _differs(one: Any, other: Any) -> bool:
    return isinstance(one, str) and one != other
