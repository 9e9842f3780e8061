"""A resume finds its run however it is spelled, and refuses where it would spend anew without a word."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from dpsynth.study.points import collect
from tests.end_to_end.test_train import QUICK, ROOT, call, here, table  # noqa: F401  fixtures

WORDS = ["generator=independent", "num_rows=50", "audit=none", "tracking=none"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory, table):  # noqa: F811
    """A finished run of its own, and a sweep of one point."""
    place = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert call(*WORDS, *table, *QUICK, "hydra.run.dir=own", monkeypatch=patch) == 0
        assert call("-m", *WORDS, *table, *QUICK, "hydra.sweep.dir=swept", monkeypatch=patch) == 0
    return place


def ledgers(place):
    return {path: path.read_bytes() for path in place.rglob("ledger.jsonl")}


MAY_DIFFER = [
    [],
    ["training.threads=2"],
    ["training.checkpoint_every=3"],
    ["evaluation.num_bootstraps=1"],
    ["privacy.lifetime_epsilon=50"],
    ["privacy.dataset_ledger=elsewhere.sqlite"],
]


@pytest.mark.parametrize("more", MAY_DIFFER, ids=lambda words: " ".join(words) or "nothing")
@pytest.mark.parametrize("folder", ["own", "./own/", "swept", "swept/0", "ABSOLUTE/own"])
def test_a_resume_finds_its_run(begun, table, monkeypatch, more, folder):  # noqa: F811
    if folder != "own" and more and "lifetime" not in more[0]:
        pytest.skip("one spelling is enough")
    monkeypatch.chdir(begun)
    before = ledgers(begun)
    folder = folder.replace("ABSOLUTE", str(begun))
    words = [*WORDS, *table, *QUICK, *more, f"sweep.resume={folder}"]
    assert call(*(["-m"] if "swept" in folder else []), *words, monkeypatch=monkeypatch) == 0
    assert ledgers(begun) == before  # nothing was spent


@pytest.mark.parametrize("folder", ["missing", "/etc/passwd", "empty", "own", "swept"])
def test_a_resume_that_matches_nothing_is_refused(begun, table, monkeypatch, capsys, folder):  # noqa: F811
    monkeypatch.chdir(begun)
    (begun / "empty").mkdir(exist_ok=True)
    before = ledgers(begun)
    words = [*WORDS, *table, *QUICK, "privacy.epsilon=3", f"sweep.resume={folder}"]
    assert call(*(["-m"] if folder == "swept" else []), *words, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr().err
    assert "sweep.resume" in said and ledgers(begun) == before
    if folder in ("own", "swept"):
        assert "privacy.epsilon is 1.0 there and 3 here" in said or "1.0 there and 3.0 here" in said


STOPPED = """
import os, sys
from dpsynth import pipeline
from experiments import command_line, sweep, train
number = int(sys.argv.pop(1))
def die(*_, **__):
    os.kill(os.getpid(), number)
pipeline._build = die
command_line.run(train.job, "train", around=sweep.around)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_prints_the_command_that_continues_it(number, table, here, monkeypatch):  # noqa: F811
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STOPPED, str(int(number)), *WORDS, *table, *QUICK]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 128 + number and "Traceback" not in done.stderr
    folder = re.search(r"Interrupted\. It goes on with: .* sweep\.resume=(\S+)$", done.stderr, re.M)[1]
    assert call(*WORDS, *table, *QUICK, f"sweep.resume={folder}", monkeypatch=monkeypatch) == 0
    (ledger,) = ledgers(here).values()
    assert ledger.count(b'"kind":"charge"') == 1
    assert [point.status for point in collect(here / folder / "..")] == ["FINISHED"]
