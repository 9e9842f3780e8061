"""A forger's work: changes a release and makes everything else in it fit again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpsynth.data.schema import Schema
from dpsynth.privacy.ledger.digests import file_digest
from dpsynth.privacy.ledger.lines import START, line_hash
from dpsynth.privacy.release.certificate import CERTIFICATE, FILES, make_certificate

Change = Callable[[Any], Any]


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def rechain(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Numbers and hashes all lines anew."""
    made, previous = [], START
    for index, record in enumerate(records):
        body = {key: value for key, value in record.items() if key != "hash"}
        body |= {"index": index, "previous": previous}
        previous = line_hash(body)
        made.append({**body, "hash": previous})
    return made


def forge(folder: Path, *, ledger: Change | None = None, facts: Change | None = None) -> None:
    """Changes records and facts in place, then chain, certificate and hashes, so that they agree."""
    content, released = load(folder / "ledger.json"), load(folder / "release.json")
    if ledger is not None:
        content["records"] = rechain(ledger(content["records"]) or content["records"])
        (folder / "ledger.json").write_text(json.dumps(content))
    if facts is not None:
        facts(released)
        (folder / "release.json").write_text(json.dumps(released))
    certificate = load(folder / CERTIFICATE)
    try:
        schema = Schema.from_dict(released["schema"])
        certificate |= make_certificate(content["records"], schema, certificate["noise"])
    except Exception:  # then the forged plan cannot be priced; the rest of the certificate stays
        pass
    recertify(folder, lambda known: known.update(certificate))


def recertify(folder: Path, change: Change = lambda certificate: None) -> None:
    """Changes the certificate and writes all hashes anew."""
    certificate = load(folder / CERTIFICATE)
    change(certificate)
    certificate["files"] = {name: file_digest(folder / name) for name in FILES}
    (folder / CERTIFICATE).write_text(json.dumps(certificate))


def without(*names: str) -> Change:
    """Takes purchases out of plan and ledger, and lowers the claim to what is left."""

    def change(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        plan = records[0]["plan"]
        plan["events"] = [event for event in plan["events"] if event["name"] not in names]
        if "training" in names:
            plan["training"] = None
        left = [record for record in records if record.get("event") not in names]
        return lowered(left)

    return change


def lowered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """States as epsilon what the charged events cost."""
    from dpsynth.privacy.ledger.lines import spent

    records[0]["plan"]["guarantee"]["epsilon"] = spent(records).pld
    return records
