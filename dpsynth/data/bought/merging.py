"""Which fine cells go together: by mass alone, or by mass and how rows of each stratum spread over them.

All of it is post-processing of bought counts.
"""

from __future__ import annotations

import numpy as np

_FEWEST = 4  # groups below which neighbours are not merged for being alike


def merge_neighbours(mass: np.ndarray, max_cells: int, min_mass: float) -> np.ndarray:
    """Groups of an ordered column, alike in mass; the smallest pair of neighbours is merged first."""
    if len(mass) == 0:
        return np.empty(0, dtype=np.int32)
    masses, sizes = mass.copy(), np.ones(len(mass), dtype=np.int64)
    while len(masses) > 1 and (len(masses) > max_cells or masses.min() < min_mass):
        if len(masses) > max_cells:
            at = int(np.argmin(masses[:-1] + masses[1:]))
        else:  # the lightest group joins its lighter neighbour
            light = int(np.argmin(masses))
            left = masses[light - 1] if light > 0 else np.inf
            right = masses[light + 1] if light + 1 < len(masses) else np.inf
            at = light - 1 if left <= right else light
        masses[at] += masses[at + 1]
        sizes[at] += sizes[at + 1]
        masses, sizes = np.delete(masses, at + 1), np.delete(sizes, at + 1)
    return np.repeat(np.arange(len(sizes)), sizes)


def merge_rare(mass: np.ndarray, max_cells: int, min_mass: float) -> np.ndarray:
    """Groups of a column without order: its rarest values share one."""
    ranks = np.empty(len(mass), dtype=np.int64)
    ranks[np.argsort(-mass, kind="stable")] = np.arange(len(mass))
    rare = (mass < min_mass) | ((ranks >= max_cells - 1) if len(mass) > max_cells else False)
    if rare.sum() <= 1:
        return np.arange(len(mass))
    groups = np.cumsum(~rare) - 1
    return np.where(rare, (~rare).sum(), groups)


def merge_alike(
    counts: np.ndarray,
    widths: np.ndarray,
    noise_stddev: float,
    max_cells: int,
    sizes: np.ndarray | None = None,
) -> np.ndarray:
    """Groups of an ordered column whose neighbours differ in density or in the mix of strata.

    The two neighbours whose densities differ least beyond noise and sampling are merged first, as long as
    there are too many groups, or the difference could be chance among that many cells.

    Args:
      counts: bought, [cell, stratum].
      widths: of the cells, in any unit.
      noise_stddev: of the count of a fine cell.
      sizes: fine cells in each cell; None says one.
    Source: the merging rule of Kerber (1992), ChiMerge, with the noise's variance beside the sampling's.
    """
    counts, widths = counts.astype(np.float64), widths.astype(np.float64)
    sizes = np.ones(len(counts), dtype=np.int64) if sizes is None else sizes.copy()
    parts = np.ones(len(counts), dtype=np.int64)
    chance = 2.0 * np.log(max(len(counts), 1)) + counts.shape[1]
    costs = _differences(counts, widths, sizes, noise_stddev)
    while len(sizes) > 1:
        at = int(np.argmin(costs))
        if len(sizes) <= max_cells and (len(sizes) <= _FEWEST or costs[at] > chance):
            break
        for array in (counts, widths, sizes, parts):
            array[at] += array[at + 1]
        counts = np.delete(counts, at + 1, axis=0)
        widths, sizes, parts = (np.delete(array, at + 1) for array in (widths, sizes, parts))
        costs = np.delete(costs, at)
        near = slice(max(at - 1, 0), at + 2)
        if len(sizes) > 1:
            costs[max(at - 1, 0) : at + 1] = _differences(
                counts[near], widths[near], sizes[near], noise_stddev
            )
    return np.repeat(np.arange(len(parts)), parts)


def _differences(
    counts: np.ndarray, widths: np.ndarray, sizes: np.ndarray, noise_stddev: float
) -> np.ndarray:
    """Chi-square of equal density for each pair of neighbours, summed over strata."""
    a, b = counts[:-1], counts[1:]
    wa, wb, na, nb = widths[:-1, None], widths[1:, None], sizes[:-1, None], sizes[1:, None]
    noise = noise_stddev**2 * (na * wb**2 + nb * wa**2)
    sampling = np.maximum(a + b, 1.0) * wa * wb
    return ((a * wb - b * wa) ** 2 / (noise + sampling)).sum(axis=1)
