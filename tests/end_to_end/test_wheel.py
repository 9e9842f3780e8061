"""The wheel, in an environment that has the dependencies and nothing of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import pytest

from dpsynth.__main__ import NAMES

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("dpsynth", "experiments", "conf", "pyproject.toml", "README.md", "LICENSE")
TABLE = "age,color,hours\n" + "".join(
    f"{20 + i % 50},{'red' if i % 3 else 'blue'},{i % 60}\n" for i in range(400)
)
SCHEMA = """version: 1
num_units: 400
columns:
  - {name: age, kind: integer, min: 18, max: 80}
  - {name: color, kind: categorical, values: [red, blue]}
  - {name: hours, kind: continuous, min: 0, max: 80}
"""


def run(*words: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    """Runs a program without anything that would lead it to this checkout."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([*map(str, words)], cwd=cwd, env={**kept, **more}, capture_output=True, text=True)
    done.said = done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing an earlier build left behind comes along."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    words = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    done = run(sys.executable, "-m", "pip", *words, cwd=folder)
    assert done.returncode == 0, done.said
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def home(wheel, tmp_path_factory):
    """An environment with the wheel, and a folder to work in; dependencies are lent by this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    words = ("install", "--quiet", "--no-deps", "--no-index", wheel)
    done = run(sys.executable, "-m", "pip", "--python", python, *words, cwd=folder)
    assert done.returncode == 0, done.said
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    work = folder / "work"
    work.mkdir()
    (work / "people.csv").write_text(TABLE)
    (work / "people.yaml").write_text(SCHEMA)
    return work


def dpsynth(home: Path, *words: str) -> subprocess.CompletedProcess:
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return run(home.parent / "venv" / "bin" / "dpsynth", *words, cwd=home, **threads)


def test_the_wheel_puts_nothing_but_the_package_among_the_packages(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "dpsynth",
        f"{'-'.join(wheel.name.split('-')[:2])}.dist-info",
    }
    assert {"dpsynth/py.typed", "dpsynth/report/template.html", "dpsynth/conf/train.yaml"} <= set(names)


def test_the_wheel_holds_every_module_and_every_setting(wheel):
    homes = {"dpsynth": "dpsynth", "experiments": "dpsynth/commands", "conf": "dpsynth/conf"}
    wanted = {
        f"{homes[part]}/{file.relative_to(ROOT / part)}"
        for part in homes
        for file in (ROOT / part).rglob("*")
        if file.suffix in (".py", ".yaml", ".html", ".typed")
    }
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


def test_the_command_alone_lists_the_commands_at_once(home):
    dpsynth(home)  # compiles
    start = time.monotonic()
    said = dpsynth(home).stdout
    assert time.monotonic() - start < 5  # 0.06 s by itself; a busy machine must not decide
    assert [line.split()[0] for line in said.splitlines() if line.startswith("  ")] == list(NAMES)
    assert "experiments" not in said


def test_the_listing_imports_no_library(home):
    code = "import sys; from dpsynth.__main__ import main; main(); print(*sys.modules)"
    done = run(home.parent / "venv" / "bin" / "python", "-c", code, cwd=home)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert done.returncode == 0 and not loaded & {"torch", "hydra", "numpy", "pandas", "mlflow", "pydantic"}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_shows_its_help_in_words_that_work_here(home, name):
    done = dpsynth(home, name, "--help")
    assert done.returncode == 0, done.said
    assert f"dpsynth {name}" in done.stdout and "experiments." not in done.stdout


@pytest.mark.slow
def test_a_table_goes_all_the_way(home):
    drafted = dpsynth(home, "schema", "data.path=people.csv", "out=drafted.yaml")
    assert drafted.returncode == 0 and (home / "drafted.yaml").is_file(), drafted.said
    own = ("data=csv", "data.path=people.csv", "data.schema=people.yaml", "generator=independent")
    planned = dpsynth(home, "plan", *own)
    assert planned.returncode == 0 and "epsilon" in planned.stdout, planned.said
    # Two processes of joblib: what they are handed must be importable there as well.
    sweep = ("hydra/launcher=joblib", "seed=0,1", "hydra.sweep.dir=swept")
    trained = dpsynth(home, "train", "-m", *own, *sweep, "tracking=none", "audit=none")
    assert trained.returncode == 0 and "experiments." not in trained.said, trained.said
    for words, shown in {
        ("verify",): "verified: epsilon=1",
        ("sample", "num_rows=5", "out=more.csv"): "5 synthetic rows",
        ("evaluate", "train=people.csv", "holdout=people.csv"): "total variation",
        ("audit",): "smoke: CONSISTENT",
        ("report", "real=false"): "report",
    }.items():
        done = dpsynth(home, words[0], "release=swept/0/release", *words[1:])
        assert done.returncode == 0 and shown in done.said, done.said


def test_a_mistake_names_a_command_that_works_here(home):
    done = dpsynth(home, "train", "data=csv", "data.path=people.csv")
    assert done.returncode == 2 and "dpsynth schema data.path=FILE" in done.stderr
    assert "nearest" not in done.stderr and dpsynth(home, "trian").stderr.endswith("Did you mean 'train'?\n")


def test_settings_are_completed(home):
    script = (
        'eval "$(dpsynth completion)"\n'
        'COMP_LINE="dpsynth train generator=" COMP_WORDS=(dpsynth train generator=) COMP_CWORD=2; _dpsynth\n'
        'echo "${COMPREPLY[@]}"\nCOMP_LINE="dpsynth sa" COMP_WORDS=(dpsynth sa) COMP_CWORD=1; _dpsynth\n'
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{home.parent / 'venv' / 'bin'}:{os.environ['PATH']}"
    done = run("bash", "-c", script, cwd=home, PATH=path)
    settings, commands = done.stdout.splitlines()[-2:]
    assert {"generator=ctgan", "generator=tvae"} <= set(settings.split()), done.said
    assert commands == "sample"
