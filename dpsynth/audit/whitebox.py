"""One-run audit of the real DP step with gradient canaries (`dpsynth.audit.trace`).

The attacker of DP-SGD's own proof sees every noised gradient; what it can tell from them is held against the
curve of the plan, and turned into lower bounds on epsilon.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from dpsynth.audit import curves
from dpsynth.audit.configs import WhiteboxConfig
from dpsynth.audit.stats import bounds, common, roc
from dpsynth.audit.stats.claim import ClaimTest, claim_test, power, smallest_rejected
from dpsynth.audit.stats.one_run import eps_f_dp, eps_steinke, guess
from dpsynth.audit.stats.tradeoff import TradeOff, allowed, gaussian, subsampled_gaussian
from dpsynth.audit.trace import trace_scores
from dpsynth.audit.types import AuditResult, Claim, Finding, ThreatModel, decide, score_table
from dpsynth.audit.units import told_of_training

if TYPE_CHECKING:
    from dpsynth.privacy.plan.plan import TrainingPlan
    from dpsynth.privacy.training.progress import TrainingLog

_SEPARATION = 2.0  # of a canary's worlds in noise stddevs: an AUC of 0.92, where noise is measured best
_MOST_STEPS = 400


def auditable(plan: TrainingPlan, config: WhiteboxConfig) -> tuple[TrainingPlan, TradeOff, TradeOff]:
    """Returns (plan of the audit, its curve, the curve with the noise halved).

    Takes the whole plan when it has at most `config.steps` steps and these tell halved noise from the claim.
    Otherwise every canary takes part in every step (rate 1, the plan's noise and clip, as many steps as show
    the noise best): the sampler is then tested by itself, in `dpsynth.audit.conformance`.
    """
    divisor = max(1.0, plan.sample_rate * config.m / 2)
    whole = replace(plan, expected_batch_size=divisor, device="cpu")
    if plan.steps <= config.steps:
        f, broken = curve_of(whole, 1.0), curve_of(whole, 0.5)
        rng, half = np.random.default_rng(0), config.m // 2
        if power(f, broken, half, half, alpha=config.alpha, rng=rng) >= 0.95 or plan.sample_rate == 1.0:
            return whole, f, broken
    steps = min(_MOST_STEPS, max(1, round(_SEPARATION**2 * plan.noise_multiplier**2)))
    full = replace(whole, steps=steps, sample_rate=1.0, expected_batch_size=config.m / 2)
    return full, curve_of(full, 1.0), curve_of(full, 0.5)


def curve_of(plan: TrainingPlan, factor: float, interval: float | None = None) -> TradeOff:
    """Returns the curve of a plan's training with `factor` times its noise."""
    noise_multiplier = plan.noise_multiplier * factor
    if plan.sample_rate == 1.0:
        return gaussian(np.sqrt(plan.steps) / noise_multiplier)
    return subsampled_gaussian(noise_multiplier, plan.sample_rate, plan.steps, interval)


def audit_whitebox(
    plan: TrainingPlan,
    *,
    actual: TrainingPlan | None = None,
    delta: float = 1e-5,
    config: WhiteboxConfig = WhiteboxConfig(),  # noqa: B008 - frozen
) -> AuditResult:
    """Audits the training step against the plan it claims to follow; see `audit_step`.

    Where the step was audited by another rate and number of steps than the plan's, the noise that was seen is
    put into the plan's own: `eps_theory` and `eps_lo_best` speak of the whole training.
    """
    result, _ = audit_step(plan, actual=actual, delta=delta, config=config)
    result = replace(result, summary={**result.summary, **_told_of(plan, result, delta)})
    audited = (result.params["sample_rate"], result.params["steps"])
    if audited == (plan.sample_rate, plan.steps):
        return result
    noise = result.findings[0].statistics["noise_at_most"]
    theory = curve_of(plan, 1.0).epsilon(delta)
    shown = curve_of(plan, noise).epsilon(delta) if np.isfinite(noise) else 0.0
    summary = {"eps_theory_step": result.summary["eps_theory"], "eps_lo_step": result.summary["eps_lo_best"]}
    summary = {**result.summary, **summary, "eps_theory": theory, "eps_lo_best": shown}
    words = (
        f" Every canary took part in {audited[1]} steps, where noise shows best: epsilon "
        f"{summary['eps_theory_step']:.3g} by itself. In the plan's {plan.steps} steps at rate "
        f"{plan.sample_rate:.3g} the noise that was seen means at least {shown:.3g} of {theory:.3g}."
    )
    return replace(result, reason=result.reason + words, summary=summary | {"gap": theory - shown})


def _told_of(plan: TrainingPlan, result: AuditResult, delta: float) -> dict[str, float]:
    """Returns the bounds on the audited step in units of the plan's whole training."""
    step = as_audited(result, plan)
    return told_of_training(
        result.findings[0].statistics,
        step=lambda factor: curve_of(step, factor, 1e-2).epsilon(delta),
        training=lambda factor, grid: curve_of(plan, factor, grid).epsilon(delta),
    )


def as_audited(result: AuditResult, plan: TrainingPlan) -> TrainingPlan:
    """Returns the plan that a white-box audit ran: rate and steps as audited, the rest as claimed."""
    params = result.params
    return replace(
        plan,
        sample_rate=params["sample_rate"],
        steps=params["steps"],
        expected_batch_size=params["divisor"],
    )


def audit_step(
    plan: TrainingPlan,
    *,
    actual: TrainingPlan | None = None,
    delta: float = 1e-5,
    config: WhiteboxConfig = WhiteboxConfig(),  # noqa: B008 - frozen
) -> tuple[AuditResult, TrainingLog]:
    """Audits the training step; also returns the log of the audited training, for conformance.

    Formal guarantee: a step that follows its plan is called a violation with probability about `alpha` (AUC
    of independent coordinates against the ceiling of the claim's curve, in its own standard errors).

    Args:
      plan: the claim.
      actual: what is run; the plan itself unless a violation is planted.
    """
    start, rng = time.perf_counter(), np.random.default_rng(config.seed)
    claimed, f, broken = auditable(plan, config)
    run = claimed if actual is None else _transfer(plan, actual, claimed)
    included = rng.random(config.m) < 0.5
    scores, log = trace_scores(claimed, run, included, seed=config.seed)
    a, b = scores[included], scores[~included]

    test = claim_test(a, b, f, method="auc")
    caught = power(f, broken, len(a), len(b), alpha=config.alpha, rng=rng)
    verdict = decide(test.p_value, caught, alpha=config.alpha)
    ideal = curves.ideal_scores(claimed, rng)
    share = bounds.best_share(*ideal, config.m // 2, alpha=config.alpha)
    statistics = _statistics(a, b, scores, included, f, delta, share, config, rng)
    statistics |= {"claim_p": test.p_value, "power_sigma_half": caught}
    noise = _noise_bound(roc.auc(a, b), claimed, len(a), len(b), config.alpha)
    shown = curve_of(claimed, noise, interval=1e-3).epsilon(delta) if np.isfinite(noise) else 0.0
    statistics |= {"eps_lo_auc": shown, "noise_at_most": noise}
    statistics["eps_max_auditable_auc"] = _most_auditable(claimed, config.m, delta, config.alpha)
    epsilon, seconds = f.epsilon(delta), time.perf_counter() - start
    best = statistics["eps_lo_auc"]
    reason = _reason(test, caught)
    settings = {"delta": delta, "alpha": config.alpha, "k_share": config.k_share, "share": share}
    result = AuditResult(
        kind="whitebox",
        verdict=verdict,
        reason=reason,
        claim=Claim(epsilon=epsilon, delta=delta, f=f),
        p_value=test.p_value,
        power=caught,
        alternative="noise halved",
        findings=(
            Finding(
                attack="gradient",
                stratum="constructed",
                threat_model=ThreatModel.TRACE,
                statistics=statistics,
            ),
        ),
        summary={
            "eps_theory": epsilon,
            "eps_lo_best": best,
            "gap": epsilon - best,
            "claim_p_holm": test.p_value,
            "seconds": seconds,
            "n_train_runs": 1,
        },
        params={
            "threat_model": "trace",
            "n_tests": 1,
            "m": config.m,
            "k": int(config.k_share * config.m),
            "alpha": config.alpha,
            "delta": delta,
            "adjacency": "add_remove",
            "f_family": f.family,
            "sample_rate": claimed.sample_rate,
            "steps": claimed.steps,
            "noise_multiplier": claimed.noise_multiplier,
            "divisor": claimed.expected_batch_size,
            "backend": claimed.backend,
        },
        curves={
            "roc": {"gradient": curves.roc_points(a, b)},
            "allowed": allowed(f),
            "density": curves.densities(a, b, ideal),
            "convergence": curves.convergence(scores, included, **settings),
        },
        scores=score_table(np.arange(config.m), "constructed", included, {"gradient": scores}),
    )

    return result, log


def _reason(test: ClaimTest, caught: float) -> str:
    seen = f"AUC {test.statistic:.3f} against a ceiling of {test.ceiling:.3f} (p = {test.p_value:.2g})"
    return f"{seen}; halved noise would be caught with power {caught:.2f}."


def _transfer(plan: TrainingPlan, actual: TrainingPlan, claimed: TrainingPlan) -> TrainingPlan:
    """Breaks the audited plan the way `actual` breaks the plan: by the same factors."""
    return replace(
        claimed,
        noise_multiplier=claimed.noise_multiplier * actual.noise_multiplier / plan.noise_multiplier,
        max_grad_norm=claimed.max_grad_norm * actual.max_grad_norm / plan.max_grad_norm,
        sample_rate=min(1.0, claimed.sample_rate * actual.sample_rate / plan.sample_rate),
        steps=round(claimed.steps * actual.steps / plan.steps),
        backend=actual.backend,
    )


def _noise_bound(seen: roc.Auc, plan: TrainingPlan, num_in: int, num_out: int, alpha: float) -> float:
    """Returns an upper limit on the noise, in units of the plan's."""
    return smallest_rejected(
        seen, lambda factor: curve_of(plan, factor, interval=1e-2), num_in, num_out, alpha=alpha
    )


@lru_cache(maxsize=64)
def _most_auditable(plan: TrainingPlan, m: int, delta: float, alpha: float) -> float:
    """Returns the epsilon that `m` canaries told apart without a mistake would show."""
    flawless = roc.Auc(value=1.0, stderr=1 / m)
    noise = _noise_bound(flawless, plan, m // 2, m // 2, alpha)
    return curve_of(plan, noise, interval=1e-2).epsilon(delta)


def _statistics(a, b, scores, included, f, delta, share, config, rng) -> dict[str, float]:
    """Returns every statistic of one trace by its metric name."""
    alpha, k = config.alpha, int(config.k_share * len(scores))
    guesses = guess(scores, included, k, k, rng)
    steinke, fdp = (bound(guesses, delta=delta, alpha=alpha) for bound in (eps_steinke, eps_f_dp))
    errors = bounds.errors_at_share(a, b, share)
    return {
        **common.separation(scores, included, rng=rng),
        **common.bounds_at(errors, delta=delta, alpha=alpha, rng=rng),
        "auc_ceiling": f.auc_ceiling(),
        "eps_lo_onerun": steinke.value,
        "eps_lo_onerun_fdp": fdp.value,
        "eps_max_auditable_onerun": steinke.ceiling,
        "eps_max_auditable_onerun_fdp": fdp.ceiling,
    }
