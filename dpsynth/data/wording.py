"""Numbers of a claim as text, rounded against whoever makes the claim."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context, Decimal


def up(value: float, digits: int = 6) -> str:
    """Returns the smallest number of so many significant digits that is not below `value`, as text.

    Edge cases: what was written with fewer digits comes back as it was written; infinity is "inf".
    """
    if not math.isfinite(value):
        return f"{value:g}"
    written = Decimal(repr(float(value)))  # 1e-5 means what it says, not the double beside it
    return f"{float(Context(prec=digits, rounding=ROUND_CEILING).plus(written)):.{digits}g}"
