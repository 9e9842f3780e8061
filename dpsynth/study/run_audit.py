"""The audit that every training run ends with: theory beside evidence, in seconds.

Everything here is internal: an audit is a function of the private table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.wording import up
from dpsynth.errors import GuaranteeVoid

if TYPE_CHECKING:
    from dpsynth.audit.types import AuditResult
    from dpsynth.config import RunConfig
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.pipeline import Run
    from dpsynth.tracking import Tracker

VERDICT, REASON = "internal/audit.verdict", "internal/audit.reason"  # tags
_KEPT = {"eps_theory": "claimed", "eps_lo_best": "audited"}


def audit_run(
    config: RunConfig, run: Run, train: PrivateTable, folder: Path, tracker: Tracker
) -> dict[str, Any]:
    """Audits a finished run and records the result; returns what a summary needs of it."""
    if config.audit.kind == "none":
        return conformance_alone(run, tracker)
    from dpsynth.audit.pictures import theory_and_evidence
    from dpsynth.audit.smoke import charged_events, smoke
    from dpsynth.audit.types import Claim

    release, plan, private = run.release, _constants(run), run.release.certificate["private"]
    claim = Claim(epsilon=release.certificate["epsilon"], delta=release.certificate["delta"])
    with tracker.timed("audit"):
        result = smoke(
            claim=claim if private else Claim(),
            events=charged_events(release.ledger) if private else (),
            plan=plan,
            log=run.training,
            release=folder / "release",
            train=train.reveal("audit of the run: search for its training rows in the release"),
            schema=train.schema,
            config=config.audit,
        )
        _write(result, folder / "audit", theory_and_evidence(result))
    tracker.metrics({f"internal/{name}": value for name, value in result.metrics().items()})
    tracker.tags({VERDICT: result.verdict.value, REASON: result.reason})
    known = config.flat()
    found = {k: v for k, v in result.params.items() if f"audit.{k}" not in known}
    tracker.params({f"internal/audit.{k}": v for k, v in found.items()})
    tracker.artifacts(folder / "audit", "internal/audit")
    return kept(result)


def conformance_alone(run: Run, tracker: Tracker) -> dict[str, Any]:
    """Holds the figures that training keeps anyway against its plan; costs nothing."""
    plan = _constants(run)
    if plan is None or run.training is None or run.training.conformance is None:
        return {}
    from dpsynth.audit.conformance import check_training

    held = check_training(run.training, plan)
    tracker.metrics({f"internal/audit/{name}": value for name, value in held.figures.items()})
    if not held.leaks:
        return {}
    tracker.tags({VERDICT: "VIOLATION", REASON: held.leaks[0].rule})
    return {"verdict": "VIOLATION", "reason": held.leaks[0].rule}


def _constants(run: Run):
    """The constants of private training with the divisor filled in; None where there was none."""
    if not run.release.certificate["private"] or run.plan.training is None:
        return None
    return run.plan.training.with_count(run.release.statistics.num_units)


def _write(result: AuditResult, folder: Path, picture: bytes) -> None:
    """Writes what `experiments.report` reads, and the picture."""
    folder.mkdir(exist_ok=True)
    body = {"results": [result.to_dict()], "metrics": result.metrics(), "exit_code": result.verdict.exit_code}
    (folder / "audit.json").write_text(json.dumps(body, indent=1, allow_nan=False), encoding="utf-8")
    (folder / "theory_and_evidence.png").write_bytes(picture)


def kept(result: AuditResult) -> dict[str, Any]:
    """Returns what a point of a sweep remembers of its audit."""
    from dpsynth.audit import units

    short = {"verdict": result.verdict.value, "reason": result.reason}
    short |= {name: result.summary[key] for key, name in _KEPT.items() if key in result.summary}
    if bounds := units.kept(result.summary):
        short["bounds"] = bounds
    for finding in result.findings:
        short |= {"auc": finding.statistics["auc"], "auc_ceiling": finding.statistics["auc_ceiling"]}
    return short


def cells(audit: Mapping[str, Any]) -> list[str]:
    """Returns theory and evidence of one run as cells under `HEADS`."""
    if not audit:
        return ["", "", "", ""]
    claimed = up(audit["claimed"], 3) if "claimed" in audit else "none"
    audited = f">= {audit['audited']:.3g}" if "audited" in audit else "-"
    auc = f"{audit['auc']:.3f} ({audit['auc_ceiling']:.3f})" if "auc" in audit else "-"
    return [claimed, audited, auc, audit["verdict"]]


HEADS = ("ε claimed", "ε audited", "AUC (ceiling)", "audit")


def sentence(audit: Mapping[str, Any]) -> str:
    """Says theory and evidence of one run in words."""
    claimed, _, _, verdict = cells(audit)
    words = f"Audit (internal): {verdict}."
    if "audited" in audit:
        words += f" ε claimed {claimed}, audited at least {audit['audited']:.3g}."
    if "auc" in audit:
        words += (
            f" Attack on the training step: AUC {audit['auc']:.3f} of {audit['auc_ceiling']:.3f} allowed."
        )
    return words if "audited" in audit and verdict != "VIOLATION" else f"{words} {audit['reason']}"


def refuse_violation(audit: Mapping[str, Any], release: str) -> None:
    """Ends a run in an error when its own audit says that the claim is false; all is recorded by then."""
    if audit.get("verdict") == "VIOLATION":
        raise GuaranteeVoid(f"The audit found a violation: {audit['reason']} Do not publish {release}.")
