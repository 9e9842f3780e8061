"""Takes noise out of bought joint histograms; post-processing, free.

Columns hang together mostly in simple ways. So what a histogram adds to independence within strata is
looked at as a matrix, and its singular values are shrunk as is best when noise of known size was added. What
remains of pure noise is nearly nothing: most pairs of columns are nearly independent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dpsynth.data.bought.statistics import GROUPS, STRATA, Marginal, Statistics

_LEAST = 0.04  # of the noise's variance: the least that remains


def observed(statistics: Statistics) -> list[tuple[Marginal, np.ndarray]]:
    """Every bought histogram over axes of coarse cells, with the noise variance of each count.

    Those that are known best, of columns alone or crossed with the target, come first.
    """
    seen = []
    targets = {crossed.columns[1] for crossed in statistics.crossed.values()}
    for name in statistics.domain.names:
        if name not in statistics.crossed and name not in targets:
            cells = statistics.domain[name]
            counts = statistics.probabilities(name) * statistics.num_rows
            spread = (
                np.bincount(cells.group_map, minlength=cells.size) * statistics.fine[name].noise_stddev ** 2
            )
            seen.append((Marginal(columns=(name,), counts=counts, noise_stddev=0.0), spread))
    for name, crossed in statistics.crossed.items():
        counts, cells = _coarse_crossed(statistics, name)
        seen.append((replace(crossed, counts=counts), cells * crossed.noise_stddev**2))
    for marginal in statistics.marginals:
        if marginal.partition is not None or len(marginal.columns) in (2, 3):
            seen.append((marginal, np.full(marginal.counts.shape, marginal.noise_stddev**2)))
    return seen


def denoised(statistics: Statistics) -> list[tuple[Marginal, np.ndarray]]:
    """Every bought joint histogram over axes of coarse cells, denoised, with the variance that remains.

    Formal guarantee: post-processing of bought counts.
    Edge cases: counts bought without noise come back as they are.
    """
    joints = [m for m in statistics.marginals if len(m.columns) in (2, 3)]
    total = max(statistics.num_rows, 1.0)
    margins = _Margins(statistics, joints, total)
    done: list[tuple[Marginal, np.ndarray]] = list(margins.by_target())
    pairs: dict[tuple[str, ...], Marginal] = {}
    for marginal in joints:
        if marginal.noise_stddev == 0.0:
            done.append((marginal, np.zeros(marginal.counts.shape)))
            continue
        counts = marginal.counts if marginal.counts.ndim == 3 else marginal.counts[..., None]
        stratum = marginal.columns[2] if marginal.counts.ndim == 3 else None
        rows, columns = (
            margins.of(name, stratum, counts.sum(1 - i)) for i, name in enumerate(marginal.columns[:2])
        )
        expected = _independent(rows, columns)
        coarse = pairs.get(_plain(marginal))
        known = coarse is not None and marginal.columns[2:] in ((), coarse.columns[2:])
        if known and not marginal.columns[0].startswith(GROUPS):
            expected = _spread(statistics, marginal, coarse, rows, columns)
        clean, variance = _shrink(counts - expected, expected.sum((0, 1)), marginal.noise_stddev)
        shape = marginal.counts.shape
        clean = replace(marginal, counts=(expected + clean).reshape(shape))
        pairs.setdefault(_plain(marginal), clean)
        done.append((clean, variance.reshape(shape)))
    return done


def _plain(marginal: Marginal) -> tuple[str, ...]:
    return tuple(name.removeprefix(GROUPS) for name in marginal.columns[:2])


class _Margins:
    """Histograms of single columns within strata, averaged by precision over all that was bought."""

    def __init__(self, statistics: Statistics, joints: list[Marginal], total: float):
        self._statistics, self._total = statistics, total
        self._sums: dict[tuple[str, str | None], list[tuple[np.ndarray, float]]] = {}
        for marginal in joints:
            counts = marginal.counts if marginal.counts.ndim == 3 else marginal.counts[..., None]
            stratum = marginal.columns[2] if marginal.counts.ndim == 3 else None
            for axis, name in enumerate(marginal.columns[:2]):
                variance = counts.shape[1 - axis] * max(marginal.noise_stddev, 1e-9) ** 2
                self._sums.setdefault((name, stratum), []).append((counts.sum(1 - axis), variance))
        for name, crossed in statistics.crossed.items():
            stratum = STRATA + crossed.columns[1]
            counts, cells = _coarse_crossed(statistics, name)
            variance = float(cells.mean()) * max(crossed.noise_stddev, 1e-9) ** 2
            for axis in (name, GROUPS + name):
                if (axis, stratum) in self._sums:
                    grouped = _sum_rows(counts, statistics.axis(axis)[1])
                    share = len(counts) / len(grouped)
                    self._sums[(axis, stratum)].append((grouped, share * variance))
        self._cache: dict[tuple[str, str | None], np.ndarray] = {}

    def of(self, name: str, stratum: str | None, own: np.ndarray) -> np.ndarray:
        """Counts of an axis within strata, [code, stratum]; not negative, sums to the number of rows."""
        key = (name, stratum)
        if key not in self._cache:
            seen = self._sums.get(key, [(own, 1.0)])
            weights = np.array([1.0 / variance for _, variance in seen])
            mean = np.tensordot(weights, np.stack([counts for counts, _ in seen]), axes=1) / weights.sum()
            mean = np.maximum(mean, 0.0)
            self._cache[key] = mean * (self._total / max(mean.sum(), 1e-9))
        return self._cache[key]

    def by_target(self) -> list[tuple[Marginal, np.ndarray]]:
        """Crossed histograms over coarse cells, with the variance of each count."""
        found = []
        for name, crossed in self._statistics.crossed.items():
            counts, cells = _coarse_crossed(self._statistics, name)
            variance = cells * crossed.noise_stddev**2
            seen = self._sums.get((name, STRATA + crossed.columns[1]), [])[:-1]
            precision = np.where(variance > 0, 1.0 / np.maximum(variance, 1e-18), 1e18)
            mean = counts * precision
            for other, spread in seen:
                mean, precision = mean + other / spread, precision + 1.0 / spread
            found.append((replace(crossed, counts=mean / precision), 1.0 / precision))
        return found


def _coarse_crossed(statistics: Statistics, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A crossed histogram over coarse cells, and the number of fine cells in each."""
    crossed = statistics.crossed[name]
    rows, columns = (statistics.domain[column].group_map.astype(np.int64) for column in crossed.columns)
    shape = tuple(statistics.domain[column].size for column in crossed.columns)
    flat = np.add.outer(rows * shape[1], columns).ravel()
    counts = np.bincount(flat, weights=crossed.counts.ravel(), minlength=shape[0] * shape[1])
    return counts.reshape(shape), np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)


def _sum_rows(counts: np.ndarray, codes: np.ndarray) -> np.ndarray:
    grouped = np.zeros((int(codes.max()) + 1, counts.shape[1]))
    np.add.at(grouped, codes, counts)
    return grouped


def _independent(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What independence within strata expects, [row, column, stratum]."""
    sizes = np.maximum((rows.sum(0) + columns.sum(0)) / 2, 1e-9)
    return rows[:, None, :] * columns[None, :, :] / sizes


def _spread(
    statistics: Statistics, marginal: Marginal, coarse: Marginal, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """A denoised histogram over groups of cells, spread over the cells by the columns' own histograms.

    Edge cases: strata that only the coarse histogram has are added up.
    """
    first, second = (statistics.axis(GROUPS + name)[1] for name in marginal.columns[:2])
    counts = np.maximum(coarse.counts if coarse.counts.ndim == 3 else coarse.counts[..., None], 0.0)
    counts = counts if marginal.counts.ndim == 3 else counts.sum(2, keepdims=True)
    shares = []
    for one, codes in ((rows, first), (columns, second)):
        shares.append(one / np.maximum(_sum_rows(one, codes)[codes], 1e-9))
    return counts[first][:, second] * shares[0][:, None, :] * shares[1][None, :, :]


def _shrink(residual: np.ndarray, sizes: np.ndarray, stddev: float) -> tuple[np.ndarray, np.ndarray]:
    """Shrinks singular values of [row, column, stratum]; returns it with the variance that remains.

    Strata are turned so that the first component is what they share, in proportion to their sizes.

    Source: Gavish & Donoho (2017), Optimal shrinkage of singular values, equation 7 (Frobenius loss).
    """
    direction = np.maximum(sizes, 1e-9)
    basis, _ = np.linalg.qr(np.column_stack([direction, np.eye(len(sizes))]))
    turned, kept = residual @ basis, 0.0
    small, large = sorted(residual.shape[:2])
    ratio = small / large
    for k in range(turned.shape[2]):
        u, values, v = np.linalg.svd(turned[..., k], full_matrices=False)
        scaled = values / (stddev * np.sqrt(large))
        inside = np.maximum((scaled**2 - ratio - 1) ** 2 - 4 * ratio, 0.0)
        factors = np.where(scaled > 1 + np.sqrt(ratio), np.sqrt(inside) / np.maximum(scaled, 1e-9) ** 2, 0.0)
        turned[..., k] = (u * (values * factors)) @ v
        rank = int((factors > 0).sum())
        kept += rank * (small + large - rank)
    share = min(max(kept / residual.size, _LEAST), 1.0)
    return turned @ basis.T, np.full(residual.shape, share * stddev**2)
