"""Checks a release without trusting who made it: files, ledger, epsilon by two accountants, parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpsynth.data.schema import Schema
from dpsynth.data.units import units_of
from dpsynth.errors import DpsynthError
from dpsynth.privacy.certificate import CERTIFICATE, FILES, claim, file_digest, finite_or_none
from dpsynth.privacy.plan import choice_epsilon
from dpsynth.privacy.records import check_chain, event_from_dict, spent


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
    """

    claim: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def table(self) -> str:
        """The checks for people."""
        width = max(len(check.name) for check in self.checks)
        lines = [f"{'ok  ' if c.passed else 'FAIL'}  {c.name:<{width}}  {c.detail}" for c in self.checks]
        verdict = "verified" if self.passed else "NOT VERIFIED"
        return "\n".join([*lines, f"{verdict}: {self.claim}"])


def verify(folder: str | Path) -> Verification:
    """Recomputes what a release claims.

    Formal guarantee: a pass means that the ledger's events, at the parameters written there, compose to at
    most the claimed epsilon at the claimed delta, and that released noise levels match them. That the code
    which wrote the ledger did add that noise is for `experiments.audit` and the tests.
    Edge cases: a non-private release passes if it says so; a void one fails; unreadable files fail.
    """
    folder = Path(folder)
    checks: list[Check] = []
    stated = "nothing readable"
    try:
        for check in _file_checks(folder):
            checks.append(check)
        certificate = _json(folder / CERTIFICATE)
        stated = str(certificate.get("claim"))
        records = _json(folder / "ledger.json")["records"]
        facts = _json(folder / "release.json")
        for check in _content_checks(certificate, records, facts):
            checks.append(check)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, DpsynthError) as error:
        checks.append(Check(name="readable", passed=False, detail=f"{type(error).__name__}: {error}"))
    return Verification(claim=stated, checks=tuple(checks))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _file_checks(folder: Path) -> Iterator[Check]:
    allowed = {*FILES, CERTIFICATE}
    present = {path.name for path in folder.iterdir()}
    wrong = [*(f"{n} is missing" for n in sorted(allowed - present))]
    wrong += [f"{n} does not belong here" for n in sorted(present - allowed)]
    yield Check(name="files", passed=not wrong, detail=", ".join(wrong) or "the five files, nothing else")
    hashes = _json(folder / CERTIFICATE).get("files", {})
    changed = [n for n in FILES if n in present and hashes.get(n) != file_digest(folder / n)]
    detail = f"changed: {', '.join(changed)}" if changed else "as certified"
    yield Check(name="hashes", passed=not changed, detail=detail)


def _content_checks(
    certificate: Mapping[str, Any], records: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> Iterator[Check]:
    faults = check_chain(records)
    yield Check(name="ledger", passed=not faults, detail=" ".join(faults) or f"{len(records)} lines in order")
    plan, schema = records[0]["plan"], Schema.from_dict(facts["schema"])
    void = [record["reason"] for record in records if record["kind"] == "void"]
    yield Check(name="not void", passed=not void, detail="; ".join(void) or "nothing voids the claim")
    charged = [record["event"] for record in records if record["kind"] == "charge"]
    finished = {record["event"] for record in records if record["kind"] == "finish"}
    left = [event for event in charged if event not in finished]
    unpaid = [event for event in charged if event.endswith("/answers")]
    unpaid = [event for event in unpaid if event.replace("/answers", "/choice") not in charged]
    detail = (
        f"without a paid choice: {unpaid}" if unpaid else "every adaptive question was chosen for a price"
    )
    yield Check(name="choices", passed=not unpaid, detail=detail)
    yield Check(
        name="finished", passed=not left, detail=f"open: {left}" if left else f"{len(charged)} events"
    )
    selection = records[0].get("selection")
    wrong = list(_statement_faults(certificate, plan, void, schema, selection))
    yield Check(
        name="statement", passed=not wrong, detail=" ".join(wrong) or "certificate, plan, schema agree"
    )
    wrong = list(_parameter_faults(plan, facts, schema))
    yield Check(name="parameters", passed=not wrong, detail=" ".join(wrong) or "noise as planned everywhere")
    yield _epsilon_check(certificate, records)
    if selection:
        yield _selection_check(certificate, records, selection)


def _selection_check(
    certificate: Mapping[str, Any], records: Sequence[Mapping[str, Any]], selection: Mapping[str, Any]
) -> Check:
    """Computes again what choosing this release among trials costs."""
    from dpsynth.privacy.selection import Trials, selection_epsilon

    own = [event["event"] for event in records[0]["plan"]["events"]]
    runs = [[event_from_dict(event) for event in run] for run in selection["runs"]]
    found = selection_epsilon(runs, selection["delta"], Trials(**selection["trials"]))
    stated, delta = certificate["epsilon"], records[0]["plan"]["guarantee"]["delta"]
    passed = (
        own in selection["runs"] and stated is not None and found <= stated and selection["delta"] == delta
    )
    detail = f"best of a random number of {len(runs) // 2 or 1} configurations: {found} of {stated}"
    return Check(name="selection", passed=passed, detail=detail)


def _statement_faults(
    certificate: Mapping[str, Any],
    plan: Mapping[str, Any],
    void: Sequence[str],
    schema: Schema,
    selection: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    guarantee = plan["guarantee"]
    supported = claim(plan, void, selection)
    if selection:
        guarantee = {**guarantee, "epsilon": selection["epsilon"]}
    if certificate["claim"] != supported:
        yield f"The claim is {certificate['claim']!r}, the ledger supports {supported!r}."
    for key in ("unit", "max_rows", "neighbours", "epsilon"):
        if certificate[key] != guarantee[key]:
            yield f"{key} is {certificate[key]!r}, the plan has {guarantee[key]!r}."
    if plan["private"] and certificate["delta"] != guarantee["delta"]:
        yield f"delta is {certificate['delta']!r}, the plan has {guarantee['delta']!r}."
    if guarantee["unit"] != (schema.unit.column or "row") or guarantee["max_rows"] != schema.unit.max_rows:
        yield "The schema has another unit."
    if certificate["schema"] != schema.digest:
        yield "The schema is not the certified one."


def _parameter_faults(plan: Mapping[str, Any], facts: Mapping[str, Any], schema: Schema) -> Iterator[str]:
    """Events against the plan's constants, sensitivities against the schema, noise in released answers."""
    from dpsynth.privacy.accounting import Ingredients

    rows = schema.unit.max_rows
    weight = units_of(schema).mass
    names = {event["name"] for event in plan["events"]}
    open_kinds = [kind for _, kind in schema.undeclared]
    crossed = facts["statistics"].get("crossed")
    bought = crossed or facts["statistics"]["fine"]  # crossed histograms imply the others, the target's too
    num = len(schema.modelled) - bool(crossed) if "columns/histograms" in names else 0
    sensitivity = {
        "count": 1.0,
        "columns/range": rows * math.sqrt(open_kinds.count("bounds")),
        "columns/narrow": rows * math.sqrt(open_kinds.count("bounds")),
        "columns/values": rows * math.sqrt(open_kinds.count("values")),
        "columns/histograms": weight * math.sqrt(num),
        "validation": 1.0,
    }
    events = {event["name"]: event for event in plan["events"]}
    for name, event in events.items():
        noise, parts = event["noise_multiplier"], Ingredients.of([event_from_dict(event["event"])])
        choices = event.get("choices", 0)
        expected = float(weight) if choices else sensitivity.get(name, event["sensitivity"])
        if not math.isclose(event["sensitivity"], expected):
            yield f"{name} has the wrong sensitivity."
        if not plan["private"]:
            continue
        if name == "validation":
            constants = plan["training"]
            looks, each = constants["validation_looks"], constants["validation_noise_multiplier"]
            if not each or not looks or not math.isclose(noise, each / math.sqrt(looks)):
                yield "validation charges other looks than are taken."
        if name == "training":
            constants = plan["training"]
            key = (constants["sample_rate"], constants["noise_multiplier"])
            one = {key: constants["steps"]} if key[0] < 1.0 else {}
            full = 0.0 if one else constants["steps"] / constants["noise_multiplier"] ** 2
            same = parts.sampled == one and math.isclose(parts.gaussian, full)
            if not same or noise != constants["noise_multiplier"]:
                yield "training charges other constants than it uses."
        elif choices:
            if parts.choices != [choice_epsilon(noise, choices)] * choices or parts.gaussian:
                yield f"{name} charges other choices than it makes."
        elif not (math.isclose(parts.gaussian, noise**-2) and math.isclose(parts.failure, event["failure"])):
            yield f"{name} charges another noise than it uses."
    statistics = facts["statistics"]
    if len(bought) != num or not set(bought) <= {column.name for column in schema.modelled}:
        yield "The released histograms are not those of the modelled columns."
    for level in {m["noise_stddev"] for m in bought.values()} if num else ():
        paid = events["columns/histograms"]
        if not math.isclose(level, paid["noise_multiplier"] * paid["sensitivity"]):
            yield "Released histograms have another noise than was paid for."
    yield from _joint_faults(events.values(), statistics["marginals"], weight, plan["private"])


def _joint_faults(
    events: Iterable[Mapping[str, Any]],
    released: Sequence[Mapping[str, Any]],
    weight: int,
    private: bool,
) -> Iterator[str]:
    """Released joint histograms against what was paid for at each level of noise."""
    paid: dict[float, float] = {}
    for event in events:
        if event["stage"] == "marginals" and not event.get("choices", 0):
            stddev = event["noise_multiplier"] * event["sensitivity"]
            level = next((known for known in paid if math.isclose(known, stddev)), stddev)
            paid[level] = paid.get(level, 0.0) + (event["sensitivity"] / weight) ** 2
    for level, num in paid.items():
        sold = sum(math.isclose(marginal["noise_stddev"], level) for marginal in released)
        if sold > num + 1e-6 and private:
            yield "More joint histograms are released than were paid for."
    for marginal in released:
        if not any(math.isclose(marginal["noise_stddev"], level) for level in paid):
            yield "A released joint histogram has another noise than was paid for."


def _epsilon_check(certificate: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Check:
    plan, accounts = records[0]["plan"], spent(records)
    if not plan["private"]:
        return Check(name="epsilon", passed=True, detail="infinite, as stated")
    found = {
        "pld": finite_or_none(accounts.pld),
        "rdp_dp_accounting": finite_or_none(accounts.rdp),
        "rdp_opacus": finite_or_none(accounts.rdp_opacus),
    }
    detail = ", ".join(f"{name} {value}" for name, value in found.items())
    stated = certificate["accountants"]
    same = all(
        value is not None and stated[name] is not None and math.isclose(stated[name], value, rel_tol=1e-4)
        for name, value in found.items()
    )
    within = accounts.pld <= plan["guarantee"]["epsilon"]
    if not within:
        detail += f"; above the declared {plan['guarantee']['epsilon']}"
    if not accounts.agree:
        detail += "; the accountants disagree"
    if not same:
        detail += f"; the certificate states {stated}"
    return Check(name="epsilon", passed=within and accounts.agree and same, detail=detail)
