"""What a release says, read once, and what was found about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.tables.untrusted import read_facts, read_object, shown
from dpsynth.errors import DpsynthError
from dpsynth.privacy.release.certificate import CERTIFICATE

if TYPE_CHECKING:
    from dpsynth.privacy.plan.plan import Plan
    from dpsynth.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All checks of one release.

    Args:
      claim: what the certificate states.
      checks: in order.
      trusted: what no check shows.
    """

    claim: str
    checks: tuple[Check, ...]
    trusted: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def table(self) -> str:
        """The checks for people, a line each; text of the release is escaped."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [
            f"{'ok  ' if c.passed else 'FAIL'}  {c.name:<{width}}  {shown(c.detail, 600)}"
            for c in self.checks
        ]
        verdict = "verified" if self.passed else "NOT VERIFIED"
        trust = [f"on trust: {item}" for item in self.trusted] if self.passed else []
        return "\n".join([*lines, *trust, f"{verdict}: {shown(self.claim)}"])


class Wrong(DpsynthError):
    """A check failed; the message lists every reason."""

    def __init__(self, faults: Iterable[str]):
        super().__init__(" ".join(faults))


def refuse(faults: Iterable[str]) -> None:
    """Raises `Wrong` if there are faults; of many, the first twenty."""
    listed = [fault for fault, _ in zip(faults, range(20))]
    if listed:
        raise Wrong(listed)


def require(holds: bool, rule: str) -> None:
    """Raises `Wrong` with this sentence unless it holds."""
    if not holds:
        raise Wrong([rule])


def problem_of(error: Exception) -> str:
    """What an error says in one line; of those that we did not raise ourselves, with their type."""
    text = str(error).replace("\n", " ")
    return (
        text if isinstance(error, DpsynthError) else f"not what a run writes ({type(error).__name__}: {text})"
    )


class Evidence:
    """The contents of a release's files. Reading one anew raises what was raised before.

    Args:
      folder: of the release.
      most_cells: of its synthetic table.
      fingerprint: of the key that is asked for, if any.
    """

    def __init__(self, folder: Path, most_cells: int, fingerprint: str | None = None):
        self.folder, self.most_cells, self.claim = folder, most_cells, "nothing readable"
        self.fingerprint = fingerprint

    @cached_property
    def signer(self) -> str | None:
        """Fingerprint of the key that signed the certificate, whosever it is."""
        from dpsynth.privacy.release.signing import signer_of

        return signer_of(self.folder)

    @property
    def maker(self) -> str:
        """Who made the release, as far as a signature shows it."""
        if self.fingerprint is not None:
            return f"that only its owner holds the key {self.fingerprint}"
        if self.signer is None:
            return "who made it: not signed"
        return f"who made it: signed by {self.signer}, which you did not ask for"

    @cached_property
    def certificate(self) -> dict[str, Any]:
        content = read_object(self.folder / CERTIFICATE)
        self.claim = str(content.get("claim"))
        return content

    @cached_property
    def facts(self) -> dict[str, Any]:
        return read_facts(self.folder / "release.json")

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        content = read_object(self.folder / "ledger.json")
        records = content.get("records")
        good = set(content) == {"records"} and isinstance(records, list) and records
        if not good or not all(isinstance(record, Mapping) for record in records):
            raise Wrong(["ledger.json holds no list of records."])
        return records

    @property
    def stored_plan(self) -> Mapping[str, Any]:
        """The plan as the ledger states it."""
        return self.records[0]["plan"]

    @cached_property
    def schema(self) -> Schema:
        return Schema.from_dict(self.facts["schema"])

    @cached_property
    def recipe(self) -> Recipe:
        from dpsynth.recipe import Recipe

        content = self.records[0].get("recipe")
        if content is None:
            raise Wrong(["The ledger says of no recipe what it was planned for; make the release anew."])
        return Recipe.from_dict(content)

    @cached_property
    def whole_plan(self) -> Plan:
        """The plan of the recipe, made by the code that makes it for a run."""
        from dpsynth import pipeline
        from dpsynth.privacy.verify.limits import limit_problems

        refuse(limit_problems(self.schema, self.recipe))
        return pipeline.plan(self.schema, self.recipe)

    @cached_property
    def plan(self) -> Plan:
        """The same, as far as this release goes: a rung of a ladder stops on the way."""
        from dpsynth.privacy.many_runs.ladder import rung_plan

        plan, stated = self.whole_plan, self.stored_plan["guarantee"]["epsilon"]
        for rung in plan.rungs[:-1]:
            if rung.epsilon == stated:
                plan = rung_plan(plan, rung)
        return replace(plan, canaries=self.stored_plan.get("canaries"))

    @cached_property
    def statistics(self) -> Statistics:
        return Statistics.from_dict(self.facts["statistics"], self.schema)

    @property
    def same_versions(self) -> bool:
        """Whether what computes a plan is here what it was there."""
        from dpsynth.privacy.release.release import versions

        here, there = versions(), self.facts["versions"]
        return all(there.get(name) == here[name] for name in ("dpsynth", "dp-accounting", "opacus", "numpy"))

    @property
    def same_code(self) -> bool:
        """Whether the release says that this version of dpsynth made it."""
        from dpsynth.privacy.release.release import versions

        return self.facts["versions"].get("dpsynth") == versions()["dpsynth"]
