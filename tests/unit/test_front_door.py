"""What stands at the door is true of the house: licences, versions."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import dpsynth

ROOT = Path(__file__).resolve().parents[2]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def licences():
    spec = importlib.util.spec_from_file_location("licences", ROOT / ".ci" / "licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed(page: str) -> dict[str, dict[str, str]]:
    """Package to licence, by the heading it stands under."""
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    return {s.split("\n")[0]: dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", s, re.MULTILINE)) for s in sections}


def test_every_dependency_is_listed_with_its_licence_and_nothing_else_is(licences):
    wanted = {
        heading: {licences.name_of(need) for need in needs} for heading, needs in licences.groups().items()
    }
    found = listed(licences.PAGE.read_text(encoding="utf-8"))
    assert {heading: set(rows) for heading, rows in found.items()} == wanted, "run `make licences`"


def test_the_listed_licences_are_those_that_installed_packages_declare(licences):
    for rows in listed(licences.PAGE.read_text(encoding="utf-8")).values():
        for name, licence in rows.items():
            try:
                facts = metadata.metadata(name)
            except metadata.PackageNotFoundError:
                continue
            assert licence == licences.licence_of(facts), f"{name}: run `make licences`"


def test_the_version_is_one(licences):
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert citation["version"] == dpsynth.__version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert f'version = "{dpsynth.__version__}"' in text_of("pyproject.toml")
    newest = re.search(r"^## (\d\S*?)(?=[ ,\n])", text_of("CHANGELOG.md"), re.MULTILINE).group(1)
    assert newest == dpsynth.__version__


def test_the_licence_is_the_one_that_is_declared():
    assert "Apache License" in text_of("LICENSE") and "Version 2.0" in text_of("LICENSE")
    assert 'license = "Apache-2.0"' in text_of("pyproject.toml")
