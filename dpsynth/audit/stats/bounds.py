"""Lower bounds on epsilon from the errors of an attack at a threshold fixed beforehand.

Every bound carries what it could at best have shown (`ceiling`): a bound of 3.2 means little without
knowing that 100 runs per world can never show more than 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri

from dpsynth.audit.stats.roc import Interval, clopper_pearson
from dpsynth.audit.stats.tradeoff import gaussian


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A one-sided lower confidence bound.

    Args:
      value: the bound; 0 when nothing was shown.
      ceiling: largest value that these sample sizes could have shown (zero errors).
      alpha: probability that the bound is wrong, at most.
      assumes: what it needs beyond the data, for example `GDP`; empty for none.
    """

    value: float
    ceiling: float
    alpha: float
    assumes: str = ""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Counts of an attack at one threshold: `true` of `num_in` members found, `false` of `num_out`."""

    true: int
    num_in: int
    false: int
    num_out: int

    def limits(self, alpha: float) -> tuple[float, float, float, float]:
        """Returns (tpr_lower, tpr_upper, fpr_lower, fpr_upper), each limit at error `alpha`."""
        return (
            *clopper_pearson(self.true, self.num_in, alpha),
            *clopper_pearson(self.false, self.num_out, alpha),
        )


def errors_at(scores_in: np.ndarray, scores_out: np.ndarray, threshold: float) -> Errors:
    """Counts calls `member` above `threshold`, which must not depend on these scores."""
    true, false = int(np.sum(scores_in > threshold)), int(np.sum(scores_out > threshold))
    return Errors(true=true, num_in=len(scores_in), false=false, num_out=len(scores_out))


def errors_at_share(scores_in: np.ndarray, scores_out: np.ndarray, share: float) -> Errors:
    """Counts calls `member` when this share of all scores, the highest, is called so.

    Formal guarantee: the threshold is a quantile of all scores together, chosen without a look at membership;
    bounds on these counts keep their level in the limit of many scores (in 5,000 trials with 25 to 500 scores
    per world, mu up to 3, at shares from 0.02 to 0.8, at most 23 bounds at alpha = 0.05 were too high; see
    `python -m dpsynth.audit.calibrate shares`). A threshold in units of the score would be exact, and would
    miss a mechanism whose scores moved.
    Edge cases: ties at the threshold are called non-members.
    """
    pool = np.sort(np.concatenate([scores_in, scores_out]))
    calls = min(max(1, round(share * len(pool))), len(pool) - 1)
    return errors_at(scores_in, scores_out, pool[len(pool) - calls - 1])


def _log_ratio(top: float, bottom: float, delta: float) -> float:
    if top <= delta:
        return 0.0
    return float(max(0.0, np.log(top - delta) - np.log(bottom))) if bottom > 0 else float("inf")


def eps_clopper_pearson(errors: Errors, *, delta: float, alpha: float = 0.05) -> Bound:
    """Bounds epsilon from below without assumptions on the mechanism.

    Formal guarantee: with independent runs and a threshold fixed beforehand, exceeds the true epsilon
    at `delta` with probability at most `alpha` (half for TPR from below, half
    for FPR from above; both directions use these two limits).
    Source: Jagielski, Ullman and Oprea (2020); Nasr et al. (2021).
    """
    tpr_lo, tpr_hi, fpr_lo, fpr_hi = errors.limits(alpha / 2)
    value = max(_log_ratio(tpr_lo, fpr_hi, delta), _log_ratio(1 - fpr_hi, 1 - tpr_lo, delta))
    return Bound(
        value=value,
        ceiling=max_auditable(errors.num_in, errors.num_out, delta=delta, alpha=alpha),
        alpha=alpha,
    )


def max_auditable(num_in: int, num_out: int, *, delta: float = 0.0, alpha: float = 0.05) -> float:
    """Returns the epsilon that a flawless attack with these sample sizes would show by Clopper-Pearson."""
    tpr_lo, _ = clopper_pearson(num_in, num_in, alpha / 2)
    _, fpr_hi = clopper_pearson(0, num_out, alpha / 2)
    return max(_log_ratio(tpr_lo, fpr_hi, delta), _log_ratio(1 - fpr_hi, 1 - tpr_lo, delta))


def mu_lower(errors: Errors, alpha: float = 0.05) -> float:
    """Bounds mu from below, if the mechanism is some mu-GDP: the separation at the limits of both rates."""
    tpr_lo, _, _, fpr_hi = errors.limits(alpha / 2)
    if fpr_hi >= 1.0 or tpr_lo <= 0.0:
        return 0.0
    return float(max(0.0, ndtri(1 - fpr_hi) - ndtri(1 - tpr_lo)))


def eps_gdp(errors: Errors, *, delta: float, alpha: float = 0.05) -> Bound:
    """Bounds epsilon(delta) through mu; tighter than Clopper-Pearson, and only as true as its assumption.

    Source: Nasr et al. (2023), section 4.
    """
    best = Errors(true=errors.num_in, num_in=errors.num_in, false=0, num_out=errors.num_out)
    value, ceiling = (gaussian(mu_lower(e, alpha)).epsilon(delta) for e in (errors, best))
    return Bound(value=value, ceiling=ceiling, alpha=alpha, assumes="GDP")


def best_share(ideal_in: np.ndarray, ideal_out: np.ndarray, num: int, *, alpha: float = 0.05) -> float:
    """Returns the share of scores to call members that shows most by `mu_lower`, before any score is seen.

    Args:
      ideal_in, ideal_out: scores simulated under the claim.
      num: scores per world that the share is for.
    """
    threshold, true, false = _best(ideal_in, ideal_out, num, num, alpha)
    return (true + false) / (2 * num)


def split_threshold(scores_in: np.ndarray, scores_out: np.ndarray, *, alpha: float = 0.05) -> float:
    """Picks the threshold with the largest mu bound on these scores; use it on other scores only."""
    return _best(scores_in, scores_out, len(scores_in), len(scores_out), alpha)[0]


def _best(scores_in, scores_out, num_in: int, num_out: int, alpha: float) -> tuple[float, float, float]:
    """Returns (threshold, true, false) of the largest mu bound with counts scaled to these numbers."""
    grid = np.quantile(np.concatenate([scores_in, scores_out]), np.linspace(0.02, 0.98, 97))
    n, m = len(scores_in), len(scores_out)
    true = (n - np.searchsorted(np.sort(scores_in), grid, side="right")) * (num_in / n)
    false = (m - np.searchsorted(np.sort(scores_out), grid, side="right")) * (num_out / m)
    with np.errstate(invalid="ignore"):
        tpr_lo = np.where(true > 0, betaincinv(np.maximum(true, 1), num_in - true + 1, alpha / 2), 0.0)
        most = np.maximum(num_out - false, 1)
        fpr_hi = np.where(false < num_out, betaincinv(false + 1, most, 1 - alpha / 2), 1.0)
        mu = np.nan_to_num(ndtri(1 - fpr_hi) - ndtri(1 - tpr_lo), nan=0.0)
    at = int(np.argmax(mu))
    return float(grid[at]), float(true[at]), float(false[at])


def eps_posterior(
    errors: Errors, *, delta: float, level: float = 0.9, draws: int = 50_000, rng: np.random.Generator
) -> Interval:
    """Returns a credible interval of the epsilon that the errors at one threshold imply.

    Edge cases: credible, not confident: it describes belief under Jeffreys priors and gates nothing.
    Source: Zanella-Beguelin et al. (2023).
    """
    tpr = rng.beta(errors.true + 0.5, errors.num_in - errors.true + 0.5, draws)
    fpr = rng.beta(errors.false + 0.5, errors.num_out - errors.false + 0.5, draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.stack([(tpr - delta) / fpr, (1 - fpr - delta) / (1 - tpr)])
        epsilons = np.log(np.maximum(np.nan_to_num(ratios, nan=1.0), 1.0)).max(axis=0)
    lower, middle, upper = np.quantile(epsilons, [(1 - level) / 2, 0.5, (1 + level) / 2])
    return Interval(value=float(middle), lower=float(lower), upper=float(upper), level=level)
