"""From rows to encoded units: in memory where they fit, else in a file that is read by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from dpsynth.privacy.training.sampling import MappedUnits, UnitStore

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dpsynth.data.units.encoder import Encoder

_BLOCK = 1 << 16  # units that are encoded at a time on their way into a file
_PROBE = 64  # units that show how much room one takes


def encoded_units(frame: pd.DataFrame, encoder: Encoder) -> Tensor:
    """Encodes whole units, [unit, …]."""
    return torch.from_numpy(np.ascontiguousarray(encoder.encode(frame)))


def unit_store(
    frame: pd.DataFrame, encoder: Encoder, *, resident_mb: float, device: str = "cpu"
) -> Tensor | UnitStore:
    """Encodes all units: as one tensor, or block by block into a file if they take more than `resident_mb`.

    Units have the same numbers and codes either way; see `MappedUnits` for what becomes of the file.

    Args:
      frame: private; the capped rows, read against a receipt.
      encoder: of the generator; encodes each unit by itself.
    """
    units = encoder.units
    probe = encoded_units(next(units.blocks(frame, _PROBE), frame), encoder)
    each = probe[:1].numel() * probe.element_size()
    if units.num(frame) * each <= resident_mb * 1e6:
        return encoded_units(frame, encoder)
    return MappedUnits((encoded_units(rows, encoder) for rows in units.blocks(frame, _BLOCK)), device=device)
