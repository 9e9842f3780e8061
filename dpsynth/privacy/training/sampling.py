"""Poisson sampling of units by number, and the tables they are drawn from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.noise.entropy import Entropy


class PoissonSampler:
    """Draws batches of unit numbers in which every unit takes part independently with the same probability.

    Formal guarantee: the batch size is Binomial(num_units, sample_rate) and, given its size, the batch is a
    uniform subset; that is exactly one independent coin per unit. Cost O(sample_rate * num_units) per draw.
    Edge cases: no units, or sample_rate 0, gives empty batches; sample_rate 1 gives all units.

    Args:
      num_units: private; the size of the table.
      sample_rate: public probability per unit and step.
      entropy: secret coins, from the operating system.
    """

    def __init__(self, num_units: int, sample_rate: float, entropy: Entropy):
        if not 0.0 <= sample_rate <= 1.0:
            raise ValueError(f"Expected sample_rate={sample_rate} in [0, 1].")
        self._num_units = int(num_units)
        self._sample_rate = float(sample_rate)
        self._entropy = entropy

    def draw(self) -> Tensor:
        """Draws one batch: distinct unit numbers, ascending, int64. Its size is private."""
        size = self._entropy.binomial(self._num_units, self._sample_rate)
        if size == 0:
            return torch.empty(0, dtype=torch.int64)
        if size == self._num_units:
            return torch.arange(size)
        index = np.asarray(self._entropy.choice(self._num_units, size), dtype=np.int64)
        index.sort()
        return torch.from_numpy(index)


class UnitStore(Protocol):
    """Encoded units that can be read by number. Axis 0 is the unit."""

    def __len__(self) -> int:
        """Number of units; private."""
        ...

    def take(self, index: Tensor) -> Tensor:
        """Reads the units of the given numbers, `[unit ...]`, float32, on the training device."""
        ...


class ResidentUnits:
    """Units that live in memory, on the training device."""

    def __init__(self, units: Tensor, device: str | torch.device = "cpu"):
        self._units = units.detach().to(device)
        self._on_cpu = self._units.device.type == "cpu"

    def __len__(self) -> int:
        return len(self._units)

    def take(self, index: Tensor) -> Tensor:
        return self._units.index_select(0, index if self._on_cpu else index.to(self._units.device))


class MappedUnits:
    """Units larger than memory: packed once into an unlinked temporary file, then read by number.

    Formal guarantee: none needed; it is a table. The file has no name from the moment it is made, is
    readable by its owner only and vanishes with the process, so no private row outlives the run.

    Args:
      blocks: arrays `[unit ...]` of equal trailing shape, for instance encoded Parquet row groups; read once.
      folder: where the file lives; null means the system's temporary folder.
    """

    def __init__(
        self,
        blocks: Iterable[np.ndarray | Tensor],
        *,
        device: str | torch.device = "cpu",
        folder: str | None = None,
    ):
        self._device = torch.device(device)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  lives as long as the store
        shape, num = None, 0
        for block in blocks:
            block = np.ascontiguousarray(block, dtype=np.float32)
            if shape is None:
                shape = block.shape[1:]
            if block.shape[1:] != shape:
                raise GuaranteeVoid("Blocks of units differ in shape. Encode all of them with one encoder.")
            block.tofile(self._file)
            num += len(block)
        self._file.flush()
        self._shape = (num, *(shape or ()))
        self._units = (
            np.memmap(self._file, dtype=np.float32, mode="r", shape=self._shape)
            if num
            else np.zeros(self._shape, dtype=np.float32)
        )
        if num and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def __len__(self) -> int:
        return self._shape[0]

    def take(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self._units[index.numpy()]).to(self._device)


def parquet_blocks(path: str, encode, *, rows: int = 1 << 17) -> Iterable[np.ndarray]:
    """Reads a Parquet file in blocks of whole rows and encodes each: `encode(frame) -> [row, packed]`.

    For tables whose unit is the row; the caller has charged the ledger for this read.
    """
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(batch_size=rows):
        yield encode(batch.to_pandas())


def as_store(units: Tensor | UnitStore, device: str | torch.device = "cpu") -> UnitStore:
    """Wraps a tensor as a store; passes stores through."""
    return ResidentUnits(units, device) if isinstance(units, Tensor) else units
