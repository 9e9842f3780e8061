"""Settings of the marginal network; light, so that a mistake in them answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpsynth.data.units.encoder import Encoder, OfRows
from dpsynth.generators.base import check_settings


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the marginal network.

    Args:
      width, num_blocks: of the residual network.
      embedding_dim: of the latent noise.
      anchor_steps, anchor_batch_size, anchor_learning_rate: of the fit; free of privacy cost.
      anchor_ema_decay: of the average of weights.
      sampling_batch_size: rows made at once.
      fit_pool: generated rows on which the weights of released rows are fitted; 0 releases them as they come.
      adaptive_rounds: that choose pairs by what is known worst, by the exponential mechanism (None: trees of
        boxes where pairs leave the target open, else pairs refined by what was bought anyway; 0: neither).
    """

    fits: ClassVar[type[Encoder]] = OfRows
    width: int = 256
    num_blocks: int = 2
    embedding_dim: int = 64
    anchor_steps: int = 500
    anchor_batch_size: int = 1_000
    anchor_learning_rate: float = 3e-3
    anchor_ema_decay: float = 0.99
    sampling_batch_size: int = 5_000
    fit_pool: int = 60_000
    adaptive_rounds: int | None = None

    def __post_init__(self) -> None:
        counts = ("width", "num_blocks", "embedding_dim", "sampling_batch_size")
        rate, decay = self.anchor_learning_rate, self.anchor_ema_decay
        check_settings(
            *((getattr(self, k) > 0, f"Expected {k}={getattr(self, k)} above 0.") for k in counts),
            (self.anchor_steps >= 0, f"Expected anchor_steps={self.anchor_steps} of at least 0."),
            (self.anchor_batch_size > 1, "Expected anchor_batch_size above 1."),
            (rate > 0, f"Expected anchor_learning_rate={rate} above 0."),
            (0 <= decay < 1, f"Expected anchor_ema_decay={decay} in [0, 1)."),
        )

    def anchored(self, private: bool) -> bool:
        """Whether joint histograms are bought."""
        return True
