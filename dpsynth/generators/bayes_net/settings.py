"""Settings of the tree of columns; light, so that a mistake in them answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpsynth.data.units.encoder import Encoder, OfRows


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the tree.

    Args:
      sampling_batch_size: rows made at once.
      fit_pool: generated rows on which weights of released rows are fitted to all that was bought; 0 releases
        rows of the tree as they come.
      adaptive_rounds: that choose pairs by what is known worst, by the exponential mechanism (None: trees of
        boxes where pairs leave the target open, else pairs refined by what was bought anyway; 0: neither).
    """

    fits: ClassVar[type[Encoder]] = OfRows
    sampling_batch_size: int = 50_000
    fit_pool: int = 60_000
    adaptive_rounds: int | None = None

    def anchored(self, private: bool) -> bool:
        """Whether joint histograms are bought."""
        return True
