"""Measures the auditor: how often it cries wolf on sound mechanisms, how often it catches broken ones.

`python -m dpsynth.audit.calibrate` prints both tables (some minutes); `--quick` takes a tenth of the trials.
Nothing here is shipped as a constant: the figures are measured anew on every machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping

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


def score_level(epsilon: float, *, trials: int, per_world: int = 200, seed: int = 0) -> dict[str, int]:
    """Counts rejections of the truth at alpha = 0.05 by every estimator, on exact Gaussian mechanisms.

    A bound rejects when it exceeds the true epsilon at delta.
    """
    f, rng = gaussian(GAUSSIANS[epsilon]), np.random.default_rng([seed, int(epsilon)])
    truth, n = f.epsilon(DELTA), per_world
    included, k = np.arange(2 * n) < n, n // 2
    names = (
        "claim_auc",
        "claim_point",
        "one_run_f_dp",
        "one_run_steinke",
        "clopper_pearson",
        "gdp",
        "gdp_share",
    )
    alarms = dict.fromkeys((*names, "permutation") if epsilon == 0 else names, 0)
    for _ in range(trials):
        a, b = f.ideal_scores(n, n, rng)
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


def release_p_values(*, trials: int, seed: int = 0, rows: int = 400) -> tuple[np.ndarray, int]:
    """Audits tables made without the members; returns p-values of one attack, and alarms."""
    from dpsynth.audit.planted import population
    from dpsynth.audit.release import ReleaseConfig, audit_release
    from dpsynth.audit.types import Claim, Verdict

    f, p_values, alarms = gaussian(GAUSSIANS[1.0]), [], 0
    for i in range(trials):
        rng = np.random.default_rng([seed, 5, i])
        members, others, synthetic, reference = (population(n, rng) for n in (rows, rows, 3 * rows, 2 * rows))
        config = ReleaseConfig(planted_repeats=1, seed=i)
        claim = (
            Claim(epsilon=1.0, f=f) if i % 2 else Claim()
        )  # half against epsilon = 1, half against no trace
        result = audit_release(synthetic, members, others, reference=reference, claim=claim, config=config)
        alarms += result.verdict is Verdict.VIOLATION
        p_values += [
            x.statistics["perm_p"] for x in result.findings if (x.attack, x.stratum) == ("domias", "random")
        ]
    return np.array(p_values), alarms


def zoo(*, repeats: int, seed: int = 0) -> dict[tuple[str, str], tuple[int, int]]:
    """Counts detections of every planted violation, and alarms on its sound twin."""
    from dpsynth.audit.planted import ZOO

    return {
        (v.name, v.detector): tuple(
            sum(v.detect(broken, seed + i) for i in range(repeats)) for broken in (True, False)
        )
        for v in ZOO
    }


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def _share(counts: Mapping[str, int], trials: int) -> list[str]:
    return [f"{v}/{trials} ({v / trials:.1%})" for v in counts.values()]


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--page", metavar="FILE", help="write the quantiles of p-values as HTML")
    asked = parser.parse_args(arguments)
    quick = asked.quick
    trials, repeats, start = (500, 5, time.time()) if quick else (5000, 20, time.time())
    print(f"False alarms at alpha = 0.05, {trials} score-level trials\n")
    for epsilon in GAUSSIANS:
        counts = score_level(epsilon, trials=trials)
        print(_row("epsilon", *counts), _row(epsilon, *_share(counts, trials)), sep="\n")
    for epsilon in (0.0, 1.0, 4.0):
        counts = coin_flip_level(epsilon, trials=trials)
        print(_row("randomised response", *counts), _row(epsilon, *_share(counts, trials)), sep="\n")
    audits = trials // 50
    for epsilon in TRAINING:
        m = 1000 if epsilon == 1.0 else 500
        alarms = whitebox_rate(epsilon, trials=audits, m=m)
        caught = whitebox_rate(epsilon, trials=2 * repeats, m=m, break_plan=_halve)
        print(f"white box, epsilon={epsilon}: {alarms}/{audits} alarms, noise halved {caught}/{2 * repeats}")
    p_values, alarms = release_p_values(trials=audits)
    if asked.page:
        from dpsynth.audit.plots import uniformity_plot

        uniformity_plot(p_values).write_html(asked.page)
    print(f"release of nobody's data: {alarms}/{audits} alarms, mean p {p_values.mean():.2f}\n")
    print(_row("violation", "detector", "caught", "alarms on the sound twin"))
    for (name, detector), (caught, alarms) in zoo(repeats=repeats).items():
        print(_row(name, detector, f"{caught}/{repeats}", f"{alarms}/{repeats}"), flush=True)
    print(f"\n{time.time() - start:.0f} s")
    return 0


def _halve(plan):
    from dpsynth.audit.planted_steps import scale_noise

    return scale_noise(plan, 0.5)


if __name__ == "__main__":
    sys.exit(main())
