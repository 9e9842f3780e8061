"""Whether the ledger holds exactly the purchases that its recipe makes, all charged, all finished."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dpsynth.data.tables.untrusted import shown
from dpsynth.privacy.ledger.lines import check_chain
from dpsynth.privacy.verify.evidence import Evidence, refuse, require

# Keys of a ledger's lines beside those that chain them.
_KEYS = {
    "plan": {"ledger", "plan", "recipe"},
    "charge": {"event"},
    "continue": {"event"},
    "finish": {"event", "digest"},
    "void": {"reason"},
}
_CHAIN = {"index", "previous", "hash", "kind"}
_HEX = set("0123456789abcdef")
# Numbers that were solved for, and which other versions of the accountants may round another way.
_SOLVED = ("noise_multiplier", "validation_noise_multiplier", "epsilon")
_SAME, _OTHER = 1e-6, 0.02  # relative


def check_ledger(evidence: Evidence) -> str:
    """Lines in order, unchanged, holding what a ledger writes alone, and nothing that voids the claim."""
    records = evidence.records
    refuse(check_chain(records))
    refuse(_line_faults(records))
    void = [record["reason"] for record in records if record["kind"] == "void"]
    refuse(f"The claim is void: {reason}." for reason in void)
    return f"{len(records)} lines in order, nothing voids the claim"


def _line_faults(records: list[dict[str, Any]]) -> Iterator[str]:
    for number, record in enumerate(records):
        own = set(record) - _CHAIN - ({"selection"} if number == 0 else set())
        if own != _KEYS.get(record["kind"]):
            yield f"Line {number} holds other things than a line of its kind."
        digest = record.get("digest") or ""
        if digest and not _is_hash(digest):
            yield f"Line {number} has a digest that is none."
    if not _is_hash(records[0].get("ledger") or "", 32):
        yield "The ledger has no number."


def _is_hash(text: Any, length: int = 64) -> bool:
    return isinstance(text, str) and len(text) == length and set(text) <= _HEX


def check_recipe(evidence: Evidence) -> str:
    """The recipe of the ledger is that of the released generator."""
    recipe, stated = evidence.recipe, evidence.facts["generator"]
    content = evidence.records[0]["recipe"]
    own = {"name": recipe.generator, "config": content["settings"], "shaped": recipe.privacy.shaped}
    require(stated == own, "The released generator is not the one that the ledger was opened for.")
    require(evidence.facts["seed"] == recipe.seed, "The seed is not the recipe's.")
    return f"{recipe.generator}, budget and training as the ledger's first line says"


def check_events(evidence: Evidence) -> str:
    """Planning again gives the ledger's plan: the same purchases, in order, at the same noise."""
    expected, found = evidence.plan.to_dict(), evidence.stored_plan
    canaries = found.get("canaries")
    require(canaries is None or _is_hash(canaries), "The hash of the coins is none.")
    names, planned = ([event["name"] for event in plan["events"]] for plan in (found, expected))
    if names != planned:
        lost = [name for name in planned if name not in names]
        more = [name for name in names if name not in planned]
        refuse([f"The recipe buys {planned}; the ledger has lost {lost} and adds {more}."])
    same = evidence.same_versions
    steps_vary = not same and evidence.recipe.privacy.noise_multiplier is not None
    refuse(_differences(found, expected, "plan", _SAME if same else _OTHER, same, steps_vary))
    charged = [record["event"] for record in evidence.records if record["kind"] == "charge"]
    finished = [record["event"] for record in evidence.records if record["kind"] == "finish"]
    refuse(f"{name} is not charged." for name in planned if name not in charged)
    refuse(f"{name} is charged, but not finished." for name in charged if name not in finished)
    how = "noise included" if same else f"noise within {_OTHER:.0%}, since the versions are others"
    return f"the {len(planned)} purchases that the recipe makes, all charged and finished; {how}"


def _differences(
    found: Any, expected: Any, where: str, tolerance: float, wording: bool, steps_vary: bool
) -> Iterator[str]:
    """Where two plans differ; numbers that were solved for may, within the tolerance."""
    options = (tolerance, wording, steps_vary)
    name = where.rpartition(".")[2]
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        if set(found) != set(expected):
            yield f"{where} has other keys."
            return
        for key in expected:
            if key != "about" or wording:
                yield from _differences(found[key], expected[key], f"{where}.{key}", *options)
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        if len(found) != len(expected):
            yield f"{where} has {len(found)} entries, not {len(expected)}."
            return
        for number, (one, other) in enumerate(zip(found, expected)):
            yield from _differences(one, other, f"{where}.{number}", *options)
    elif steps_vary and name in ("count", "steps", "validation_looks", "about"):
        return
    elif isinstance(expected, float) and isinstance(found, float | int) and not isinstance(found, bool):
        solved = name in _SOLVED and ".guarantee" not in where
        if not math.isclose(found, expected, rel_tol=tolerance if solved else 1e-12):
            yield f"{where} is {shown(found)}, not {expected}."
    elif found != expected or isinstance(found, bool) != isinstance(expected, bool):
        yield f"{where} is {shown(repr(found), 80)}, not {shown(repr(expected), 80)}."
