"""Made-up tables whose target hangs on several columns together, and on no fewer: what pairs cannot see."""

from __future__ import annotations

import numpy as np
import pandas as pd

_ROWS, _BITS, _FLIPPED = 40_000, 10, 0.02


def parity(together: int) -> pd.DataFrame:
    """Ten fair bits, and the parity of the first few with 2 % flipped; every call makes the same rows.

    Any columns but all of those that decide, taken together, say nothing about the target. Who knows the rule
    is right in 98 % of the rows.

    Args:
      together: bits that decide.
    """
    random = np.random.default_rng([together, _ROWS])
    bits = random.integers(0, 2, (_ROWS, _BITS))
    target = (bits[:, :together].sum(1) + (random.random(_ROWS) < _FLIPPED)) % 2
    return pd.DataFrame({f"b{number}": bits[:, number] for number in range(_BITS)} | {"y": target})
