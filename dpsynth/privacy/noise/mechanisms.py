"""Exact mechanisms for one-off measurements: Gaussian noise on a lattice, and the exponential mechanism."""

from __future__ import annotations

import math

import numpy as np

from dpsynth.privacy.noise.entropy import LATTICE_BITS, Entropy


def exponential_choice(scores: np.ndarray, epsilon: float, sensitivity: float, *, entropy: Entropy) -> int:
    """Chooses an index by the exponential mechanism: P(i) ~ exp(epsilon * score / (2 * sensitivity)).

    Formal guarantee: where one unit moves no score by more than `sensitivity`, this is the exponential
    mechanism that `accounting.ExponentialMechanismDpEvent(epsilon)` stands for.
    Edge cases: an infinite epsilon (only without privacy) takes the first of the highest scores.
    """
    if math.isinf(epsilon):
        return int(np.argmax(scores))
    return entropy.noisy_max(scores, 2.0 * sensitivity / epsilon)


def exact_gaussian(counts: np.ndarray, noise_stddev: float, *, entropy: Entropy) -> np.ndarray:
    """Adds Gaussian noise to integer counts, drawn exactly from a fine lattice.

    Formal guarantee: the output's law is the discrete Gaussian on the multiples of 2**-k, where k is chosen
    so that `noise_stddev` spans at least 2**24 lattice steps. Up to the slack stated in privacy/README.md it
    is a rounding of the continuous Gaussian, hence covered by the Gaussian event that pays for it; no
    floating-point arithmetic touches a private value before the noise is added.
    Edge cases: noise_stddev = 0 returns the counts (only without privacy); an empty array stays empty.

    Args:
      counts: private integers.
      noise_stddev: in units of counts.
    """
    counts = np.asarray(counts)
    if not np.issubdtype(counts.dtype, np.integer):
        raise TypeError(f"Expected integer counts, got {counts.dtype}.")
    if not (math.isfinite(noise_stddev) and noise_stddev >= 0.0):
        raise ValueError(f"Expected noise_stddev={noise_stddev} to be finite and not negative.")
    if noise_stddev == 0.0 or counts.size == 0:
        return counts.astype(np.float64)
    bits = max(0, LATTICE_BITS - math.floor(math.log2(noise_stddev)))
    if bits > 40:
        raise ValueError(f"Expected noise_stddev={noise_stddev} of at least 2**-16.")
    bounded = np.clip(
        counts.astype(np.int64), -(2 ** (61 - bits)), 2 ** (61 - bits)
    )  # 1-Lipschitz, no overflow
    lattice = entropy.lattice_gaussian(bounded << bits, noise_stddev * 2.0**bits)
    return np.ldexp(lattice.astype(np.float64), -bits)
