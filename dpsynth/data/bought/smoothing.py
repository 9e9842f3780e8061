"""Takes noise out of a number's histogram: coarse shapes are kept, fine ones as far as they stand out."""

from __future__ import annotations

import numpy as np

_STIFFNESS = 3.0  # variances of the noise that a difference of two halves must exceed to be believed at all
_SPIKE = 3.5  # noise standard deviations above the density around, from which on a cell is a spike
_NEAR = 8  # cells to each side, of which the median is the density around
_SHIFTS = 16  # divisions that are averaged


def smoothed(counts: np.ndarray, widths: np.ndarray, noise_stddev: float, total: float) -> np.ndarray:
    """Expected rows in each cell: not negative, of the given sum; spikes beside a smooth rest.

    Formal guarantee: post-processing of bought counts.
    Edge cases: no noise -> the counts, scaled to the sum.

    Args:
      counts: noisy, [cell].
      widths: of the cells, in any unit; a spike's may be next to nothing.
      noise_stddev: of each count.
      total: rows in all cells.
    """
    padded = np.pad(
        counts / np.maximum(widths, 1e-300), _NEAR, mode="reflect" if len(counts) > _NEAR else "edge"
    )
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEAR + 1), axis=1)
    excess = counts - np.maximum(around, 0.0) * widths
    spikes = np.where(excess > _SPIKE * noise_stddev, excess, 0.0)
    spikes *= min(1.0, max(total, 0.0) / max(spikes.sum(), 1e-300))
    return spikes + _smooth(counts - spikes, widths, noise_stddev, total - spikes.sum())


def _smooth(counts: np.ndarray, widths: np.ndarray, noise_stddev: float, total: float) -> np.ndarray:
    """The line of cells is halved again and again. Rows of a part go to its halves in proportion to their
    widths, but for as much of what was counted as noise does not explain. The mean over shifted divisions
    has no edges of its own.

    Source: Haar wavelets with the non-negative garrote (Gao, 1998, Wavelet shrinkage denoising using the
      non-negative garrote) and shifts (Coifman & Donoho, 1995, Translation-invariant de-noising).
    """
    num, total = len(counts), max(total, 0.0)
    depth = max(int(np.ceil(np.log2(max(num, 1)))), 0) + 1  # room for shifts by half of the length
    shifts = np.linspace(0, 2**depth - num, _SHIFTS).astype(int)
    places = shifts[:, None] + np.arange(num)
    rows = np.arange(_SHIFTS)[:, None]
    padded = np.zeros((3, _SHIFTS, 2**depth))
    for part, values in zip(padded, (counts, widths, np.full(num, noise_stddev**2))):
        part[rows, places] = values
    levels = [padded]
    while levels[-1].shape[-1] > 1:
        levels.append(levels[-1][..., ::2] + levels[-1][..., 1::2])
    found = np.full((_SHIFTS, 1), total)
    for finer in levels[-2::-1]:
        (left, right), (width, other), (noise, beside) = ((part[:, ::2], part[:, 1::2]) for part in finer)
        share = np.divide(width, width + other, out=np.full(width.shape, 0.5), where=width + other > 0)
        detail = (1 - share) * left - share * right
        variance = (1 - share) ** 2 * noise + share**2 * beside
        trust = np.maximum(1.0 - _STIFFNESS * variance / np.maximum(detail**2, 1e-300), 0.0)
        half = np.clip(share * found + trust * detail, 0.0, found)
        found = np.stack([half, found - half], axis=-1).reshape(_SHIFTS, -1)
    return found[rows, places].mean(axis=0)
