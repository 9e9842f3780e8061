"""Sets rows aside before training, unit by unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema


def split(
    frame: pd.DataFrame, schema: Schema, holdout_share: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns (train, holdout) rows; all rows of a unit go to the same side.

    The table whose privacy a release claims is `train`. The holdout serves internal figures alone: it pays
    nothing because nothing made from it leaves.

    Formal guarantee: each unit's side is a coin that depends on the seed and the unit's place in the order of
    first appearance, not on values, nor on how many units follow. Appending a unit changes no other side.
    Edge cases: a share of 0 gives an empty holdout. Small tables may have an empty side.

    Args:
      frame: private.
      holdout_share: in [0, 1); public.
      seed: public.
    """
    from dpsynth.data.table import unit_index

    units = unit_index(frame, schema)
    coins = np.random.default_rng([seed, 0x5B117]).random(int(units.max()) + 1 if len(units) else 0)
    held = coins[units] < holdout_share
    return frame[~held].reset_index(drop=True), frame[held].reset_index(drop=True)
