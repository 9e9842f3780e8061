"""What an audit takes and gives: threat models, verdicts, scores, findings, results."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np


class ThreatModel(StrEnum):
    """What the attacker holds."""

    DATA_ONLY = "data_only"  # the synthetic table
    DATA_REF = "data_ref"  # and a sample of the same population
    QUERY = "query"  # can run the whole algorithm again
    MODEL = "model"  # the released weights
    TRACE = "trace"  # every noised gradient: the adversary of DP-SGD's proof
    ACTIVE = "active"  # chooses the data
    ARTIFACTS = "artifacts"  # everything else that a run leaves behind


class Verdict(StrEnum):
    """What an audit concludes; never `private`.

    VIOLATION: the claim is rejected at the stated error rate, or a rule was broken for certain.
    CONSISTENT: not rejected, by a test that would have caught the named alternative with power >= 0.8.
    INCONCLUSIVE: not rejected, by a test that is too weak to mean anything.
    INVALID: the experiment is broken (members and non-members differ by themselves, say).
    """

    VIOLATION = "VIOLATION"
    CONSISTENT = "CONSISTENT"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"

    @property
    def exit_code(self) -> int:
        """Of the command line: 0, or 3 to 5 (1 and 2 are errors of the program and of its usage)."""
        return {"CONSISTENT": 0, "INCONCLUSIVE": 3, "VIOLATION": 4, "INVALID": 5}[self.value]


MIN_POWER = 0.8


def decide(p_value: float, power: float, *, alpha: float = 0.05, valid: bool = True) -> Verdict:
    """Turns a corrected p-value and the power against the named alternative into a verdict."""
    if not valid or math.isnan(p_value):
        return Verdict.INVALID
    if p_value <= alpha:
        return Verdict.VIOLATION
    return Verdict.CONSISTENT if power >= MIN_POWER else Verdict.INCONCLUSIVE


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of targets, joined to their membership by id and never by position. Higher means member."""

    ids: np.ndarray
    value: np.ndarray

    def by_membership(self, ids: np.ndarray, included: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scores of included and of left-out ids; ids without a score are an error."""
        where = {key: i for i, key in enumerate(self.ids.tolist())}
        missing = sum(key not in where for key in ids.tolist())
        if missing or len(where) != len(self.ids):
            raise ValueError(f"Expected one score per canary: {missing} missing, ids must be distinct.")
        value = self.value[[where[key] for key in ids.tolist()]]
        included = np.asarray(included, bool)
        return value[included], value[~included]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is tested: the guarantee in words and its curve.

    Args:
      epsilon, delta: as claimed; epsilon is None when nobody claims anything.
      f: a `TradeOff`; None tests `membership leaves no trace`.
    """

    epsilon: float | None = None
    delta: float = 1e-5
    f: Any = None

    @property
    def family(self) -> str:
        return "none" if self.f is None else self.f.family


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One attack on one stratum: statistics by the metric names of the audit."""

    attack: str
    stratum: str
    threat_model: ThreatModel
    statistics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A rule broken for certain: what changed or was found where. Holds no private value."""

    where: str
    rule: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """Outcome of one audit. A function of private data: `internal`, unless its canaries were synthetic.

    Args:
      kind: `release`, `whitebox`, `multirun`, `conformance`, `invariance`, `smoke` or `full`.
      reason: one sentence for a reader in a hurry.
      alternative: the broken mechanism that `power` speaks of.
      summary: run-level statistics by metric name, without the `audit/` prefix.
      curves: points for plots; rates and counts only, no scores of single units.
      scores: id, stratum, attack, score, member of every target as a table; private, in no other output.
    """

    kind: str
    verdict: Verdict
    reason: str
    claim: Claim = field(default_factory=Claim)
    p_value: float = float("nan")
    power: float = float("nan")
    alternative: str = ""
    findings: tuple[Finding, ...] = ()
    leaks: tuple[Leak, ...] = ()
    summary: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    scores: Any = field(default=None, repr=False, compare=False)

    def metrics(self) -> dict[str, float]:
        """Returns finite numbers by the names under which they are logged."""
        named = {f"audit/{key}": value for key, value in self.summary.items()}
        for finding in self.findings:
            head = f"audit/{finding.threat_model.value}/{finding.attack}/{finding.stratum}"
            named |= {f"{head}/{key}": value for key, value in finding.statistics.items()}
        return {k: float(v) for k, v in named.items() if v is not None and math.isfinite(v)}

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-able values; NaN and infinity become null."""
        claim = {"epsilon": self.claim.epsilon, "delta": self.claim.delta, "family": self.claim.family}
        return plain(
            {
                "kind": self.kind,
                "verdict": self.verdict.value,
                "reason": self.reason,
                "visibility": "internal",
                "claim": claim,
                "p_value": self.p_value,
                "power": self.power,
                "alternative": self.alternative,
                "summary": dict(self.summary),
                "params": dict(self.params),
                "findings": [
                    {
                        "attack": f.attack,
                        "stratum": f.stratum,
                        "threat_model": f.threat_model.value,
                        "statistics": dict(f.statistics),
                    }
                    for f in self.findings
                ],
                "leaks": [{"where": x.where, "rule": x.rule, "detail": x.detail} for x in self.leaks],
                "curves": dict(self.curves),
            }
        )

    def dump(self, path: str | Path) -> None:
        """Writes `to_dict` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False), encoding="utf-8")


def score_table(ids: Any, stratum: Any, included: np.ndarray, scores: Mapping[str, np.ndarray]) -> Any:
    """Returns the scores of all attacks as one table with a row per target and attack.

    Args:
      ids: of the targets, unique within members and within non-members.
      stratum: of each target, or one for all.
    """
    import pandas as pd

    included = np.asarray(included, bool)
    facts = {"id": np.asarray(ids).astype(str), "stratum": stratum}
    parts = [
        pd.DataFrame({**facts, "attack": name, "score": np.asarray(value, float), "member": included})
        for name, value in scores.items()
    ]
    return pd.concat(parts, ignore_index=True)


def plain(value: Any) -> Any:
    """Returns JSON-able values, nested: numpy to Python, not-finite to null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)


def worst(*verdicts: Verdict) -> Verdict:
    """Returns the verdict of several audits together: the first of VIOLATION, INVALID, INCONCLUSIVE seen."""
    for verdict in (Verdict.VIOLATION, Verdict.INVALID, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.CONSISTENT
