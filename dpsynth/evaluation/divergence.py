"""Kullback-Leibler and Jensen-Shannon divergence of marginals, and which categories survive."""

from __future__ import annotations

import numpy as np

from dpsynth.evaluation.binning import Binning
from dpsynth.evaluation.fidelity import combined_codes, pairs
from dpsynth.evaluation.types import EvaluationConfig, Metric

RARE_SHARE = 0.05


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> float:
    """Divergence of two count vectors, in bits: 0 for equal shares, 1 for disjoint ones.

    Source: Lin (1991), equation 4.1 with equal weights.
    """
    p, q = first / first.sum(), second / second.sum()
    middle = 0.5 * (p + q)
    return float(0.5 * (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / np.log(2))


def kullback_leibler(real: np.ndarray, synthetic: np.ndarray) -> float:
    """KL(real, synthetic) of two count vectors, in bits, with half a row added to every cell.

    Without the half row one category that is absent from the synthetic table would make it infinite.
    """
    p, q = real + 0.5, synthetic + 0.5
    return float(_relative_entropy(p / p.sum(), q / q.sum()) / np.log(2))


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    from scipy.special import rel_entr

    return rel_entr(p, q).sum()


def divergences(
    synthetic: np.ndarray, real: np.ndarray, binning: Binning, config: EvaluationConfig, seed: int
) -> list[Metric]:
    """Means over columns and pairs.

    Edge cases: no rows on either side -> nan; one column -> no 2-way metrics.

    Args:
      synthetic, real: int64 [column, row] codes.
    """
    metrics = []
    kinds = {
        "1way": ([(i,) for i in range(len(binning.names))], "columns"),
        "2way": (pairs(binning, config.max_pairs, seed), "pairs"),
    }
    for order, (marginals, what) in kinds.items():
        if not marginals:
            continue
        found = [_both_counts(synthetic, real, binning.sizes, m) for m in marginals]
        for name, divergence, note in (
            ("js", jensen_shannon, "Jensen-Shannon divergence, bits"),
            (
                "kl",
                lambda s, r: kullback_leibler(r, s),
                "KL(train, synthetic), bits, half a row more per cell",
            ),
        ):
            usable = synthetic.shape[1] and real.shape[1]
            value = float(np.mean([divergence(s, r) for s, r in found])) if usable else np.nan
            where = f"mean over {what}; {note}; synthetic against train rows"
            metrics.append(Metric(name=f"{name}_{order}", value=value, computed_on=where))
    return metrics


def _both_counts(
    synthetic: np.ndarray, real: np.ndarray, sizes: tuple[int, ...], marginal: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Counts over the cells that occur in either table."""
    first, second = (combined_codes(table, sizes, marginal) for table in (synthetic, real))
    size = int(np.prod([sizes[i] for i in marginal], dtype=object))
    if size > 4 * (len(first) + len(second)):
        cells, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
        first, second, size = codes[: len(first)], codes[len(first) :], len(cells)
    counts = np.stack([np.bincount(side, minlength=size) for side in (first, second)]).astype(float)
    return tuple(counts[:, counts.any(axis=0)])


def coverage(synthetic: np.ndarray, real: np.ndarray, binning: Binning) -> list[Metric]:
    """Which declared categories that the training rows hold, the synthetic rows hold too.

    `category_coverage` is the share of them that occur at all. `rare_category_recall` looks at those held by
    at most 5 % of the training rows: the mean over them of how much of their frequency is kept, at most 1.
    Edge cases: no categorical column, or none with a rare category -> the metric is left out.
    """
    occurs, kept = [], []
    for position, bins in enumerate(binning.columns):
        if bins.values is None:
            continue
        size = len(bins.values)
        p = np.bincount(real[position], minlength=bins.size)[:size] / max(1, real.shape[1])
        q = np.bincount(synthetic[position], minlength=bins.size)[:size] / max(1, synthetic.shape[1])
        occurs.extend(q[p > 0] > 0)
        rare = (p > 0) & (p <= RARE_SHARE)
        kept.extend(np.minimum(1.0, q[rare] / p[rare]))
    metrics = []
    if occurs:
        note = "share of categories in train rows that occur in synthetic rows"
        metrics.append(Metric(name="category_coverage", value=float(np.mean(occurs)), computed_on=note))
    if kept:
        note = f"categories of at most {RARE_SHARE:.0%} of train rows: mean share of their frequency kept"
        metrics.append(Metric(name="rare_category_recall", value=float(np.mean(kept)), computed_on=note))
    return metrics
