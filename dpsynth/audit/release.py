"""Attacks on a released table, and what they say about its claim.

Members are rows that were trained on, non-members rows of the same population that were not. Targets come
in strata: an average over everybody hides the few at risk. All attacks, strata and numbers of guesses are
fixed before membership is looked at, and their p-values are corrected by Holm's method.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit import curves
from dpsynth.audit.attacks.shadow import shadow_attacks
from dpsynth.audit.attacks.space import World
from dpsynth.audit.attacks.suite import ATTACKS
from dpsynth.audit.configs import ReleaseConfig
from dpsynth.audit.disclosure import risks
from dpsynth.audit.inputs import check_tables
from dpsynth.audit.stats import bounds, common, roc
from dpsynth.audit.stats.claim import holm, permutation_p
from dpsynth.audit.stats.one_run import Guesses, eps_f_dp, eps_steinke, guess, one_run_p
from dpsynth.audit.stats.tradeoff import allowed
from dpsynth.audit.targets import choose
from dpsynth.audit.types import AuditResult, Claim, Finding, decide, score_table
from dpsynth.data.wording import up

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.audit.attacks.model import ReleasedModel
    from dpsynth.privacy.release.release import Release

# Shares of the targets called member and called non-member: broad, one-sided, and a few certain ones.
GUESSES = ((0.25, 0.25), (0.05, 0.0), (0.01, 0.0))


def audit_release(
    synthetic: pd.DataFrame,
    members: pd.DataFrame,
    nonmembers: pd.DataFrame,
    *,
    reference: pd.DataFrame | None = None,
    claim: Claim = Claim(),  # noqa: B008 - frozen
    strata: np.ndarray | None = None,
    model: ReleasedModel | None = None,
    fit_sample: Callable[[pd.DataFrame, int], pd.DataFrame | Release] | None = None,
    config: ReleaseConfig = ReleaseConfig(),  # noqa: B008 - frozen
) -> AuditResult:
    """Attacks `synthetic` and judges the claim.

    With a curve in `claim`, a violation means that membership was guessed better than the curve allows
    (one-run f-DP test; valid for coin flips, approximate for random splits). Without one, the claim under
    test is that membership leaves no trace at all (permutation test; exact for both).
    A verdict of CONSISTENT speaks of one alternative only: exact copies of `planted_share` of the members.

    Args:
      members, nonmembers: rows; must come from one population (a blind control checks).
      reference: rows disjoint from both, the attacker's own sample.
      strata: of members, then of non-members: `random`, `vulnerable` or `constructed`, as a canary plan has
        it. The most isolated targets are the vulnerable ones when None.
      model: the released generator; adds the attacks on weights.
      fit_sample: (table, seed) -> release, or its table: the method that is attacked; for `shadows` alone.
    Raises:
      InvalidInput: tables cannot be attacked; lists every problem.
    """
    start, rng = time.perf_counter(), np.random.default_rng(config.seed)
    given = {"can_fit": fit_sample is not None, "has_model": model is not None}
    check_tables(synthetic, members, nonmembers, reference, config, **given)
    columns = [c for c in synthetic.columns if c in members.columns]
    synthetic = _thin(synthetic[columns], config.max_rows, rng)
    reference = None if reference is None else _thin(reference[columns], config.max_rows, rng)
    chosen = choose(members[columns], nonmembers[columns], strata, config, rng)
    targets, included, natural = chosen.table, chosen.included, chosen.random
    blind = blind_control(targets, included & natural, ~included & natural, rng)

    world = World.of(targets, synthetic, reference, model)
    held = {"reference": reference is not None, "model": model is not None}
    attacks = [ATTACKS[name] for name in config.attacks if ATTACKS[name].lacks(**held) is None]
    if config.shadows:
        shadows = {"num": config.shadows, "backend": config.backend, "jobs": config.jobs}
        attacks += shadow_attacks(fit_sample, model=model is not None, **shadows)
    findings, tests, rocs, scored = [], [], {}, {}
    for attack in attacks:
        scores = scored[attack.name] = attack.score(world, rng)
        for stratum, mask in chosen.tested.items():
            statistics, ps = _statistics(scores[mask], included[mask], claim, config, rng)
            findings.append(
                Finding(
                    attack=attack.name,
                    stratum=stratum,
                    threat_model=attack.threat_model,
                    statistics=statistics,
                )
            )
            tests += ps
        a, b = scores[included & natural], scores[~included & natural]
        rocs[attack.name] = curves.roc_points(a, b)
    p_values = np.asarray(tests, float)
    p_value = float(np.nanmin(holm(p_values)))
    valid = not blind.lower > 0.5
    power = partial(_power, world, included & natural, natural, claim, len(tests), config, rng)
    caught = power(share=config.planted_share, repeats=config.planted_repeats)
    verdict = decide(p_value, caught, alpha=config.alpha, valid=valid)
    drawn = {"roc": rocs, "power": _power_curve(power, config, caught)}
    drawn |= {} if claim.f is None else {"allowed": allowed(claim.f)}
    drawn |= _strongest(findings, scored, natural, included, claim, rng)
    secrets = config.secrets if config.secrets is not None else columns[-1:]
    best = max((f.statistics["eps_lo_onerun_fdp"] for f in findings), default=0.0)
    summary = {
        "claim_p_holm": p_value,
        "blind_auc": blind.value,
        "blind_auc_lo": blind.lower,
        "blind_auc_hi": blind.upper,
        "eps_lo_best": best,
        "power_copies": caught,
        "n_train_runs": 1 + config.shadows,
        **risks(synthetic, *(targets[m & natural] for m in (included, ~included)), secrets=secrets, rng=rng),
        "seconds": time.perf_counter() - start,
    }
    if claim.epsilon is not None:
        summary |= {"eps_theory": claim.epsilon, "gap": claim.epsilon - best}
    return AuditResult(
        kind="release",
        verdict=verdict,
        reason=_reason(verdict.value, claim, findings, p_value, caught, blind, config),
        claim=claim,
        p_value=p_value,
        power=caught,
        alternative=f"{config.planted_share:.0%} of the members copied exactly",
        findings=tuple(findings),
        summary=summary,
        params={
            "m": len(targets),
            "k": int(GUESSES[0][0] * len(targets)),
            "adjacency": "add_remove",
            "alpha": config.alpha,
            "delta": claim.delta,
            "n_tests": int(np.sum(~np.isnan(p_values))),
            "f_family": claim.family,
            "seed": config.seed,
            "threat_model": ", ".join(sorted({a.threat_model.value for a in attacks})),
            "attacks": [a.name for a in attacks],
        },
        curves=drawn,
        scores=score_table(chosen.ids, chosen.stratum, included, scored),
    )


def _thin(table: pd.DataFrame, most: int, rng: np.random.Generator) -> pd.DataFrame:
    if len(table) <= most:
        return table.reset_index(drop=True)
    return table.iloc[np.sort(rng.choice(len(table), most, replace=False))].reset_index(drop=True)


def guess_all(scores: np.ndarray, included: np.ndarray, rng: np.random.Generator) -> list[Guesses]:
    """Guesses by each of the numbers fixed in `GUESSES`; shares that make no guess are skipped."""
    counts = [(int(a * len(scores)), int(b * len(scores))) for a, b in GUESSES]
    return [guess(scores, included, a, b, rng) for a, b in counts if a + b > 0]


def _statistics(scores, included, claim, config, rng) -> tuple[dict[str, float], list[float]]:
    """Returns named statistics and the p-values that enter Holm's correction."""
    guesses = guess_all(scores, included, rng)
    told = common.separation(scores, included, rng=rng, fprs=config.fprs)
    ps = [told["perm_p"]] if claim.f is None else [one_run_p(g, claim.f) for g in guesses]
    # Three numbers of guesses were tried, so each bound is made at a third of alpha.
    share = config.alpha / max(1, len(guesses))
    errors = bounds.errors_at_share(scores[included], scores[~included], GUESSES[0][0])
    out = told | common.bounds_at(errors, delta=claim.delta, alpha=config.alpha, rng=rng)
    for name, bound in (("onerun", eps_steinke), ("onerun_fdp", eps_f_dp)):
        found = [bound(g, delta=claim.delta, alpha=share) for g in guesses]
        out[f"eps_lo_{name}"] = max((x.value for x in found), default=0.0)
        out[f"eps_max_auditable_{name}"] = max((x.ceiling for x in found), default=0.0)
    if claim.f is not None:
        out["auc_ceiling"] = claim.f.auc_ceiling()
        out["claim_p"] = min(1.0, len(ps) * min(ps)) if ps else float("nan")
    return out, ps


def blind_control(targets: pd.DataFrame, members: np.ndarray, nonmembers: np.ndarray, rng) -> roc.Interval:
    """Tries to tell members from non-members without the release: a 99.9 % interval of the AUC.

    An interval above 0.5 means that the two differ by themselves, so no attack on them means anything.
    Scores are averages over five folds that did not train on them.
    """
    from scipy.stats import rankdata
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    rows = np.flatnonzero(members | nonmembers)
    features, label = World.of(targets, targets).codes(0)[rows], members[rows]
    scores = np.zeros(len(rows))
    for fit, test in StratifiedKFold(5, shuffle=True, random_state=int(rng.integers(1 << 31))).split(
        features, label
    ):
        model = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8, early_stopping=False)
        odds = model.fit(features[fit], label[fit]).decision_function(features[test])
        scores[test] = rankdata(odds) / len(test)  # folds differ in their base rates
    return roc.auc(scores[label], scores[~label]).interval(0.999)


def _strongest(findings, scored, natural, included, claim, rng) -> dict[str, Any]:
    """Returns densities and convergence of the attack with the highest AUC on everybody."""
    found = {f.attack: f.statistics["auc"] for f in findings if f.stratum == "random"}
    if not found:
        return {}
    name = max(found, key=found.get)
    drawn = curves.of_attack(scored[name][natural], included[natural], delta=claim.delta, alpha=0.05, rng=rng)
    return drawn | {"shown": f"{name}, the strongest of {len(scored)}"}


def _power_curve(power: Callable[..., float], config: ReleaseConfig, caught: float) -> dict[str, Any]:
    """Returns how often copies of fewer and more members would have been caught."""
    repeats, at = max(1, config.planted_repeats // 2), config.planted_share
    others = (at / 10, at / 4, min(0.99, 2 * at), min(0.99, 5 * at))
    found = {at: caught} | {share: power(share=share, repeats=repeats) for share in others}
    shares = sorted(found)
    return {"x": shares, "power": [found[s] for s in shares], "axis": "share of members copied exactly"}


def _power(
    world: World,
    members: np.ndarray,
    natural: np.ndarray,
    claim,
    num_tests,
    config,
    rng,
    *,
    share: float,
    repeats: int,
) -> float:
    """Returns how often the audit would have caught exact copies of a share of the members.

    Plants on the scores of the nearest-record attack: a copied member lies at distance 0. The other
    attacks only add to this, so it is a lower bound, at the Bonferroni level of the whole audit.
    """
    base, caught = -world.to_synthetic[0][:, 0].astype(float), 0
    level = config.alpha / max(1, num_tests)
    for _ in range(repeats):
        scores = base.copy()
        scores[members & (rng.random(len(scores)) < share)] = 0.0
        scores, coins = scores[natural], members[natural]
        if claim.f is None:
            p_value = permutation_p(scores, coins, rng=rng, n=1999)
        else:
            p_value = min(one_run_p(g, claim.f) for g in guess_all(scores, coins, rng))
        caught += p_value <= level
    return caught / repeats


def _reason(verdict, claim, findings, p_value, power, blind, config) -> str:
    test = "perm_p" if claim.f is None else "claim_p"
    strongest = min(findings, key=lambda f: np.nan_to_num(f.statistics[test], nan=1.0))
    what = (
        "membership leaves no trace"
        if claim.f is None
        else f"epsilon={up(claim.epsilon, 3)} at delta={up(claim.delta)}"
    )
    seen = f"strongest: {strongest.attack} on {strongest.stratum}, AUC {strongest.statistics['auc']:.3f}"
    power_text = f"{config.planted_share:.0%} copied members would be caught with power {power:.2f}"
    return {
        "VIOLATION": f"The claim `{what}` is rejected (p = {p_value:.2g} after Holm; {seen}).",
        "CONSISTENT": f"Nothing contradicts `{what}` (p = {p_value:.2g}; {seen}); {power_text}.",
        "INCONCLUSIVE": f"Nothing contradicts `{what}`, but {power_text} only.",
        "INVALID": f"Members and non-members differ without the release (blind AUC {blind.value:.3f}).",
    }[verdict]
