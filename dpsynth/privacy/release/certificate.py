"""The certificate: what is claimed about a release, how it was computed, and what is not covered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dpsynth.data.schema import Schema
from dpsynth.data.wording import up
from dpsynth.privacy.ledger.lines import spent
from dpsynth.privacy.release.statement import statement

VERSION = 1
CERTIFICATE = "certificate.json"
SIGNATURE = "signature.json"  # of the certificate, where the release is signed
FILES = (
    "synthetic.parquet",
    "generator.safetensors",
    "release.json",
    "ledger.json",
)  # hashed in the certificate

COVERS = (
    "The whole table that the run was given. Units set aside before training (holdout, canaries) are "
    "covered as well where a secret coin of its own decided over each; no amplification is counted for it."
)
GAPS = (
    "DP-SGD noise and coins are floating-point numbers: attacks on the low bits of noisy gradients are not "
    "covered. One-off measurements use exact discrete noise and have no such gap.",
    "Timing, memory use and crashes are not protected; only what is in this folder is.",
    "Other runs on the same table, and choosing among them, add to what is stated here.",
    "Declared facts (schema, number of units, delta, seeds) are taken as public.",
    "Hashes show accidental changes. They are no signature: whoever can rewrite every file can rewrite them.",
)


def make_certificate(records: Sequence[Mapping[str, Any]], schema: Schema, noise: str) -> dict[str, Any]:
    """States the guarantee of a release from its ledger.

    Args:
      records: of the ledger.
      noise: name of the entropy source.
    """
    plan = records[0]["plan"]
    guarantee = plan["guarantee"]
    void = [record["reason"] for record in records if record["kind"] == "void"]
    accounts = spent(records)
    ladder, selection = _ladder(plan), records[0].get("selection")
    return {
        "version": VERSION,
        "claim": claim(plan, void, selection),
        "private": plan["private"] and not void,
        "void": void,
        "unit": guarantee["unit"],
        "max_rows": guarantee["max_rows"],
        "neighbours": guarantee["neighbours"],
        "epsilon": selection["epsilon"] if selection else guarantee["epsilon"],
        "delta": guarantee["delta"] if plan["private"] else None,
        "accountants": {
            "pld": finite_or_none(accounts.pld),
            "rdp_dp_accounting": finite_or_none(accounts.rdp),
            "rdp_opacus": finite_or_none(accounts.rdp_opacus),
        },
        **statement(records, schema),
        "noise": noise,
        "schema": schema.digest,
        "covers": COVERS,
        "gaps": list(GAPS),
        **({"ladder": ladder} if ladder else {}),
        **({"selection": _selection(selection)} if selection else {}),
    }


def _ladder(plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """Says of which training a rung is a part; None for other releases."""
    if not plan.get("rungs"):
        return None
    training = next((event for event in plan["events"] if event["stage"] == "training"), None)
    return {
        "rungs": plan["rungs"],
        "steps": plan["training"]["steps"] if training else 0,
        "note": "One training with one noise multiplier gave a release at each of these epsilons on its way. "
        "Publishing several of them costs the largest of their epsilons.",
    }


def _selection(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Says how a release was chosen; the events behind it stand in the ledger."""
    note = (
        "The best of a secret random number of trials. The claim pays for the choice; it covers training and "
        "holdout rows. The accountants' figures are those of the one trial."
    )
    return {key: facts[key] for key in ("trials", "score")} | {"note": note}


def claim(plan: Mapping[str, Any], void: Sequence[str], selection: Mapping[str, Any] | None = None) -> str:
    """`epsilon=…, delta=…`, `NON-PRIVATE` or `VOID`; with a selection, what the choice costs."""
    if not plan["private"] or (selection and selection["epsilon"] is None):
        return "NON-PRIVATE"
    if void:
        return "VOID"
    stated = selection or plan["guarantee"]
    return f"epsilon={up(stated['epsilon'])}, delta={up(stated['delta'])}"


def finite_or_none(value: float) -> float | None:
    """JSON has no infinity; None stands for it."""
    return value if math.isfinite(value) else None
