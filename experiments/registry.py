"""An entry for a register of deployments, from a release's own files: public facts alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsynth.report.release_files import ReleaseFacts

ENDINGS = (".yaml", ".yml", ".json")


def entry(release: ReleaseFacts) -> dict[str, Any]:
    """Returns what tier 3 of the OpenDP Deployments Registry asks, as far as a release knows it.

    What only its owner knows (who they are, when and where it is published) is left None, to be filled in.
    """
    known = release.certificate
    return {
        "deployment": {
            "curator": None,
            "publication_date": None,
            "data_product": "synthetic rows, and the generator that made them",
            "intended_use": known["purpose"] or None,
        },
        "privacy": {
            "claim": known["claim"],
            "flavor": known["definition"],
            "epsilon": known["epsilon"],
            "delta": known["delta"],
            "accountants": known["accountants"],
            "neighbours": known["neighbours"],
            "replace_one": known["replace_one"],
        },
        "unit": {"name": known["unit"], "max_rows": known["max_rows"], "description": known["protects"]},
        "model": known["deployment"],
        "public_facts": known["public_facts"],
        "unprotected_quantities": known["unprotected"],
        "gaps": known["gaps"],
        "accounting": {
            "events": known["events"],
            "composition": known["composition"],
            "hyperparameters": known["hyperparameters"],
            "post_processing": "Rows and weights are made of the answers to these events alone.",
        },
        "implementation": {
            "generator": release.generator,
            "noise": known["noise"],
            "versions": dict(release.facts["versions"]),
            "rationale": known["rationale"] or None,
        },
        "files": known["files"],
    }


def write_entry(folder: Path, path: Path) -> None:
    """Writes the entry as YAML or JSON, by the file's ending."""
    import yaml

    from dpsynth.report.release_files import read_release

    content = json.loads(json.dumps(entry(read_release(folder))))
    text = (
        json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if path.suffix == ".json"
        else yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
