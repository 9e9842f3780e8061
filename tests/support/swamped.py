"""Noise that swallows the data: what then still follows a unit was never paid for."""

from __future__ import annotations

import numpy as np
import torch

from dpsynth.privacy.noise.entropy import FixedEntropy

_HUGE = 2.0**40  # float32 numbers of this size lie 2**17 apart: a clipped sum of a few units vanishes in them


class SwampedEntropy(FixedEntropy):
    """Fixed draws in which the outputs of charged mechanisms say nothing about the data.

    Measurements answer with a constant vector of the right shape; noise on clipped sums is so large that
    float32 rounds the sum away.
    """

    def normal_(self, out: torch.Tensor, stddev: float) -> torch.Tensor:
        draws = torch.from_numpy(self._noise.standard_normal(out.numel())).reshape(out.shape)
        return out.copy_((draws + draws.sign()) * _HUGE)

    def lattice_gaussian(self, values: np.ndarray, scale: float) -> np.ndarray:
        answers = np.random.default_rng([7, values.size]).integers(1, 60, values.size)
        return (answers.astype(np.int64) << max(0, int(np.log2(scale)) - 4)).reshape(values.shape)

    def noisy_max(self, scores: np.ndarray, scale: float) -> int:
        return 3 % len(scores)


class CoarseEntropy(SwampedEntropy):
    """As above, but measurements say of each count whether it stands far out of the noise.

    So a table's frequent categories are bought and one unit's own are not, as the threshold wants it, and
    what one unit adds to a count is not to be seen.
    """

    def lattice_gaussian(self, values: np.ndarray, scale: float) -> np.ndarray:
        return np.where(values > 4 * scale, round(32 * scale), 0).astype(np.int64)
