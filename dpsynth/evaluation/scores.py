"""Classification and regression scores for many row weightings at once, hence bootstrap intervals."""

from __future__ import annotations

import numpy as np

_BLOCK = 4_000_000  # weights held at a time


def bootstrap_weights(num_rows: int, num_bootstraps: int, seed: int) -> np.ndarray:
    """Returns uint8 [1 + bootstrap, row]: ones first, then how often each resample took each row."""
    rng = np.random.default_rng(seed)
    weights = np.ones((1 + num_bootstraps, num_rows), dtype=np.uint8)
    for i in range(1, 1 + num_bootstraps):
        weights[i] = np.bincount(rng.integers(0, num_rows, num_rows), minlength=num_rows)
    return weights


def weighted_auc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve for each row of `weights`, ties counted half; nan where a class is absent.

    Args:
      positive: bool [row]. score: float [row]. weights: float [weighting, row].
    """
    starts, order = _tie_groups(score)
    w = weights[:, order]
    above = positive[order]
    groups_positive = np.add.reduceat(w * above, starts, axis=1)
    groups_negative = np.add.reduceat(w * ~above, starts, axis=1)
    below = np.cumsum(groups_negative, axis=1) - groups_negative
    wins = (groups_positive * (below + 0.5 * groups_negative)).sum(axis=1)
    pairs = groups_positive.sum(axis=1) * groups_negative.sum(axis=1)
    return _divided(wins, pairs)


def weighted_average_precision(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of precision times the step in recall over falling thresholds; nan without positives."""
    starts, order = _tie_groups(-score)
    w = weights[:, order]
    hits = np.add.reduceat(w * positive[order], starts, axis=1)
    taken = np.cumsum(np.add.reduceat(w, starts, axis=1), axis=1)
    precision = np.divide(np.cumsum(hits, axis=1), taken, out=np.zeros_like(taken), where=taken > 0)
    return _divided((precision * hits).sum(axis=1), hits.sum(axis=1))


def weighted_accuracy(truth: np.ndarray, guess: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of rows guessed right."""
    return _divided(weights @ (truth == guess).astype(np.float64), weights.sum(axis=1))


def weighted_f1(truth: np.ndarray, guess: np.ndarray, classes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """F1, averaged over `classes` with equal weight; 0 for a class neither present nor guessed right."""
    scores = []
    for label in classes:
        hits = weights @ ((truth == label) & (guess == label)).astype(np.float64)
        total = weights @ ((truth == label).astype(np.float64) + (guess == label))
        scores.append(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0))
    return np.mean(scores, axis=0)


def weighted_r2(truth: np.ndarray, guess: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficient of determination; nan where the truth is constant."""
    total = weights.sum(axis=1)
    mean = weights @ truth / total
    # centred first, or the difference of two large squares loses all digits
    centred = truth - truth.mean()
    shift = mean - truth.mean()
    variation = weights @ centred**2 - total * shift**2
    residual = weights @ (truth - guess) ** 2
    rounding = 1e-14 * np.abs(truth).max()
    tiny = max(rounding**2, 1e-12 * float(np.max(centred**2))) * total
    return np.where(variation > tiny, 1.0 - _divided(residual, variation), np.nan)


def interval(values: np.ndarray, confidence: float) -> tuple[float | None, float | None]:
    """Percentile interval of the resamples `values[1:]`; Nones where fewer than ten are finite."""
    resamples = values[1:][np.isfinite(values[1:])]
    if len(resamples) < 10:
        return None, None
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(resamples, [tail, 1.0 - tail])
    return float(low), float(high)


def in_blocks(score, weights: np.ndarray) -> np.ndarray:
    """Applies `score` to a few weightings at a time, as float64, so that memory stays bounded."""
    step = max(1, _BLOCK // max(1, weights.shape[1]))
    blocks = (weights[i : i + step].astype(np.float64) for i in range(0, len(weights), step))
    return np.concatenate([score(block) for block in blocks])


def _tie_groups(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    return np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]), order


def _divided(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
