"""Points for the plots of an audit: rates, densities and bounds as plain lists, nobody's single score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit.stats import bounds, roc
from dpsynth.audit.stats.one_run import eps_f_dp, guess

if TYPE_CHECKING:
    from dpsynth.privacy.plan.plan import TrainingPlan

_BINS = 40
_SHARE = 0.25  # of targets called member where no plan says what shows most
_IDEAL = 4000  # simulated canaries per world behind a claimed density


def roc_points(scores_in: np.ndarray, scores_out: np.ndarray, most: int = 200) -> dict[str, Any]:
    """Returns at most `most` points of the ROC curve, and how many members stand behind it."""
    fpr, tpr = roc.roc_curve(scores_in, scores_out)
    keep = np.unique(np.linspace(0, len(fpr) - 1, most).astype(int))
    return {"fpr": fpr[keep].tolist(), "tpr": tpr[keep].tolist(), "num_in": len(scores_in)}


def densities(
    scores_in: np.ndarray, scores_out: np.ndarray, ideal: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, Any]:
    """Returns histograms of targets trained on and left out, and of both as the plan would have them.

    Args:
      ideal: scores simulated under the plan; None where the claim says nothing of these scores.
    """
    parts = {"in": scores_in, "out": scores_out}
    parts |= {} if ideal is None else dict(zip(("claimed in", "claimed out"), ideal))
    ends = np.quantile(np.concatenate(list(parts.values())), [0.001, 0.999])
    edges = np.linspace(*(ends + [-1e-9, 1e-9]), _BINS + 1)
    heights = {key: np.histogram(np.clip(x, *ends), edges, density=True)[0] for key, x in parts.items()}
    return {"centre": (edges[:-1] + edges[1:]) / 2} | heights


def ideal_scores(plan: TrainingPlan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Simulates the scores of canaries inside and outside under a plan, by numpy alone."""
    q, sigma, scores = plan.sample_rate, plan.noise_multiplier, []
    for inside in (True, False):
        total = np.zeros(_IDEAL)
        for _ in range(plan.steps):
            x = sigma * rng.standard_normal(_IDEAL) + inside * (rng.random(_IDEAL) < q)
            total += step_score(x, q, sigma)
        scores.append(total)
    return scores[0], scores[1]


def step_score(sums: np.ndarray, sample_rate: float, noise_multiplier: float) -> np.ndarray:
    """Returns the log likelihood ratio of one step's sums, in clipping norms: inside over outside."""
    exponent = np.clip((sums - 0.5) / noise_multiplier**2, -700, 700)
    if sample_rate == 1.0:
        return exponent
    return np.logaddexp(np.log1p(-sample_rate), np.log(sample_rate) + exponent)


def convergence(
    scores: np.ndarray, included: np.ndarray, *, delta: float, alpha: float, k_share: float, share: float
) -> dict[str, list[Any]]:
    """Returns what fewer targets would have shown: AUC with its interval and bounds, for prefixes.

    Canaries and runs of a game are exchangeable, so the first m of them are as good as any m; other targets
    must come in an order drawn by chance.

    Args:
      k_share: of one-run guesses. share: of canaries called member behind a threshold.
    """
    sizes = sorted({m for m in (50, 100, 200, 500, 1000, 2000, 5000) if m < len(scores)} | {len(scores)})
    sizes = [m for m in sizes if min(included[:m].sum(), (~included[:m]).sum()) > 1]
    out: dict[str, list[Any]] = {"m": sizes, "auc": [], "auc_lo": [], "auc_hi": [], "f_dp": [], "gdp": []}
    for m in sizes:
        rng, mine, where = np.random.default_rng(m), scores[:m], included[:m]
        interval, k = roc.auc(mine[where], mine[~where]).interval(), int(k_share * m)
        guesses = guess(mine, where, k, k, rng)
        errors = bounds.errors_at_share(mine[where], mine[~where], share)
        out["auc"].append(interval.value)
        out["auc_lo"].append(interval.lower)
        out["auc_hi"].append(interval.upper)
        out["f_dp"].append(eps_f_dp(guesses, delta=delta, alpha=alpha).value)
        out["gdp"].append(bounds.eps_gdp(errors, delta=delta, alpha=alpha).value)
    return out


def of_attack(
    scores: np.ndarray, included: np.ndarray, *, delta: float, alpha: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Returns densities and convergence of one attack, over targets in an order drawn by chance."""
    order = rng.permutation(len(scores))
    settings = {"delta": delta, "alpha": alpha, "k_share": _SHARE, "share": _SHARE}
    return {
        "density": densities(scores[included], scores[~included]),
        "convergence": convergence(scores[order], included[order], **settings),
    }
