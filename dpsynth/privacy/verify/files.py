"""The files of a release: which there are, of what kind and size, and whether they are the certified ones."""

from __future__ import annotations

from dpsynth.data.tables.untrusted import check_parquet, check_safetensors, digest, file_names, open_plain
from dpsynth.privacy.release.certificate import CERTIFICATE, FILES, SIGNATURE, VERSION
from dpsynth.privacy.verify.evidence import Evidence, refuse, require

_FACTS = {"version", "schema", "statistics", "encoder", "generator", "seed", "versions"}


def check_files(evidence: Evidence) -> str:
    """Five plain files of bounded size, and at most a signature beside them."""
    allowed, present = {*FILES, CERTIFICATE}, set(file_names(evidence.folder))
    faults = [f"{name} is missing." for name in sorted(allowed - present)]
    faults += [f"{name} does not belong here." for name in sorted(present - allowed - {SIGNATURE})]
    refuse(faults)
    for name in present:
        open_plain(evidence.folder / name).close()
    check_parquet(evidence.folder / FILES[0], evidence.most_cells)
    check_safetensors(evidence.folder / FILES[1])
    signed = f" but {SIGNATURE}" if SIGNATURE in present else ""
    return f"the five files, plain ones, nothing else{signed}"


def check_signature(evidence: Evidence) -> str:
    """A signature is this certificate's, and by the key that was asked for; empty text where none was."""
    signer, asked = evidence.signer, evidence.fingerprint
    if asked is None:
        return ""
    require(signer is not None, f"It is not signed; {asked} was asked for.")
    require(signer == asked, f"It is signed by {signer}, not by {asked}, which was asked for.")
    return f"by {signer}, as you asked for"


def check_hashes(evidence: Evidence) -> str:
    """The files are those that the certificate names."""
    stated = evidence.certificate.get("files")
    refuse(
        []
        if isinstance(stated, dict) and set(stated) == set(FILES)
        else ["The certificate names other files."]
    )
    refuse(f"{name} was changed." for name in FILES if stated[name] != digest(evidence.folder / name))
    return "as certified"


def check_readable(evidence: Evidence) -> str:
    """What the files hold is what a release holds, no more and no less."""
    facts, versions = evidence.facts, evidence.facts.get("versions")
    require(set(facts) == _FACTS, "release.json holds other keys than a release.")
    require(facts["version"] == VERSION, "release.json has another format than this version reads.")
    require(evidence.schema.to_dict() == facts["schema"], "The schema is not in its own form.")
    plain = isinstance(versions, dict) and all(isinstance(v, str) and len(v) < 80 for v in versions.values())
    require(plain, "The versions are not names and numbers.")
    refuse(
        []
        if isinstance(evidence.records[0].get("plan"), dict)
        else ["The ledger does not begin with its plan."]
    )
    return f"{len(evidence.schema.columns)} columns, {len(evidence.records)} lines of the ledger"
