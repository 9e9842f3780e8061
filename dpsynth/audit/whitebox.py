"""One-run audit of the real DP step with gradient canaries.

The attacker of DP-SGD's own proof sees every noised gradient. It gets what it could wish for: each canary's
gradient points along a direction of its own with the largest norm, so that the coordinates of the noisy sum
are independent experiments, one per canary, in a single run. Units are made up, so nothing private is read
and nothing needs to be charged; everything else (sampling, clipping, noise, division, the optimizer) is
`dpsynth.privacy.training` at work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit.stats import bounds, roc
from dpsynth.audit.stats.claim import ClaimTest, claim_test, power
from dpsynth.audit.stats.one_run import eps_f_dp, eps_steinke, guess
from dpsynth.audit.stats.tradeoff import TradeOff, subsampled_gaussian
from dpsynth.audit.types import AuditResult, Claim, Finding, ThreatModel, decide

if TYPE_CHECKING:
    from dpsynth.privacy.plan import TrainingPlan
    from dpsynth.privacy.progress import TrainingLog

_LOUD = 10.0  # canary gradients before clipping, in clipping norms


@dataclass(frozen=True, kw_only=True)
class WhiteboxConfig:
    """How the step is audited (conf/audit). All public.

    Args:
      m: canaries; also the number of parameters of the audited step.
      steps: at most this many of the plan's steps are taken; the claim is cut accordingly.
      k_share: share of canaries called member, and share called non-member, in one-run tests.
      alpha: error rate of the verdict and of the bounds.
      seed: public: coins of the canaries. The step's own noise never depends on it.
    """

    m: int = 1000
    steps: int = 100
    k_share: float = 0.25
    alpha: float = 0.05
    seed: int = 0


class _CanaryObjective:
    """An objective whose unit i has the gradient `units[i]`; shows the attacker each noised sum."""

    def __init__(self, num: int, plan: TrainingPlan, watch: Any):
        import torch
        from torch import nn

        self.private = nn.Linear(num, 1, bias=False)
        nn.init.zeros_(self.private.weight)
        self._optimizer = torch.optim.SGD(self.private.parameters(), lr=1.0)
        self._scale = -plan.expected_batch_size / plan.max_grad_norm
        self._watch, self._norm = watch, _LOUD * plan.max_grad_norm

    def private_optimizer(self):
        return self._optimizer

    def example_units(self, num, draw):
        import torch

        rows = torch.arange(num) % self.private.in_features
        return self._norm * torch.eye(self.private.in_features)[rows] * (1 + torch.arange(num) // 7)[:, None]

    def unit_losses(self, units, draw):
        return self.private(units)[:, 0]

    def generated_losses(self, num, draw):
        return None

    def penalty(self, num, draw):
        return None

    def after_step(self):
        """The step was -noised sum / divisor: read it in clipping norms, and start again from zero."""
        weight = self.private.weight.data
        self._watch((weight[0] * self._scale).numpy().astype(np.float64))
        weight.zero_()

    def public_step(self, step, draw):
        pass

    def state(self):
        return {"private": self.private.state_dict()}

    def load_state(self, state):
        self.private.load_state_dict(state["private"])


class _NothingToCharge:
    """Stands in for a ledger: the units are made up, so no one's privacy is spent."""

    id = "synthetic canaries"

    def charge(self, name: str):
        return None

    def void(self, reason: str) -> None:
        pass


def trace_scores(
    claimed: TrainingPlan, actual: TrainingPlan, included: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, TrainingLog]:
    """Trains on the included canaries under `actual` and scores all by the claimed likelihood ratio.

    Returns (scores, log of the training); score_i = sum over steps of log(1 - q + q exp((x_i - 1/2) / s^2))
    with x the noised sum in clipping norms, q and s the claimed rate and noise multiplier.
    """
    import torch

    from dpsynth.privacy.noise import make_entropy
    from dpsynth.privacy.training import train

    q, sigma = claimed.sample_rate, max(claimed.noise_multiplier, 1e-3)
    scores = np.zeros(len(included))

    def watch(sums: np.ndarray) -> None:
        exponent = np.clip((sums - 0.5) / sigma**2, -700, 700)
        scores.__iadd__(np.logaddexp(np.log1p(-q) if q < 1 else -np.inf, np.log(q) + exponent))

    objective = _CanaryObjective(len(included), actual, watch)
    rows = torch.from_numpy(np.flatnonzero(included))
    units = torch.zeros(len(rows), len(included))
    units[torch.arange(len(rows)), rows] = _LOUD * claimed.max_grad_norm
    log = train(objective, units, actual, _NothingToCharge(), make_entropy(actual.noise), seed=seed)
    return scores, log


def auditable(plan: TrainingPlan, config: WhiteboxConfig) -> tuple[TrainingPlan, TradeOff, TradeOff]:
    """Returns (plan of the audit, its curve, the curve with the noise halved).

    Takes the first `config.steps` steps of the plan. Where these are too few to tell halved noise from the
    claim, as with small sampling rates, every canary takes part in every step instead (rate 1, the plan's
    noise and clip): the sampler is then tested by itself, in `dpsynth.audit.conformance`.
    """
    steps = min(plan.steps, config.steps)
    small = replace(
        plan, steps=steps, expected_batch_size=max(1.0, plan.sample_rate * config.m / 2), device="cpu"
    )
    f = subsampled_gaussian(plan.noise_multiplier, plan.sample_rate, steps)
    broken = subsampled_gaussian(plan.noise_multiplier / 2, plan.sample_rate, steps)
    rng, half = np.random.default_rng(0), config.m // 2
    if power(f, broken, half, half, alpha=config.alpha, rng=rng) >= 0.95 or plan.sample_rate == 1.0:
        return small, f, broken
    steps = max(1, min(500, round(1.2 * plan.noise_multiplier**2)))
    full = replace(small, steps=steps, sample_rate=1.0, expected_batch_size=config.m / 2)
    return full, *(subsampled_gaussian(plan.noise_multiplier / x, 1.0, steps) for x in (1, 2))


def audit_whitebox(
    plan: TrainingPlan,
    *,
    actual: TrainingPlan | None = None,
    delta: float = 1e-5,
    config: WhiteboxConfig = WhiteboxConfig(),  # noqa: B008 - frozen
) -> AuditResult:
    """Audits the training step against the plan it claims to follow; see `audit_step`."""
    return audit_step(plan, actual=actual, delta=delta, config=config)[0]


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
    statistics = _statistics(a, b, scores, included, f, delta, config, rng)
    statistics |= {"claim_p": test.p_value, "power_sigma_half": caught}
    epsilon, seconds = f.epsilon(delta), time.perf_counter() - start
    best = max(statistics["eps_lo_onerun"], statistics["eps_lo_cp"])
    reason = _reason(test, caught)
    fpr, tpr = roc.roc_curve(a, b)
    keep = np.unique(np.linspace(0, len(fpr) - 1, 300).astype(int))
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
            "roc": {"gradient": {"fpr": fpr[keep].tolist(), "tpr": tpr[keep].tolist()}},
        },
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


def _statistics(a, b, scores, included, f, delta, config, rng) -> dict[str, float]:
    """Returns every statistic of one trace by its metric name."""
    alpha = config.alpha
    interval, k = roc.auc(a, b).interval(), int(config.k_share * len(scores))
    guesses = guess(scores, included, k, k, rng)
    steinke, fdp = (bound(guesses, delta=delta, alpha=alpha) for bound in (eps_steinke, eps_f_dp))
    errors = bounds.split_errors(a, b, rng, alpha=alpha)
    plain, gdp = (
        bound(errors, delta=delta, alpha=alpha) for bound in (bounds.eps_clopper_pearson, bounds.eps_gdp)
    )
    posterior = bounds.eps_posterior(errors, delta=delta, rng=rng)
    out = {
        "auc": interval.value,
        "auc_lo": interval.lower,
        "auc_hi": interval.upper,
        "auc_ceiling": f.auc_ceiling(),
        "eps_lo_cp": plain.value,
        "eps_lo_gdp": gdp.value,
        "eps_lo_onerun": steinke.value,
        "eps_lo_onerun_fdp": fdp.value,
        "eps_post_q05": posterior.lower,
        "eps_post_q95": posterior.upper,
        "eps_max_auditable": plain.ceiling,
        "eps_max_auditable_gdp": gdp.ceiling,
        "eps_max_auditable_onerun": steinke.ceiling,
        "eps_max_auditable_onerun_fdp": fdp.ceiling,
    }
    for fpr, name in ((0.01, "1pct"), (0.001, "0p1pct")):
        at = roc.tpr_at_fpr(a, b, fpr)
        out |= {
            f"tpr_at_fpr_{name}": at.value,
            f"tpr_at_fpr_{name}_lo": at.lower,
            f"tpr_at_fpr_{name}_hi": at.upper,
        }
    return out
