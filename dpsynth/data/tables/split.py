"""Sets units aside before training, by a secret coin each."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema

_BYTES = 8  # of a coin: its side is a comparison of 64 random bits with the share


def split(
    frame: pd.DataFrame, schema: Schema, holdout_share: float, secret: bytes
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns (train, holdout) rows; all rows of a unit go to the same side.

    Formal guarantee: what is (epsilon, delta)-private for `train` is so for all of `frame`, and so are
    several such mechanisms on one split, as their composition. Take the unit that neighbours differ in and
    give all others equal coins, which are as likely in both: either the unit is held out and the training
    tables are equal, or they are neighbours. Averaging over coins keeps epsilon and delta. No amplification
    is counted. Nothing of this holds for coins that somebody knows: one unit fewer at the top of a file hands
    every later unit the coin of the one before.
    Edge cases: a share of 0 gives an empty holdout. Small tables may have an empty side.

    Args:
      frame: private.
      holdout_share: in [0, 1); public.
      secret: from the operating system's entropy, as `salt.local_salt` makes it; never a public seed where
        something leaves that was made from `train`.
    """
    from dpsynth.data.units.units import units_of

    units = units_of(schema).owners(frame)
    held = coins(int(units.max(initial=-1)) + 1, holdout_share, secret)[units]
    return frame[~held].reset_index(drop=True), frame[held].reset_index(drop=True)


def coins(num: int, share: float, secret: bytes) -> np.ndarray:
    """Flips a coin for each unit, bool [unit], true with probability `share`: a stream with a secret key."""
    stream = hashlib.shake_256(b"dpsynth holdout\0" + secret).digest(_BYTES * num)
    return np.frombuffer(stream, dtype="<u8") < np.uint64(share * 2.0**64)
