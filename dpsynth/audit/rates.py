"""Counts what the auditor calls: on sound mechanisms, where it must stay silent, and on broken ones."""

from __future__ import annotations

import numpy as np

from dpsynth.audit.stats import bounds
from dpsynth.audit.stats.claim import claim_test, permutation_p
from dpsynth.audit.stats.one_run import f_dp_rejects, guess, steinke_p
from dpsynth.audit.stats.tradeoff import eps_delta, gaussian

DELTA = 1e-5
# mu of the Gaussian mechanisms with epsilon = 0, 1, 4, 8 at delta = 1e-5.
GAUSSIANS = {0.0: 0.0, 1.0: 0.2684, 4.0: 0.9250, 8.0: 1.6566}
# Noise multipliers at which 100 steps of rate 0.1 give epsilon = 1, 4, 8 at delta = 1e-5.
TRAINING = {1.0: 4.04, 4.0: 1.376, 8.0: 0.937}
ESTIMATORS = (
    "claim_auc",
    "claim_point",
    "one_run_f_dp",
    "one_run_steinke",
    "clopper_pearson",
    "gdp",
    "gdp_share",
)
SHADOWS = ("lira", "rmia", "shadow_features")
SHARES = (0.02, 0.1, 0.25, 0.37, 0.5, 0.8)  # of scores called member


def score_level(
    epsilon: float, *, trials: int, per_world: int = 200, seed: int = 0, separation: float = 1.0
) -> dict[str, int]:
    """Counts rejections of the claim at alpha = 0.05 by every estimator, on exact Gaussian mechanisms.

    A bound rejects when it exceeds the claimed epsilon at delta.

    Args:
      separation: of both worlds, over the claimed one: 1 when the claim is true, 2 when noise was halved.
    """
    f, rng = gaussian(GAUSSIANS[epsilon]), np.random.default_rng([seed, int(epsilon)])
    truth, n = f.epsilon(DELTA), per_world
    included, k = np.arange(2 * n) < n, n // 2
    names = (*ESTIMATORS, "permutation") if epsilon == 0 else ESTIMATORS
    alarms = dict.fromkeys(names, 0)
    actual = gaussian(separation * f.mu)
    for _ in range(trials):
        a, b = actual.ideal_scores(n, n, rng)
        scores = np.concatenate([a, b])
        guesses = guess(scores, included, k, k, rng)
        fixed = bounds.errors_at(a, b, f.mu / 2)  # decided by the claim, before any score
        found = {
            "claim_auc": claim_test(a, b, f).p_value <= 0.05,
            "claim_point": claim_test(a, b, f, method="point").p_value <= 0.05,
            "one_run_f_dp": f_dp_rejects(guesses, f, 0.05),
            "one_run_steinke": steinke_p(guesses, truth, DELTA) <= 0.05,
            "clopper_pearson": bounds.eps_clopper_pearson(fixed, delta=DELTA).value > truth,
            "gdp": bounds.mu_lower(fixed) > f.mu,
            "gdp_share": bounds.mu_lower(bounds.errors_at_share(a, b, 0.37)) > f.mu,
        }
        if epsilon == 0:
            found["permutation"] = permutation_p(scores, included, rng=rng, n=199, exact=True) <= 0.05
        for name, hit in found.items():
            alarms[name] += bool(hit)
    return alarms


def share_level(
    mu: float, *, trials: int, per_world: int, seed: int = 0, separation: float = 1.0
) -> dict[str, int]:
    """Counts `mu_lower` above mu at alpha = 0.05, when a fixed share of all scores is called member."""
    rng, n = np.random.default_rng([seed, 3, round(100 * mu), per_world]), per_world
    alarms = {f"share {share:g}": 0 for share in SHARES}
    for _ in range(trials):
        a, b = gaussian(separation * mu).ideal_scores(n, n, rng)
        for share in SHARES:
            errors = bounds.errors_at_share(a, b, share)
            alarms[f"share {share:g}"] += bounds.mu_lower(errors) > mu
    return alarms


def coin_flip_level(epsilon: float, *, trials: int, num: int = 400, seed: int = 0) -> dict[str, int]:
    """Counts rejections of the truth by one-run tests on fair coins and randomised response."""
    f, rng = eps_delta(epsilon, 0.0), np.random.default_rng([seed, 99, int(epsilon)])
    right, alarms = np.exp(epsilon) / (1 + np.exp(epsilon)), {"one_run_f_dp": 0, "one_run_steinke": 0}
    for _ in range(trials):
        included = rng.random(num) < 0.5
        scores = np.where(rng.random(num) < right, included, ~included).astype(float)
        guesses = guess(scores, included, num // 4, num // 4, rng)
        alarms["one_run_f_dp"] += f_dp_rejects(guesses, f, 0.05)
        alarms["one_run_steinke"] += steinke_p(guesses, epsilon, 0.0) <= 0.05
    return alarms


def whitebox_rate(
    epsilon: float, *, trials: int, break_plan=None, m: int = 500, alpha: float = 0.05, seed: int = 0
) -> int:
    """Counts VIOLATION verdicts of white-box audits of the real step, sound or broken."""
    from dpsynth.audit.planted_steps import example_plan
    from dpsynth.audit.types import Verdict
    from dpsynth.audit.whitebox import WhiteboxConfig, audit_whitebox

    plan = example_plan(TRAINING[epsilon])
    actual = break_plan(plan) if break_plan else None
    verdicts = [
        audit_whitebox(plan, actual=actual, config=WhiteboxConfig(m=m, alpha=alpha, seed=seed + i)).verdict
        for i in range(trials)
    ]
    return sum(v is Verdict.VIOLATION for v in verdicts)


def release_p_values(
    *, trials: int, seed: int = 0, rows: int = 400, epsilon: float | None = None
) -> tuple[np.ndarray, int]:
    """Audits tables made without the members; returns p-values of one attack, and alarms.

    Args:
      epsilon: of the claim under test, 1 or 0 for `no trace`; None alternates between both.
    """
    from dpsynth.audit.planted import population
    from dpsynth.audit.release import ReleaseConfig, audit_release
    from dpsynth.audit.types import Claim, Verdict

    f, p_values, alarms = gaussian(GAUSSIANS[1.0]), [], 0
    for i in range(trials):
        rng = np.random.default_rng([seed, 5, i])
        members, others, synthetic, reference = (population(n, rng) for n in (rows, rows, 3 * rows, 2 * rows))
        config = ReleaseConfig(planted_repeats=1, seed=i)
        claim = Claim(epsilon=1.0, f=f) if (i % 2 if epsilon is None else epsilon) else Claim()
        result = audit_release(synthetic, members, others, reference=reference, claim=claim, config=config)
        alarms += result.verdict is Verdict.VIOLATION
        p_values += [
            x.statistics["perm_p"] for x in result.findings if (x.attack, x.stratum) == ("domias", "random")
        ]
    return np.array(p_values), alarms


def shadow_rate(
    *, trials: int, leaky: bool = False, rows: int = 80, num: int = 8, seed: int = 0
) -> dict[str, int]:
    """Counts p-values at or below 0.05 of the attacks by shadow releases.

    The method under attack draws rows from the population, or copies a quarter of its table as well.
    """
    from dpsynth.audit.attacks.shadow import shadow_attacks
    from dpsynth.audit.attacks.space import World
    from dpsynth.audit.planted import copy_members, population

    def method(table, seed: int):
        rng = np.random.default_rng([7, seed])
        synthetic = population(3 * rows, rng)
        return copy_members(synthetic, table, 0.25, rng) if leaky else synthetic

    alarms = dict.fromkeys(SHADOWS, 0)
    for i in range(trials):
        rng = np.random.default_rng([seed, 6, i])
        targets, reference = population(2 * rows, rng), population(rows, rng)
        included = rng.random(len(targets)) < 0.5
        released = method(targets[included], 10_000 + i)
        world = World.of(targets, released, reference)
        for attack in shadow_attacks(method, num=num):
            scores = attack.score(world, rng)
            alarms[attack.name] += permutation_p(scores, included, rng=rng, n=999, exact=True) <= 0.05
    return alarms
