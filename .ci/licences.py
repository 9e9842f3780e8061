"""Writes the licences of the dependencies that pyproject.toml names: `make licences`.

What is not installed here is fetched without its own dependencies, to read what it declares.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "notebooks" / "pages" / "licences.md"
HEAD = """# Licences

dpsynth is under the Apache License 2.0 (`LICENSE`). Below stands what its direct dependencies declare in
their own metadata. Nothing of them is copied into this repository; extras are installed by choice.

Made by `make licences`; a test checks that every dependency of `pyproject.toml` is here.
"""


def name_of(requirement: str) -> str:
    """Returns the package that a requirement names."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def groups() -> dict[str, list[str]]:
    """Returns requirements by heading, as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {f"Extra `{name}`": needs for name, needs in project["optional-dependencies"].items()}
    return {"Always installed": project["dependencies"], **extras}


def licence_of(facts: metadata.PackageMetadata) -> str:
    """Returns the declared licence: the expression, else the classifiers, else a short free text."""
    if expression := facts.get("License-Expression"):
        return expression
    classes = [
        line.split(" :: ")[-1] for line in facts.get_all("Classifier", []) if line.startswith("License")
    ]
    if classes:
        return ", ".join(classes)
    text = (facts.get("License") or "").strip().split("\n")[0]
    if not text or len(text) > 60:
        raise SystemExit(f"{facts['Name']} declares no licence that can be read; look it up.")
    return text


def fetch(requirements: list[str], folder: str) -> None:
    """Installs what is missing into a folder of its own."""
    if requirements:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        subprocess.run([*command, *requirements], check=True)


def missing(requirement: str) -> bool:
    try:
        metadata.metadata(name_of(requirement))
    except metadata.PackageNotFoundError:
        return True
    return False


def page() -> str:
    """Returns the page."""
    with tempfile.TemporaryDirectory() as folder:
        fetch([need for needs in groups().values() for need in needs if missing(need)], folder)
        sys.path.append(folder)
        parts = [HEAD]
        for heading, needs in groups().items():
            facts = {name_of(need): metadata.metadata(name_of(need)) for need in needs}
            rows = [f"| `{name}` | {licence_of(facts[name])} |" for name in sorted(facts, key=str.lower)]
            parts.append("\n".join([f"## {heading}\n", "| package | licence |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}.")
