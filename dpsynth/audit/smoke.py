"""The audit of every run: seconds, not minutes, and silent unless something is broken.

Holds the finished training against its plan, audits the training step of this plan with gradient canaries,
tests the noise of measurements, and searches the release for what has no business there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit.conformance import check_noise, check_training
from dpsynth.audit.invariance import check_extremes, scan
from dpsynth.audit.stats.tradeoff import from_events
from dpsynth.audit.types import AuditResult, Claim, Leak, Verdict, decide
from dpsynth.audit.whitebox import WhiteboxConfig, audit_step

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema
    from dpsynth.privacy.plan import TrainingPlan
    from dpsynth.privacy.progress import TrainingLog


@dataclass(frozen=True, kw_only=True)
class SmokeConfig:
    """What every run is checked for (conf/audit/smoke.yaml). All public.

    Args:
      m: gradient canaries.
      steps: of the plan, at most, that the white-box audit takes.
      alpha: false alarms of the white-box audit; small, since it runs with every point of every sweep.
      noise_values: measurements whose noise is tested.
      seed: public.
    """

    m: int = 500
    steps: int = 60
    alpha: float = 1e-4
    noise_values: int = 400
    seed: int = 0


def smoke(
    *,
    claim: Claim = Claim(),  # noqa: B008 - frozen
    plan: TrainingPlan | None = None,
    log: TrainingLog | None = None,
    release: str | Path | None = None,
    train: pd.DataFrame | None = None,
    schema: Schema | None = None,
    config: SmokeConfig = SmokeConfig(),  # noqa: B008 - frozen
) -> AuditResult:
    """Audits a finished run in seconds.

    Every part runs with what it is given and is left out otherwise.

    Args:
      claim: what the run states.
      plan: of its training, with the divisor filled in; None where nothing was trained by DP-SGD.
      log: of the training itself; None for a resumed or foreign run.
      release: folder of the release.
      train: private; searched for in the release.
      schema: declared facts that the release may hold.
    """
    start = time.perf_counter()
    leaks: list[Leak] = []
    summary: dict[str, float] = {}
    findings, curves, p_value, power, parts = (), {}, float("nan"), float("nan"), []
    if claim.epsilon is None or not np.isfinite(claim.epsilon):
        claim = Claim(delta=claim.delta)
    else:
        leaks += check_measurement_noise(config.noise_values)
        p_value, power = 1.0, 1.0  # of the tests with certain outcomes, at false alarms of 1e-6
        parts.append("measurement noise")
    if plan is not None and claim.epsilon is not None:
        whitebox, audited = audit_step(
            _small(plan),
            delta=claim.delta,
            config=WhiteboxConfig(m=config.m, steps=config.steps, alpha=config.alpha, seed=config.seed),
        )
        findings, curves = whitebox.findings, whitebox.curves
        p_value, power = whitebox.p_value, whitebox.power
        leaks += check_training(audited, whitebox_plan(whitebox, plan)).leaks
        summary |= {k: v for k, v in whitebox.summary.items() if k in ("claim_p_holm", "n_train_runs")}
        summary |= {
            "eps_theory_audited": whitebox.claim.epsilon,
            "eps_lo_best": whitebox.summary["eps_lo_best"],
        }
        parts.append("training step")
    if plan is not None and log is not None and log.conformance is not None:
        held = check_training(log, plan)
        leaks += held.leaks
        summary |= held.figures
        parts.append("finished training")
    if release is not None and train is not None:
        found = _search(Path(release), train, schema)
        leaks += found
        summary["invariance_leaks"] = len(found)
        parts.append("release files")
    if claim.epsilon is None:
        verdict = Verdict.VIOLATION if leaks else Verdict.INCONCLUSIVE
    else:
        summary["eps_theory"] = claim.epsilon
        summary["gap"] = claim.epsilon - summary.get("eps_lo_best", 0.0)
        verdict = Verdict.VIOLATION if leaks else decide(p_value, power, alpha=config.alpha)
    summary["seconds"] = time.perf_counter() - start
    return AuditResult(
        kind="smoke",
        verdict=verdict,
        reason=_reason(verdict, leaks, parts, claim, power),
        claim=claim,
        p_value=p_value,
        power=power,
        alternative="noise halved",
        findings=findings,
        leaks=tuple(leaks),
        summary=summary,
        params={"m": config.m, "alpha": config.alpha, "delta": claim.delta, "f_family": claim.family},
        curves=curves,
    )


def _small(plan: TrainingPlan) -> TrainingPlan:
    """The audited step works on vectors of `m` numbers: its batches fit wherever it runs."""
    return replace(plan, physical_batch_size=4096, device="cpu")


def whitebox_plan(result: AuditResult, plan: TrainingPlan) -> TrainingPlan:
    """Returns the plan that a white-box audit ran: rate and steps as audited, the rest as claimed."""
    params = result.params
    return replace(
        plan,
        sample_rate=params["sample_rate"],
        steps=params["steps"],
        expected_batch_size=params["divisor"],
    )


def check_measurement_noise(num: int, *, noise_stddev: float = 8.0) -> list[Leak]:
    """Tests the variance of the noise that measurements get, on made-up counts: sees halved noise."""
    from dpsynth.privacy.noise import AesEntropy, exact_gaussian

    noise = exact_gaussian(np.zeros(num, dtype=np.int64), noise_stddev, entropy=AesEntropy())
    return check_noise(float(np.mean(noise**2)), 1, num, noise_stddev)


def _search(release: Path, train: pd.DataFrame, schema: Schema | None) -> list[Leak]:
    """Rows, seeds and exact extremes in the files of a release; its rows are the release audit's business."""
    unit = schema.unit.column if schema is not None else None
    leaks = scan(release, train, unit=unit, allow=("synthetic.parquet",), count=False)
    facts = release / "release.json"
    if facts.is_file() and schema is not None:
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
    from dpsynth.privacy.records import event_from_dict

    if not certificate.get("private"):
        return Claim()
    charged = {r["event"] for r in records if r["kind"] == "charge"}
    events = [event_from_dict(e["event"]) for e in records[0]["plan"]["events"] if e["name"] in charged]
    return Claim(epsilon=certificate["epsilon"], delta=certificate["delta"], f=from_events(events))


def _reason(verdict: Verdict, leaks, parts, claim: Claim, power: float) -> str:
    if leaks:
        return f"{leaks[0].where}: {leaks[0].rule}" + (
            f" And {len(leaks) - 1} more." if len(leaks) > 1 else ""
        )
    if claim.epsilon is None:
        return "There is no private claim to audit."
    if verdict is Verdict.VIOLATION:
        return "The training step leaks more than its plan allows."
    return f"Checked {', '.join(parts)}; halved noise would be caught with power {power:.2f}."
