"""Statistics that every kind of audit reports, by their metric names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpsynth.audit.stats import bounds, roc
from dpsynth.audit.stats.claim import permutation_p

_NAMES = {0.01: "1pct", 0.001: "0p1pct"}


def separation(
    scores: np.ndarray,
    included: np.ndarray,
    *,
    rng: np.random.Generator,
    fprs: Sequence[float] = (0.01, 0.001),
) -> dict[str, float]:
    """Returns AUC with its interval, advantage, permutation p-value, and true positives at low rates.

    Edge cases: a rate that too few non-members resolve -> NaN, which is not logged.
    """
    inside, outside = scores[included], scores[~included]
    interval = roc.auc(inside, outside).interval()
    out = {
        "auc": interval.value,
        "auc_lo": interval.lower,
        "auc_hi": interval.upper,
        "advantage": float(np.max(np.subtract(*roc.roc_curve(inside, outside)[::-1]))),
        "perm_p": permutation_p(scores, included, rng=rng, n=1999),
    }
    for fpr in fprs:
        head, at = f"tpr_at_fpr_{_NAMES.get(fpr, f'{fpr:g}')}", roc.tpr_at_fpr(inside, outside, fpr)
        out |= {head: at.value, f"{head}_lo": at.lower, f"{head}_hi": at.upper}
    return out


def bounds_at(
    errors: bounds.Errors, *, delta: float, alpha: float, rng: np.random.Generator
) -> dict[str, float]:
    """Returns the bounds on epsilon from the errors at one threshold, each with what it could have shown.

    They assume independent scores: so they hold for separate runs and for directions of their own in one
    noisy sum, and describe, but gate nothing, where targets share one release.
    """
    plain = bounds.eps_clopper_pearson(errors, delta=delta, alpha=alpha)
    gdp = bounds.eps_gdp(errors, delta=delta, alpha=alpha)
    flawless = bounds.Errors(true=errors.num_in, num_in=errors.num_in, false=0, num_out=errors.num_out)
    belief, best = (bounds.eps_posterior(e, delta=delta, rng=rng) for e in (errors, flawless))
    return {
        "eps_lo_cp": plain.value,
        "eps_lo_gdp": gdp.value,
        "eps_post_q05": belief.lower,
        "eps_post_q95": belief.upper,
        "eps_max_auditable": plain.ceiling,
        "eps_max_auditable_gdp": gdp.ceiling,
        "eps_max_auditable_post": best.lower,
    }
