"""The distinguishing game over many independent runs on two neighbouring tables of the auditor's choice.

Slow and decisive: it needs no structure in the mechanism, sees only what is released, and its runs are
independent, so that Clopper-Pearson bounds hold. Fits are small by design: worst-case neighbours have few
rows (Annamalai, Ganev and De Cristofaro 2024).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit import curves
from dpsynth.audit.attacks.features import feature_maps
from dpsynth.audit.configs import MultirunConfig
from dpsynth.audit.parallel import mapped
from dpsynth.audit.stats import bounds, common, roc
from dpsynth.audit.stats.claim import claim_test, power
from dpsynth.audit.stats.tradeoff import Gaussian, TradeOff, allowed
from dpsynth.audit.types import AuditResult, Claim, Finding, ThreatModel, Verdict, decide, score_table
from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.ensemble import RandomForestClassifier


def worst_case(
    num_rows: int = 32, *, columns: int = 3, far: float = 1.0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns (D, D') of few narrow numeric columns: rows at 0, and in D one more, at `far` in each column.

    Bounds [0, max(1, far)] are to be declared in the schema. With a synthesizer that respects them, the extra
    row is the hardest to hide; with one that reads bounds off the data, it shows at once.
    """
    import pandas as pd

    names = [f"c{i}" for i in range(columns)]
    without = pd.DataFrame(np.zeros((num_rows, columns)), columns=names)
    extra = pd.DataFrame(np.full((1, columns), far), columns=names)
    return pd.concat([without, extra], ignore_index=True), without


def audit_multirun(
    fit_sample: Callable[[pd.DataFrame, int], pd.DataFrame],
    with_unit: pd.DataFrame,
    without_unit: pd.DataFrame,
    *,
    claim: Claim,
    alternative: Claim | None = None,
    target: pd.DataFrame | None = None,
    config: MultirunConfig = MultirunConfig(),  # noqa: B008 - frozen
) -> AuditResult:
    """Plays `which table was it` and judges the claim.

    Formal guarantee: a mechanism that satisfies the claim is called a violation with probability about
    `alpha`; its CP bound exceeds the true epsilon with probability at most `alpha`.

    Args:
      fit_sample: (table, seed) -> released table. Runs the whole mechanism with fresh noise each time.
      alternative: the broken mechanism of the power statement; twice the separation in GDP when None.
      target: the differing unit; the last row of `with_unit` when None.
    Raises:
      InvalidInput: there is no curve to test.
    """
    if claim.f is None:
        problem = Problem("claim", "Has no curve to test.", "Give a Claim with f, `eps_delta` for instance.")
        raise InvalidInput("the multirun audit", [problem])
    start, rng = time.perf_counter(), np.random.default_rng(config.seed)
    target = with_unit.iloc[-1:] if target is None else target
    seeds = rng.integers(0, 2**31, 2 * (config.n_train + config.n_eval)).tolist()
    world = np.arange(len(seeds)) % 2 == 0

    def one(seed: int, inside: bool) -> dict[str, np.ndarray]:
        return feature_maps(fit_sample(with_unit if inside else without_unit, seed), target, with_unit)

    # Each process draws its own key, so that no two runs share a stream of noise.
    runs = [(s, bool(w)) for s, w in zip(seeds, world)]
    runs = mapped(one, runs, backend=config.backend, jobs=config.jobs)
    seen = {name: np.stack([run[name] for run in runs]) for name in runs[0].keys()}
    cut = 2 * config.n_train
    train = {name: values[:cut] for name, values in seen.items()}
    chosen, forest, learned = _learn(train, world[:cut], int(rng.integers(1 << 31)))
    scores = forest.predict_proba(seen[chosen][cut:])[:, 1]
    a, b = scores[world[cut:]], scores[~world[cut:]]
    threshold = bounds.split_threshold(learned[world[:cut]], learned[~world[:cut]], alpha=config.alpha)
    errors = bounds.errors_at(a, b, threshold)
    test = claim_test(a, b, claim.f, method="auc")
    # A CP bound above the claim rejects it by another statistic; both are tested, at half of alpha each.
    over = (
        claim.epsilon is not None
        and bounds.eps_clopper_pearson(errors, delta=claim.delta, alpha=config.alpha / 2).value
    )
    p_value = min(1.0, 2 * test.p_value)
    if over and over > claim.epsilon:
        p_value = min(p_value, config.alpha)
    other = _alternative(claim.f) if alternative is None else alternative.f
    caught = power(claim.f, other, len(a), len(b), alpha=config.alpha / 2, rng=rng)
    verdict = decide(p_value, caught, alpha=config.alpha)
    statistics = {
        **common.separation(scores, world[cut:], rng=rng),
        **common.bounds_at(errors, delta=claim.delta, alpha=config.alpha, rng=rng),
        "auc_ceiling": claim.f.auc_ceiling(),
        "claim_p": test.p_value,
        "power_sigma_half": caught,
    }
    best = statistics["eps_lo_cp"]
    return AuditResult(
        kind="multirun",
        verdict=verdict,
        reason=_reason(verdict, statistics["auc"], claim, best, caught),
        claim=claim,
        p_value=p_value,
        power=caught,
        alternative="noise halved (doubled separation)" if alternative is None else "as given",
        findings=(
            Finding(
                attack="distinguisher",
                stratum="constructed",
                threat_model=ThreatModel.ACTIVE,
                statistics=statistics,
            ),
        ),
        summary={
            "eps_theory": float("nan") if claim.epsilon is None else claim.epsilon,
            "eps_lo_best": best,
            "gap": float("nan") if claim.epsilon is None else claim.epsilon - best,
            "claim_p_holm": p_value,
            "n_train_runs": len(seeds),
            "seconds": time.perf_counter() - start,
        },
        params={
            "threat_model": "active",
            "m": len(scores),
            "k": errors.true + errors.false,
            "adjacency": "add_remove",
            "backend": config.backend,
            "alpha": config.alpha,
            "delta": claim.delta,
            "f_family": claim.family,
            "n_tests": 2,
            "features": chosen,
        },
        curves={
            "roc": {"distinguisher": curves.roc_points(a, b)},
            "allowed": allowed(claim.f),
            "power": _power_curve(claim.f, len(a), len(b), config.alpha / 2, rng),
            **curves.of_attack(scores, world[cut:], delta=claim.delta, alpha=config.alpha, rng=rng),
        },
        scores=score_table(np.arange(len(scores)), "constructed", world[cut:], {"distinguisher": scores}),
    )


def _learn(
    train: dict[str, np.ndarray], label: np.ndarray, seed: int
) -> tuple[str, RandomForestClassifier, np.ndarray]:
    """Fits a distinguisher to each feature map; returns the best by training runs that it did not see.

    Returns (name of the map, distinguisher, its out-of-bag scores of the training runs). The judged runs are
    no argument, so that the choice costs the tests nothing.
    """
    from sklearn.ensemble import RandomForestClassifier

    found = {}
    for name, rows in train.items():
        forest = RandomForestClassifier(100, min_samples_leaf=3, oob_score=True, random_state=seed)
        forest.fit(rows, label)
        learned = np.nan_to_num(forest.oob_decision_function_[:, 1], nan=0.5)
        found[name] = roc.auc(learned[label], learned[~label]).value, forest, learned
    best = max(found, key=lambda name: found[name][0])  # the first of equals
    return best, *found[best][1:]


def _alternative(f: TradeOff, ratio: float = 2.0) -> Gaussian:
    """Returns GDP with `ratio` times the separation that has the claim's AUC ceiling: as by halved noise."""
    from scipy.special import ndtri

    return Gaussian(mu=float(ratio * np.sqrt(2) * ndtri(min(f.auc_ceiling(), 1 - 1e-9))))


def _power_curve(f: TradeOff, num_in: int, num_out: int, alpha: float, rng) -> dict[str, Any]:
    ratios = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
    found = [power(f, _alternative(f, r), num_in, num_out, alpha=alpha, rng=rng) for r in ratios]
    return {"x": ratios, "power": found, "axis": "planned noise over actual noise"}


def _reason(verdict: Verdict, auc: float, claim: Claim, bound: float, power: float) -> str:
    head = f"AUC {auc:.3f}, ceiling {claim.f.auc_ceiling():.3f}, epsilon >= {bound:.2f}"
    return (
        f"{head}." if verdict is Verdict.VIOLATION else f"{head}; doubled separation has power {power:.2f}."
    )
