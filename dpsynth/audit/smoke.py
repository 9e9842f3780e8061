"""The audit of every run: seconds, not minutes, and silent unless something is broken.

Measures the noise of purchases, audits the training step of this plan with gradient canaries, holds the
finished training against its plan, and searches the release for what has no business there.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.audit.configs import SmokeConfig, WhiteboxConfig
from dpsynth.audit.conformance import check_training
from dpsynth.audit.evidence import epsilon_of, purchase_noise
from dpsynth.audit.invariance import check_extremes, scan
from dpsynth.audit.stats.tradeoff import from_events
from dpsynth.audit.types import AuditResult, Claim, Leak, Verdict, decide
from dpsynth.audit.units import told_of_training
from dpsynth.audit.whitebox import as_audited, audit_step, curve_of

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema
    from dpsynth.privacy.plan.plan import TrainingPlan
    from dpsynth.privacy.training.progress import TrainingLog


def smoke(
    *,
    claim: Claim = Claim(),  # noqa: B008 - frozen
    events: Sequence[Mapping[str, Any]] = (),
    plan: TrainingPlan | None = None,
    log: TrainingLog | None = None,
    release: str | Path | None = None,
    train: pd.DataFrame | None = None,
    schema: Schema | None = None,
    config: SmokeConfig = SmokeConfig(),  # noqa: B008 - frozen
) -> AuditResult:
    """Audits a finished run in seconds.

    Every part runs with what it is given and is left out otherwise. `eps_lo_best` is the least epsilon that
    the noise seen in purchases and in the training step can have (`dpsynth.audit.evidence`), at error
    `alpha`.
    Without a private claim only the files of the release are searched.

    Args:
      claim: what the run states.
      events: that were charged, as a ledger's plan lists them.
      plan: of the training, with the divisor filled in; None where nothing was trained by DP-SGD.
      log: of the training itself; None for a resumed or foreign run.
      release: folder of the release.
      train: private; searched for in the release.
      schema: declared facts that the release may hold.
    """
    start = time.perf_counter()
    private = claim.epsilon is not None and math.isfinite(claim.epsilon)
    claim = claim if private else Claim(delta=claim.delta)
    leaks: list[Leak] = []
    summary: dict[str, float] = {}
    noise: dict[str, float] = {}
    whitebox, parts = None, []
    level = config.alpha / (1 + len(events))  # all limits hold together
    if private and events:
        noise, leaks = purchase_noise(events, num=config.noise_values, alpha=level)
        parts += ["noise of purchases"] if noise else []
    if private and plan is not None:
        settings = WhiteboxConfig(m=config.m, steps=config.steps, alpha=level, seed=config.seed)
        whitebox, audited = audit_step(_small(plan), delta=claim.delta, config=settings)
        leaks += check_training(audited, as_audited(whitebox, plan)).leaks
        (finding,) = whitebox.findings
        noise |= {e["name"]: finding.statistics["noise_at_most"] for e in events if e["name"] == "training"}
        summary |= {"eps_theory_step": whitebox.claim.epsilon, "claim_p_holm": whitebox.p_value}
        parts.append("training step")
    if private and plan is not None and log is not None and log.conformance is not None:
        held = check_training(log, plan)
        leaks += held.leaks
        summary |= held.figures
        parts.append("finished training")
    if release is not None and train is not None:
        found = _search(Path(release), train, schema, private)
        leaks += found
        summary["invariance_leaks"] = len(found)
        parts.append("release files")
    tested = bool(noise) or whitebox is not None
    # Of tests with certain outcomes, at false alarms of 1e-6.
    p_value, power = (1.0, 1.0) if whitebox is None else (whitebox.p_value, whitebox.power)
    if private and noise:
        shown = epsilon_of(events, noise, claim.delta)
        summary |= {"eps_theory": claim.epsilon, "eps_lo_best": shown, "gap": claim.epsilon - shown}
        if "training" in noise:
            summary |= _told(whitebox, plan, events, claim.delta)
    verdict = Verdict.INCONCLUSIVE
    if leaks:
        verdict = Verdict.VIOLATION
    elif tested:
        verdict = decide(p_value, power, alpha=level)
    summary["seconds"] = time.perf_counter() - start
    params = dict(whitebox.params if whitebox else {}) | {"alpha": config.alpha, "delta": claim.delta}
    return AuditResult(
        kind="smoke",
        verdict=verdict,
        reason=_reason(verdict, leaks, parts, claim, power, tested),
        claim=claim,
        p_value=p_value if tested else float("nan"),
        power=power if tested else float("nan"),
        alternative="noise halved",
        findings=() if whitebox is None else whitebox.findings,
        leaks=tuple(leaks),
        summary=summary,
        params=params | {"n_tests": len(noise)},
        curves={} if whitebox is None else whitebox.curves,
    )


def _small(plan: TrainingPlan) -> TrainingPlan:
    """The audited step works on vectors of `m` numbers: its batches fit wherever it runs; it never looks."""
    alone = {"validation_looks": 0, "validation_noise_multiplier": None}
    return replace(plan, physical_batch_size=4096, device="cpu", **alone)


def _told(result: AuditResult, plan: TrainingPlan, events, delta: float) -> dict[str, float]:
    """Every estimator's bound on the training step, for the whole training."""
    step, own = as_audited(result, plan), [e for e in events if e["name"] == "training"]
    return told_of_training(
        result.findings[0].statistics,
        step=lambda factor: curve_of(step, factor, 1e-2).epsilon(delta),
        training=lambda factor, grid: epsilon_of(own, {"training": factor}, delta, grid),
    )


def _search(release: Path, train: pd.DataFrame, schema: Schema | None, private: bool) -> list[Leak]:
    """Rows and seeds in the files of a release, and exact extremes where a claim forbids them.

    The synthetic rows themselves are the release audit's business.
    """
    unit = schema.unit.column if schema is not None else None
    leaks = scan(release, train, unit=unit, allow=("synthetic.parquet",), count=False)
    facts = release / "release.json"
    if private and facts.is_file() and schema is not None:
        modelled = [c.name for c in schema.modelled if c.name in train.columns]
        content = json.loads(facts.read_text(encoding="utf-8"))
        leaks += check_extremes(_without(content, "schema"), train[modelled], declared=declared(schema))
    return leaks


def _without(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in content.items() if k != key}


def declared(schema: Schema) -> dict[str, tuple]:
    """Returns what the schema makes public about each column: bounds and values."""
    facts: dict[str, tuple] = {}
    for column in schema.columns:
        bounds = tuple(getattr(column, key, None) for key in ("min", "max"))
        values = getattr(column, "values", None) or ()
        facts[column.name] = tuple(v for v in (*bounds, *values) if v is not None)
    return facts


def claim_of(certificate: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Claim:
    """Returns the claim of a release with the curve of its ledger; no curve for a non-private or void one."""
    from dpsynth.privacy.accounting.events import event_from_dict

    if not certificate.get("private"):
        return Claim()
    events = [event_from_dict(event["event"]) for event in charged_events(records)]
    return Claim(epsilon=certificate["epsilon"], delta=certificate["delta"], f=from_events(events))


def charged_events(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the events of a ledger's plan that were charged."""
    charged = {r["event"] for r in records if r["kind"] == "charge"}
    return [event for event in records[0]["plan"]["events"] if event["name"] in charged]


def _reason(verdict: Verdict, leaks, parts, claim: Claim, power: float, tested: bool) -> str:
    if leaks:
        more = f" And {len(leaks) - 1} more." if len(leaks) > 1 else ""
        return f"{leaks[0].where}: {leaks[0].rule}{more}"
    checked = f"Checked {', '.join(parts)}" if parts else "Nothing was checked"
    if claim.epsilon is None:
        return f"There is no private claim to audit. {checked}."
    if verdict is Verdict.VIOLATION:
        return "The training step leaks more than its plan allows."
    return f"{checked}; halved noise would be caught with power {power:.2f}." if tested else f"{checked}."
