"""Settings of what is fitted to bought histograms, for the methods that have such a part."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """How a network is fitted to bought histograms alone.

    Args:
      steps: of Adam, with a cosine schedule.
      batch_size: rows per step.
      learning_rate: at its peak.
      ema_decay: of the average of weights that the fit leaves behind.
    """

    steps: int
    batch_size: int
    learning_rate: float
    ema_decay: float = 0.99
