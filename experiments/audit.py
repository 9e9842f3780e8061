"""Attacks a release: `python -m experiments.audit release=DIR members=FILE reference=FILE audit=release`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from dpsynth.errors import DpsynthError, InvalidInput, Problem
from dpsynth.study.audit import scores
from dpsynth.study.audit.material import Material, again, gather, targets
from dpsynth.study.audit.request import AuditRequest, checked, settings
from dpsynth.study.run_audit import VERDICT

from .command_line import run

if TYPE_CHECKING:
    from dpsynth.audit.types import AuditResult


def run_one(kind: str, config: Any, request: AuditRequest, material: Material) -> AuditResult:
    """Runs one audit."""
    if kind == "smoke":
        from dpsynth.audit.smoke import smoke

        return smoke(
            claim=material.claim,
            events=material.events,
            plan=material.plan,
            release=request.release,
            train=material.train,
            schema=material.schema,
            config=config,
        )
    if kind == "whitebox":
        from dpsynth.audit.whitebox import audit_whitebox

        if material.plan is None:
            rule = "Nothing in this release was trained under privacy."
            raise InvalidInput("the white-box audit", [Problem("release", rule, "Choose audit=release.")])
        return audit_whitebox(material.plan, delta=material.claim.delta, config=config)
    if kind == "multirun":
        from dpsynth.study.audit.game import play

        return play(material.recipe, material.claim, config)
    from dpsynth.audit.release import audit_release

    try:
        result = audit_release(
            **targets(request, material, config.seed),
            claim=material.claim,
            model=material.model,
            fit_sample=again(request, material.schema) if config.shadows else None,
            config=config,
        )
    except InvalidInput as error:
        if request.nonmembers is not None or material.canary_plan is not None:
            raise
        raise InvalidInput(error.subject, _of_reference(error.problems)) from None
    coins = {} if material.canary_plan is None else {"plan_sha256": material.canary_plan}
    return replace(result, params={**result.params, **coins})


def _of_reference(problems: Sequence[Problem]) -> list[Problem]:
    """Speaks of the file that was given: half of it are the non-members."""
    told = [replace(p, where=p.where.replace("nonmembers", "reference")) for p in problems]
    return list(dict.fromkeys(told))


def kinds_of(request: AuditRequest, material: Material) -> dict[str, dict[str, Any]]:
    """Returns which audits to run, with their settings: of `full` all that the material allows."""
    if request.kind != "full":
        return {request.kind: request.audit}
    kinds = {"smoke": request.audit["smoke"]}
    if material.plan is not None:
        kinds["whitebox"] = request.audit["whitebox"]
    if {"members", "reference"} <= material.tables.keys():
        kinds["release"] = request.audit["release"]
    if request.audit.get("with_multirun"):
        kinds["multirun"] = request.audit["multirun"]
    beside = max(1, len(kinds) - 1)  # smoke has a small level of its own
    return {k: v if k == "smoke" else {**v, "alpha": v["alpha"] / beside} for k, v in kinds.items()}


def audit(request: AuditRequest, material: Material) -> tuple[list[AuditResult], int]:
    """Runs what is asked for; returns the results and the exit code of the worst verdict.

    Formal guarantee: several audits share their level, so that `full` calls a sound release a violation no
    more often than its parts each would alone.
    """
    from dpsynth.audit.types import worst

    kinds = kinds_of(request, material)
    results = [run_one(k, settings(k, v)[0], request, material) for k, v in kinds.items()]
    return results, worst(*(r.verdict for r in results)).exit_code


def metrics(results: Sequence[AuditResult]) -> dict[str, float]:
    """Returns the figures of all results by the names under which a tracker logs them.

    Of figures that several audits have, the run has the strongest: the highest bound on epsilon, the lowest
    p-value; and the sum of seconds and runs.
    """
    named: dict[str, float] = {}
    for result in results:
        for name, value in result.metrics().items():
            combine = _COMBINED.get(name)
            named[name] = combine(named[name], value) if combine and name in named else value
    if {"audit/eps_theory", "audit/eps_lo_best"} <= named.keys():
        named["audit/gap"] = named["audit/eps_theory"] - named["audit/eps_lo_best"]
    return named


_COMBINED = {
    "audit/eps_theory": max,
    "audit/eps_lo_best": max,
    "audit/claim_p_holm": min,
    "audit/seconds": float.__add__,
    "audit/n_train_runs": float.__add__,
}


def job(node: DictConfig) -> int:
    """Audits, writes `audit.json` and `audit.html`, prints the verdicts; returns the exit code."""
    from dpsynth import tracking
    from dpsynth.data.tables.untrusted import CHECKED

    request = checked(node)
    with tracking.track(request.tracking, f"audit={request.kind} {request.release}") as tracker:
        material = gather(request)
        results, code = audit(request, material)
        _write(request, material, results, code)
        tracker.metrics({f"internal/{name}": value for name, value in metrics(results).items()})
        for result in results:
            head = "internal/audit" if len(results) == 1 else f"internal/audit.{result.kind}"
            tracker.params({f"{head}.{k}": v for k, v in result.params.items()})
            tracker.tags({f"{head}.verdict": result.verdict.value, f"{head}.reason": result.reason})
        tracker.tags({"dpsynth.kind": "audit", VERDICT: worst_of(results), "audit.release": request.release})
        tracker.artifacts(request.folder, "internal/audit")
    asked = kinds_of(request, material)
    files = {kind: v["scores"] for kind, v in asked.items() if v.get("scores")}
    for result in results:
        print(f"{result.kind}: {result.verdict.value}. {result.reason}")
    for path in scores.write(results, files):
        print(f"Internal, for you alone: single scores in {path}")
    print(f"Internal: {request.folder / 'audit.json'} and audit.html")
    if not request.foreign:
        print(CHECKED)
    return code


def worst_of(results: Sequence[AuditResult]) -> str:
    """Returns the worst verdict."""
    from dpsynth.audit.types import worst

    return worst(*(r.verdict for r in results)).value


def _write(request: AuditRequest, material: Material, results: Sequence[AuditResult], code: int) -> None:
    from dpsynth.audit import page

    folder = request.folder
    folder.mkdir(parents=True, exist_ok=True)
    body = {"results": [r.to_dict() for r in results], "metrics": metrics(results), "exit_code": code}
    (folder / "audit.json").write_text(json.dumps(body, indent=1, allow_nan=False), encoding="utf-8")
    title = f"Audit of {Path(request.release).name}"
    page.write(results, folder / "audit.html", title=title, claim=material.claim)


def outcome(node: DictConfig) -> int:
    """Returns the exit code of the verdict, or of an error that it prints: Hydra would add advice."""
    try:
        return job(node)
    except DpsynthError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InvalidInput) else 1


def main() -> None:
    """Ends with the exit code of the verdict."""
    codes: list[int] = []
    run(lambda node: codes.append(outcome(node)), "audit", checked=checked)
    sys.exit(max(codes, default=0))


if __name__ == "__main__":
    main()
