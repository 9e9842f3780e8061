"""What the purchases cost, and whether the certificate states just that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dpsynth.data.tables.untrusted import shown
from dpsynth.privacy.accounting.events import event_from_dict
from dpsynth.privacy.ledger.lines import spent
from dpsynth.privacy.release.certificate import make_certificate
from dpsynth.privacy.verify.evidence import Evidence, refuse, require
from dpsynth.privacy.verify.limits import price_problems

_CLOSE = 1e-4  # relative, of figures that accountants of other versions round another way
_SELECTION = {"epsilon", "delta", "trials", "runs", "score"}
_TRIALS = {"mean", "shape", "distribution"}
_COMPUTED = ("accountants", "definition")
_WORDS = (
    "gaps",
    "note",
    "about",
    "protects",
    "unprotected",
    "mechanism",
    "public_facts",
)  # text that another version of the code phrases another way


def check_statement(evidence: Evidence) -> str:
    """The certificate is the one that the ledger and the schema make."""
    from dpsynth.privacy.noise.entropy import source_name

    refuse(price_problems([event["event"] for event in evidence.stored_plan["events"]]))
    stated = {key: value for key, value in evidence.certificate.items() if key != "files"}
    noise = source_name(evidence.recipe.privacy.noise)
    expected = make_certificate(evidence.records, evidence.schema, noise)
    refuse(_differences(stated, expected, "", evidence.same_code))
    words = "" if evidence.same_code else "; its words were not compared, since another dpsynth wrote them"
    return f"the certificate is what ledger, plan and schema say{words}"


def _differences(stated: Any, expected: Any, where: str, wording: bool) -> Iterator[str]:
    """Where a certificate differs from the one that is made again."""
    if isinstance(expected, Mapping) and isinstance(stated, Mapping):
        for key in sorted({*expected, *stated}):
            if key not in expected or key not in stated:
                fault = "is missing" if key in expected else "is nothing that is certified"
                yield f"{where}{shown(key, 80)} {fault}."
            elif wording or key not in _WORDS:
                yield from _differences(stated[key], expected[key], f"{where}{key} ", wording)
    elif isinstance(expected, float) and isinstance(stated, float) and not math.isclose(expected, 0.0):
        if not math.isclose(stated, expected, rel_tol=_CLOSE if where.startswith(_COMPUTED) else 1e-12):
            yield f"{where}is {stated}, the ledger supports {expected}."
    elif stated != expected:
        yield f"{where}is {shown(repr(stated), 120)}, the ledger supports {shown(repr(expected), 120)}."


def check_epsilon(evidence: Evidence) -> str:
    """Two kinds of accountant find at most the claimed epsilon, and agree."""
    plan = evidence.stored_plan
    if not plan["private"]:
        return "infinite, as stated"
    refuse(price_problems([event["event"] for event in plan["events"]]))
    accounts, most = spent(evidence.records), plan["guarantee"]["epsilon"]
    require(accounts.pld <= most, f"The events cost {accounts.pld}, above the claimed {most}.")
    require(accounts.agree, f"The accountants disagree: {accounts}.")
    return f"pld {accounts.pld}, rdp_dp_accounting {accounts.rdp}, rdp_opacus {accounts.rdp_opacus} of {most}"


def check_selection(evidence: Evidence) -> str:
    """What choosing this release among trials costs, where it was chosen; empty text where it was not."""
    from dpsynth.privacy.accounting.selection import Trials, selection_epsilon
    from dpsynth.privacy.many_runs.selection import score_noise

    records, selection = evidence.records, evidence.records[0].get("selection")
    if selection is None:
        return ""
    require(set(selection) == _SELECTION, "The choice states other things than a choice.")
    require(set(selection["trials"]) == _TRIALS, "The number of trials is stated another way.")
    about = selection["score"]
    require(
        isinstance(about, str) and len(about) <= 200 and about.isprintable(), "The score is no line of text."
    )
    runs = selection["runs"]
    require(isinstance(runs, list) and 0 < len(runs) <= 1_000, "The trials are not a list of runs.")
    distinct = {str(run): run for run in runs}.values()
    refuse(problem for run in distinct for problem in price_problems(run))
    own = [event["event"] for event in records[0]["plan"]["events"]]
    require(own in runs, "This release is none of the trials.")
    privacy, close = evidence.recipe.privacy, 1e-6 if evidence.same_versions else 0.02
    noise = score_noise(privacy.total_epsilon, privacy.delta)
    paid = any(_is_gaussian(run, noise, close) for run in distinct)
    require(paid, "The score of this release is none of what was paid for.")
    delta = records[0]["plan"]["guarantee"]["delta"]
    require(selection["delta"] == delta, f"delta is {selection['delta']!r}, the plan has {delta!r}.")
    events = [[event_from_dict(event) for event in run] for run in distinct]
    found = selection_epsilon(events, delta, Trials(**selection["trials"]))
    stated = evidence.certificate["epsilon"]
    require(stated is not None and found <= stated, f"The choice costs {found}, {stated} is stated.")
    return f"best of a random number of {len(runs) // 2 or 1} configurations: {found} of {stated}"


def _is_gaussian(run: Any, noise: float, close: float) -> bool:
    """Whether a run is one Gaussian event at this noise."""
    only = run[0] if isinstance(run, list) and len(run) == 1 else {}
    return only.get("type") == "gaussian" and math.isclose(only["noise_multiplier"], noise, rel_tol=close)
