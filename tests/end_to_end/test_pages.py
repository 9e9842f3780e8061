"""What README and pages show works: their Python runs, and their commands name settings that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hydra._internal.utils import get_args_parser

from dpsynth.__main__ import NAMES
from experiments.overrides import compose_point, spell_out

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "notebooks" / "pages").glob("*.md")])
PAGES += [ROOT / "dpsynth" / "audit" / "README.md", ROOT / "dpsynth" / "privacy" / "README.md"]
PEOPLE = """version: 1
num_units: 300
target: color
columns:
  - {name: age, kind: integer, min: 18, max: 80}
  - {name: color, kind: categorical, values: [red, blue]}
"""
_PLACEHOLDERS = {"generator=NAME": "generator=tvae", "data=NAME": "data=hi"}
_COMMAND = re.compile(r"(?:\.venv/bin/)?python -m experiments\.(\w+)|dpsynth (\w+)")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def commands(page: Path) -> list[tuple[str, ...]]:
    """Commands in blocks of bash, or in backticks, as words without the program."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "(?:bash)?") for line in block.splitlines()]
    lines += re.findall(r"`((?:(?:\.venv/bin/)?python -m experiments\.|dpsynth )[^`]+)`", text)
    found = []
    for line in lines:
        start = _COMMAND.match(line.strip().removeprefix("$ "))
        if start and (start[1] or start[2]) in NAMES:
            rest = line.strip().removeprefix("$ ")[start.end() :]
            found.append((start[1] or start[2], *shlex.split(rest, comments=True)))
    return list(dict.fromkeys(found))


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands(page)))


def test_there_are_commands_to_try():
    assert len(COMMANDS) > 40 and {words[0] for words in COMMANDS} >= set(NAMES)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_on_a_page_names_settings_that_exist(words):
    name, *rest = words
    args = get_args_parser().parse_args(spell_out(rest))
    if args.help:
        return
    first = [re.sub(r"^([^=\[{]+=[^,\[{(]+),.*$", r"\1", word) for word in args.overrides]
    first = [re.sub(r"=interval\((.+?),.*$", r"=\1", word) for word in first if "sweeper=optuna" not in word]
    problems: list = []
    compose_point(args, name, [_PLACEHOLDERS.get(word, word) for word in first], problems)
    assert not problems, problems[0]


def test_a_setting_that_does_not_exist_is_noticed():
    with pytest.raises(AssertionError):
        test_a_command_on_a_page_names_settings_that_exist(("train", "privacy.epsilom=1"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem
)
def test_python_on_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    rows = [f"{age},{'red' if age > 40 else 'blue'}" for age in random.integers(18, 80, 300)]
    (tmp_path / "people.csv").write_text("\n".join(["age,color", *rows]) + "\n")
    (tmp_path / "people.yaml").write_text(PEOPLE)
    names = {"features": random.normal(15, 5, (200, 6, 1))}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
    assert len(names["more"]) == 1_000


def test_links_to_files_lead_somewhere():
    for page in PAGES:
        for link in re.findall(
            r"\]\((?!https?:|#|assets/|mailto:)([^)#]+)", page.read_text(encoding="utf-8")
        ):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 95
