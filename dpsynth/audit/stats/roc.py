"""ROC statistics with honest intervals: AUC by DeLong, true positives at a false-positive rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri
from scipy.stats import rankdata


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with a two-sided interval; `level` is its confidence."""

    value: float
    lower: float
    upper: float
    level: float = 0.95

    @property
    def resolved(self) -> bool:
        return bool(np.isfinite(self.value))


UNRESOLVABLE = Interval(value=float("nan"), lower=float("nan"), upper=float("nan"))


@dataclass(frozen=True, kw_only=True)
class Auc:
    """Area under the ROC curve and its standard error."""

    value: float
    stderr: float

    def interval(self, level: float = 0.95) -> Interval:
        half = -ndtri((1 - level) / 2) * self.stderr
        return Interval(
            value=self.value,
            lower=max(0.0, self.value - half),
            upper=min(1.0, self.value + half),
            level=level,
        )


def auc(scores_in: np.ndarray, scores_out: np.ndarray) -> Auc:
    """Returns the AUC of `scores_in` over `scores_out` (ties count one half) with DeLong's error.

    Edge cases: an AUC of 0 or 1 has a DeLong error of 0; the error is kept at or above that of one
    misplaced pair of half a rank, so intervals never collapse.

    Source: DeLong, DeLong and Clarke-Pearson (1988); midranks after Sun and Xu (2014).
    """
    scores_in, scores_out = np.asarray(scores_in, float), np.asarray(scores_out, float)
    n, m = len(scores_in), len(scores_out)
    if min(n, m) < 2:
        return Auc(value=float("nan"), stderr=float("nan"))
    ranks = rankdata(np.concatenate([scores_in, scores_out]))
    # Share of `out` below each `in`, and share of `in` above each `out`.
    below = (ranks[:n] - rankdata(scores_in)) / m
    above = 1.0 - (ranks[n:] - rankdata(scores_out)) / n
    variance = below.var(ddof=1) / n + above.var(ddof=1) / m
    return Auc(value=float(below.mean()), stderr=float(max(np.sqrt(variance), 0.5 / min(n, m))))


def clopper_pearson(hits: int, trials: int, alpha: float) -> tuple[float, float]:
    """Returns one-sided lower and upper limits, each wrong with probability at most `alpha`."""
    lower = betaincinv(hits, trials - hits + 1, alpha) if hits > 0 else 0.0
    upper = betaincinv(hits + 1, trials - hits, 1 - alpha) if hits < trials else 1.0
    return float(lower), float(upper)


def counts_at(scores_in: np.ndarray, scores_out: np.ndarray, threshold: float) -> tuple[int, int]:
    """Returns true and false positives when scores strictly above `threshold` are called members."""
    return int(np.sum(scores_in > threshold)), int(np.sum(scores_out > threshold))


def tpr_at_fpr(scores_in: np.ndarray, scores_out: np.ndarray, fpr: float, level: float = 0.95) -> Interval:
    """Returns the true-positive rate where at most a share `fpr` of `scores_out` is called member.

    A step function: no interpolation between thresholds, and ties go to the non-members. The interval is
    that of the rate at the observed threshold; the threshold's own error is not in it.
    Edge cases: fewer than 10 / fpr non-members cannot resolve the rate -> `UNRESOLVABLE` (all NaN).
    """
    scores_in, scores_out = np.asarray(scores_in, float), np.asarray(scores_out, float)
    allowed = int(np.floor(fpr * len(scores_out) + 1e-9))
    if len(scores_out) < 10 / fpr - 1e-9 or len(scores_in) == 0:
        return UNRESOLVABLE
    threshold = np.sort(scores_out)[len(scores_out) - allowed - 1]
    hits, trials = int(np.sum(scores_in > threshold)), len(scores_in)
    lower, upper = clopper_pearson(hits, trials, (1 - level) / 2)
    return Interval(value=hits / trials, lower=lower, upper=upper, level=level)


def roc_curve(scores_in: np.ndarray, scores_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (fpr, tpr) at every distinct threshold, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([scores_in, scores_out]))[::-1]
    tpr = 1 - np.searchsorted(np.sort(scores_in), thresholds, side="left") / len(scores_in)
    fpr = 1 - np.searchsorted(np.sort(scores_out), thresholds, side="left") / len(scores_out)
    return np.concatenate([[0.0], fpr]), np.concatenate([[0.0], tpr])
