"""The certificate: what is claimed about a release, how it was computed, and what is not covered."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpsynth.data.schema import Schema
from dpsynth.privacy.records import spent

VERSION = 1
CERTIFICATE = "certificate.json"
FILES = (
    "synthetic.parquet",
    "generator.safetensors",
    "release.json",
    "ledger.json",
)  # hashed in the certificate

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
    return {
        "version": VERSION,
        "claim": claim(plan, void),
        "private": plan["private"] and not void,
        "void": void,
        "unit": guarantee["unit"],
        "max_rows": guarantee["max_rows"],
        "neighbours": guarantee["neighbours"],
        "epsilon": guarantee["epsilon"],
        "delta": guarantee["delta"] if plan["private"] else None,
        "accountants": {
            "pld": finite_or_none(accounts.pld),
            "rdp_dp_accounting": finite_or_none(accounts.rdp),
            "rdp_opacus": finite_or_none(accounts.rdp_opacus),
        },
        "noise": noise,
        "schema": schema.digest,
        "gaps": list(GAPS),
    }


def claim(plan: Mapping[str, Any], void: Sequence[str]) -> str:
    """`epsilon=…, delta=…`, `NON-PRIVATE` or `VOID`."""
    if not plan["private"]:
        return "NON-PRIVATE"
    if void:
        return "VOID"
    return f"epsilon={plan['guarantee']['epsilon']:g}, delta={plan['guarantee']['delta']:g}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finite_or_none(value: float) -> float | None:
    """JSON has no infinity; None stands for it."""
    return value if math.isfinite(value) else None
