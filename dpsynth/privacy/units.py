"""From rows to encoded units: in memory where they fit, else in a file that is read by number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dpsynth.data.encoding import pack_units
from dpsynth.data.table import unit_index
from dpsynth.privacy.sampling import MappedUnits, UnitStore

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dpsynth.data.schema import Schema

_BLOCK = 1 << 16  # units that are encoded at a time on their way into a file
_PROBE = 64  # units that show how much room one takes


def encoded_units(frame: pd.DataFrame, schema: Schema, encoder: Any) -> Tensor:
    """Encodes rows and gathers them by unit: [unit, packed]; [unit, row, packed] for entities of a table."""
    packed = encoder.encode(frame)
    if schema.unit.column is not None and schema.sequence is None:
        packed = pack_units(packed, frame[schema.unit.column], schema.unit.max_rows)
    return torch.from_numpy(np.ascontiguousarray(packed))


def unit_store(
    frame: pd.DataFrame, schema: Schema, encoder: Any, *, resident_mb: float, device: str = "cpu"
) -> Tensor | UnitStore:
    """Encodes all units: as one tensor, or block by block into a file if they take more than `resident_mb`.

    Units have the same numbers and codes either way; see `MappedUnits` for what becomes of the file.

    Args:
      frame: private; the capped rows, read against a receipt.
      encoder: of the generator; encodes each unit by itself.
    """
    blocks = _Blocks(frame, schema)
    probe = encoded_units(blocks.rows(0, _PROBE), schema, encoder)
    each = probe[:1].numel() * probe.element_size()
    if blocks.num_units * each <= resident_mb * 1e6:
        return encoded_units(frame, schema, encoder)
    return MappedUnits((encoded_units(rows, schema, encoder) for rows in blocks), device=device)


class _Blocks:
    """Cuts rows into blocks of whole units, in the order in which units appear first."""

    def __init__(self, frame: pd.DataFrame, schema: Schema):
        owners = unit_index(frame, schema)
        self._frame, self._by_row = frame, schema.unit.column is None
        self.num_units = int(owners.max(initial=-1)) + 1
        if not self._by_row:
            self._order = np.argsort(owners, kind="stable")
            self._starts = np.searchsorted(owners[self._order], np.arange(self.num_units + 1))

    def rows(self, first: int, last: int) -> pd.DataFrame:
        """All rows of the units from `first` to before `last`, each unit's in file order."""
        last = min(last, self.num_units)
        if self._by_row:
            return self._frame.iloc[first:last]
        return self._frame.iloc[self._order[self._starts[first] : self._starts[last]]]

    def __iter__(self) -> Iterator[pd.DataFrame]:
        for first in range(0, self.num_units, _BLOCK):
            yield self.rows(first, first + _BLOCK)
