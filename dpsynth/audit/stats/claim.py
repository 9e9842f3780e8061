"""Tests of the claim itself, and the power of a test that did not reject.

The hypothesis is `the mechanism satisfies f`, with f the curve of the ledger. A test that cannot tell a
broken mechanism from a sound one says nothing by staying silent, so each comes with its power against a
named alternative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from dpsynth.audit.stats.one_run import guess, one_run_p
from dpsynth.audit.stats.roc import Auc, auc
from dpsynth.audit.stats.tradeoff import TradeOff

Method = Literal["auc", "point", "one_run"]
_PRECISION = 4e-3  # of inverted tests, relative


@dataclass(frozen=True, kw_only=True)
class ClaimTest:
    """Result of testing a claim.

    Args:
      p_value: of the hypothesis that the mechanism satisfies its claim.
      statistic: the observed AUC, true-positive rate or share of correct guesses.
      ceiling: what the claim allows for it.
    """

    method: Method
    p_value: float
    statistic: float
    ceiling: float


def claim_test(
    scores_in: np.ndarray,
    scores_out: np.ndarray,
    f: TradeOff,
    *,
    method: Method = "auc",
    fpr: float = 0.1,
    k_share: float = 0.25,
    rng: np.random.Generator | None = None,
) -> ClaimTest:
    """Tests whether scores of members and non-members are compatible with `f`.

    `auc` and `point` need independent scores: separate runs, or orthogonal directions under isotropic
    noise. `one_run` needs independent fair coins only; use it when canaries share a model or a table.

    Args:
      fpr: the point of `point`, fixed beforehand. Its threshold is the empirical quantile.
      k_share: share of canaries called member, and the share called non-member, by `one_run`.
      rng: breaks ties in `one_run`; public.
    """
    if method == "auc":
        return _auc_test(auc(scores_in, scores_out), f, len(scores_in), len(scores_out))
    if method == "point":
        return _point_test(scores_in, scores_out, f, fpr)
    scores = np.concatenate([scores_in, scores_out])
    included = np.arange(len(scores)) < len(scores_in)
    k = max(1, int(k_share * len(scores)))
    made = guess(scores, included, k, k, rng or np.random.default_rng(0))
    return ClaimTest(
        method="one_run", p_value=one_run_p(made, f), statistic=made.correct / made.made, ceiling=float("nan")
    )


def auc_stderr(f: TradeOff, num_in: int, num_out: int) -> float:
    """Returns the standard error of the AUC of an ideal attack on `f`, from integrals of its curve.

    Source: Hanley and McNeil (1982), with both moments integrated rather than approximated.
    """
    grid = (np.arange(4000) + 0.5) / 4000
    tpr, fpr = 1 - f.beta(grid), f.alpha(1 - grid)
    area = f.auc_ceiling()
    # P(one in beats two outs) = E[(1 - FPR)^2]; P(two ins beat one out) = E[TPR^2].
    two_out, two_in = np.mean((1 - fpr) ** 2), np.mean(tpr**2)
    variance = area * (1 - area) + (num_in - 1) * (two_in - area**2) + (num_out - 1) * (two_out - area**2)
    return float(np.sqrt(max(variance, 0.0) / (num_in * num_out)))


def _auc_test(observed: Auc, f: TradeOff, num_in: int, num_out: int) -> ClaimTest:
    """Compares the AUC with the ceiling, in units of the larger of DeLong's error and the ideal one.

    DeLong's error alone shrinks when a sample happens to separate well, which makes false alarms.
    """
    ceiling = f.auc_ceiling()
    stderr = max(observed.stderr, auc_stderr(f, num_in, num_out))
    p_value = float(ndtr((ceiling - observed.value) / stderr))
    return ClaimTest(method="auc", p_value=p_value, statistic=observed.value, ceiling=ceiling)


def _point_test(scores_in: np.ndarray, scores_out: np.ndarray, f: TradeOff, fpr: float) -> ClaimTest:
    """Tests the true positives above the empirical `fpr` quantile of the non-members, exactly.

    The true false-positive rate there is Beta(a, n - a + 1); the binomial tail is averaged over it.
    """
    allowed = max(1, int(np.floor(fpr * len(scores_out))))
    threshold = np.sort(scores_out)[-allowed]
    hits = int(np.sum(scores_in > threshold))
    quantiles = (np.arange(400) + 0.5) / 400
    from scipy.stats import beta

    rates = 1 - f.beta(beta.ppf(quantiles, allowed, len(scores_out) - allowed + 1))
    p_value = float(np.mean(binom.sf(hits - 1, len(scores_in), rates)))
    return ClaimTest(
        method="point",
        p_value=p_value,
        statistic=hits / max(1, len(scores_in)),
        ceiling=float(1 - f.beta(fpr)),
    )


def smallest_rejected(
    observed: Auc,
    curve: Callable[[float], TradeOff],
    num_in: int,
    num_out: int,
    *,
    alpha: float = 0.05,
    low: float = 0.25,
    high: float = 16.0,
) -> float:
    """Inverts the AUC test: returns the smallest factor whose curve the observed AUC rejects, rounded up.

    Formal guarantee: when scores come from `curve(r)` the result is at or below r with probability about
    `alpha`, as the test itself; so the noise is at most the result times the planned noise, and epsilon at
    least that of `curve(result)`.
    Edge cases: infinity when not even `high` times the planned noise is rejected; never below `low`.

    Args:
      curve: factor on the planned noise -> curve; larger is more private.
    """

    from scipy.optimize import brentq

    threshold = ndtri(1 - alpha)

    def excess(log_factor: float) -> float:
        f = curve(float(np.exp(log_factor)))
        stderr = max(observed.stderr, auc_stderr(f, num_in, num_out))
        return (observed.value - f.auc_ceiling()) / stderr - threshold

    # Curves are dear: a bracket is grown from the plan's own noise, where the answer is when all is well.
    low, high = np.log(low), np.log(high)
    direction = 1.0 if excess(0.0) < 0 else -1.0
    near, far = 0.0, 0.15 * direction
    while direction * excess(far) < 0:
        if far in (low, high):
            return float(np.exp(far)) if far == low else float("inf")
        near, far = far, float(np.clip(2.5 * far, low, high))
    return float(np.exp(brentq(excess, near, far, xtol=_PRECISION) + _PRECISION))


def mc_power(
    draw: Callable[[np.random.Generator], float],
    *,
    alpha: float = 0.05,
    n: int = 100,
    rng: np.random.Generator,
) -> float:
    """Returns the share of `n` draws of a p-value at or below `alpha`."""
    return float(np.mean([draw(rng) <= alpha for _ in range(n)]))


def power(
    f: TradeOff,
    alternative: TradeOff,
    num_in: int,
    num_out: int,
    *,
    method: Method = "auc",
    alpha: float = 0.05,
    n: int = 100,
    rng: np.random.Generator,
) -> float:
    """Returns how often `claim_test` of `f` rejects when an ideal attack faces `alternative` instead."""
    if method == "auc":  # normal limit; agrees with simulation to 2 points from 100 canaries on
        null, other = auc_stderr(f, num_in, num_out), auc_stderr(alternative, num_in, num_out)
        gap = alternative.auc_ceiling() - f.auc_ceiling() + ndtri(alpha) * max(null, other)
        return float(ndtr(gap / max(other, 1e-12)))

    def draw(rng: np.random.Generator) -> float:
        return claim_test(*alternative.ideal_scores(num_in, num_out, rng), f, method=method, rng=rng).p_value

    return mc_power(draw, alpha=alpha, n=n, rng=rng)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Returns p-values adjusted so that the chance of any false alarm stays at its nominal level.

    Edge cases: NaN (a test that could not run) stays NaN and is not counted.
    Source: Holm (1979).
    """
    p_values = np.asarray(p_values, float)
    adjusted = np.full_like(p_values, np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known])]
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def permutation_p(
    scores: np.ndarray, included: np.ndarray, *, n: int = 9999, rng: np.random.Generator, exact: bool = False
) -> float:
    """Returns the p-value of `scores tell nothing about membership`, by the rank sum (so, the AUC).

    Formal guarantee: exact for exchangeable membership, hence for coin flips and for random splits.
    Edge cases: above 200 scores on each side the normal limit with tie correction is used, unless `exact`.
    """
    from scipy.stats import mannwhitneyu, rankdata

    included = np.asarray(included, bool)
    num_in = int(included.sum())
    if min(num_in, len(included) - num_in) < 1:
        return float("nan")
    if not exact and min(num_in, len(included) - num_in) > 200:
        return float(mannwhitneyu(scores[included], scores[~included], alternative="greater").pvalue)
    ranks = rankdata(scores)
    observed = ranks[included].sum()
    shuffled = rng.permuted(np.broadcast_to(ranks, (n, len(ranks))), axis=1)[:, :num_in].sum(axis=1)
    return float((1 + np.sum(shuffled >= observed - 1e-9)) / (n + 1))
