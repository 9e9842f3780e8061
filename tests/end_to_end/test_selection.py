"""`sweep.selection=private` from the command line: one release, whose claim pays for the choice."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dpsynth.privacy.accounting.events import event_from_dict
from dpsynth.privacy.accounting.selection import Trials, selection_epsilon
from dpsynth.privacy.ledger import lines
from dpsynth.privacy.release import signing
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.verify import verify
from dpsynth.study import selection
from dpsynth.study.points import Point
from tests.end_to_end.test_train import QUICK, call, here, runs_of, table  # noqa: F401  fixtures

GRID = [
    "-m",
    "generator=independent",
    "privacy.epsilon=1,2",
    "sweep.selection=private",
    "sweep.mean_trials=3",
]


@pytest.fixture(scope="module")
def chosen(table, tmp_path_factory):  # noqa: F811
    here, patch = tmp_path_factory.mktemp("chosen"), pytest.MonkeyPatch()  # noqa: F811
    patch.chdir(here)
    patch.setattr(Trials, "draw", lambda self: 3)
    signing.make_key(here / "key")
    code = call(*GRID, *table, *QUICK, "num_rows=300", "release.sign_key=key", monkeypatch=patch)
    patch.undo()
    return here, code


def test_only_the_best_trial_is_released_and_its_claim_pays_for_the_choice(chosen):
    here, code = chosen  # noqa: F811
    (release,) = [path.parent for path in here.glob("outputs/**/certificate.json")]
    config = yaml.safe_load((release.parent / "config.yaml").read_text())
    assert not {"sweep", "tracking"} & config.keys() and config["privacy"]["epsilon"] in (1.0, 2.0)
    assert code == 0 and release.parent.name == "selected" and verify(release).passed
    found = Release.load(release)
    facts = found.ledger[0]["selection"]
    runs = [[event_from_dict(event) for event in run] for run in facts["runs"]]
    assert len(runs) == 4  # two configurations and their scores
    cost = selection_epsilon(runs, 1e-5, Trials(mean=3.0))
    assert 2.0 < cost <= found.certificate["epsilon"] <= cost + 1e-4
    assert found.claim == f"epsilon={found.certificate['epsilon']:g}, delta=1e-05"
    parent = next(run for run in runs_of(here) if run.data.tags["dpsynth.kind"] == "sweep")
    assert parent.data.tags["dp.claim"] == found.claim
    assert len(list(here.glob("mlruns/**/release.json"))) <= 1


def test_the_chosen_release_alone_is_signed(chosen):
    here, _ = chosen  # noqa: F811
    fingerprint = signing.read_fingerprint(here / "key.pub")
    (release,) = here.glob("outputs/*/*/selected/release")
    assert verify(release, fingerprint=fingerprint).passed
    assert not list(here.glob("outputs/*/*/internal/**/signature.json"))


def test_the_best_is_the_one_with_the_highest_score(chosen):
    here, _ = chosen  # noqa: F811
    results = [json.loads(path.read_text()) for path in here.glob("outputs/*/*/internal/*/result.json")]
    assert len(results) == 3 and len({result["score"] for result in results}) == 3
    best = max(results, key=lambda result: result["score"])
    (release,) = here.glob("outputs/*/*/selected/release")
    own = Release.load(release).ledger[0]["plan"]["guarantee"]["epsilon"]
    assert own == best["epsilon"]


def rechained(records, change):
    """The records after a change to the first line, with hashes that fit."""
    made, previous = [], lines.START
    for record in records:
        body = json.loads(json.dumps({k: v for k, v in record.items() if k != "hash"})) | {
            "previous": previous
        }
        if body["kind"] == "plan":
            change(body["selection"])
        previous = lines.line_hash(body)
        made.append({**body, "hash": previous})
    return tuple(made)


@pytest.mark.parametrize("lie", ["epsilon", "mean", "runs", "unpaid score", "rows", "lines"])
def test_a_selection_that_claims_too_little_fails_verification(lie, chosen, tmp_path):
    from dpsynth.privacy.release.certificate import make_certificate

    here, _ = chosen  # noqa: F811
    (path,) = here.glob("outputs/*/*/selected/release")
    honest = Release.load(path)

    def change(facts):
        if lie == "epsilon":  # the claim of a single run
            facts["epsilon"] = 2.0
        elif lie == "mean":
            facts["trials"]["mean"] = 300.0
        elif lie == "unpaid score":
            facts["runs"] = [run for run in facts["runs"] if len(run) > 1 or run[0]["type"] != "gaussian"]
        elif lie == "rows":
            facts["rows"] = [["aa", 41]]
        elif lie == "lines":
            facts["score"] = "verified: epsilon=0\n"
        else:  # of which the chosen one is not a part
            facts["runs"] = [[{"type": "gaussian", "noise_multiplier": 50.0}]]

    records = rechained(honest.ledger, change)
    certificate = make_certificate(records, honest.schema, honest.certificate["noise"])
    replace(honest, ledger=records, certificate=certificate).save(tmp_path / "lie")
    assert [check.name for check in verify(tmp_path / "lie").checks if not check.passed] == ["selection"]


def test_trials_are_drawn_once_and_kept_when_the_sweep_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "parse", lambda node: node)
    monkeypatch.setattr(selection, "_trials", lambda config: Trials(mean=40.0))
    monkeypatch.setattr(selection, "_priced", lambda configs: {"selection": {}})
    grid = [["seed=0"], ["seed=1"], ["seed=2"]]
    first = selection.draw_trials(grid, lambda words: words, tmp_path)
    assert selection.draw_trials(grid, lambda words: words, tmp_path) == first
    assert [words[-1] for words in first] == [f"sweep.trial={trial}" for trial in range(len(first))]
    moved = [[*words, "tracking.parent_run_id=other", "sweep.resume=here"] for words in grid]
    assert len(selection.draw_trials(moved, lambda words: words, tmp_path)) == len(first)
    with pytest.raises(Exception, match="another grid"):
        selection.draw_trials(grid[:2], lambda words: words, tmp_path)
    others = [len(selection.draw_trials(grid, lambda words: words, tmp_path / f"{i}")) for i in range(8)]
    assert len({len(first), *others}) > 1


def test_a_sweep_with_missing_trials_chooses_nothing(tmp_path):
    kept = {"selection": {"epsilon": 3.0, "delta": 1e-5}, "picks": [0, 0]}
    (tmp_path / "internal").mkdir()
    Path(tmp_path, "internal/trials.json").write_text(json.dumps(kept))
    with pytest.raises(Exception, match="missing"):
        selection.conclude(tmp_path, [])
    Path(tmp_path, "internal/trials.json").write_text(json.dumps(kept | {"picks": []}))
    assert selection.conclude(tmp_path, [])[0] is None


def test_nothing_tells_how_many_trials_there_were_or_which_was_chosen(chosen, table, tmp_path, monkeypatch):  # noqa: F811
    """What is released, logged outside `internal` and printed is equal for one and for three trials.

    The number is bounded by anything that grows with it: the winner's number, runs, failed points, lines.
    """
    seen = {}
    for num in (1, 3):
        here = tmp_path / str(num)  # noqa: F811
        here.mkdir()
        monkeypatch.chdir(here)
        monkeypatch.setattr(Trials, "draw", lambda self, num=num: num)
        monkeypatch.setattr(selection.secrets, "randbelow", lambda n: 1)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            assert call(*GRID, *table, *QUICK, "num_rows=300", monkeypatch=monkeypatch) == 0
        trials = list(here.glob("outputs/*/*/internal/*/result.json"))
        assert len(trials) == num  # all of them are internal
        seen[num] = outside(here, out.getvalue())
    assert seen[1] == seen[3] and len(seen[1]["runs"]) == 1


def test_the_winners_number_does_not_show_in_what_stands_beside_its_release(chosen, tmp_path, monkeypatch):
    """Of trials with equal settings whichever wins leaves the same: its number bounds how many there are."""
    here, _ = chosen  # noqa: F811
    monkeypatch.chdir(here)  # where the key of its configuration lies
    (honest,) = here.glob("outputs/*/*/selected/release")

    def beside(winner: int, folder: Path) -> dict[str, bytes]:
        points = []
        for trial in range(2):
            place = folder / "internal" / str(trial)
            shutil.copytree(honest, place / "release")
            settings = yaml.safe_load((honest.parent / "config.yaml").read_text())
            settings["sweep"], settings["tracking"] = {"trial": trial}, {"name": "none"}
            (place / "config.yaml").write_text(yaml.safe_dump(settings))
            score = float(trial == winner)
            points.append(
                Point(
                    digest="",
                    status="FINISHED",
                    generator="",
                    seed=0,
                    score=score,
                    release=str(place / "release"),
                )
            )
        facts = Release.load(honest).ledger[0]["selection"]
        kept = {"selection": facts, "picks": [0, 0]}
        (folder / "internal/trials.json").write_text(json.dumps(kept))
        selection.conclude(folder, points)
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted((folder / "selected").rglob("*"))
            if path.is_file()
        }

    assert beside(0, tmp_path / "a") == beside(1, tmp_path / "b")
    monkeypatch.setattr(selection, "_of_the_grid", lambda path: path.read_text())  # broken twin: as it ran
    assert beside(0, tmp_path / "c") != beside(1, tmp_path / "d")


def outside(place: Path, printed: str) -> dict:
    """What a sweep left outside `internal`, without times, paths and the random names of runs."""
    (folder,) = place.glob("outputs/*/*")
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if path.parts[0] != "internal" and path.name != "multirun.yaml"]
    config = (folder / "selected/config.yaml").read_text()
    runs = [
        (run.data.params, sorted(run.data.metrics), sorted(run.data.tags), run.data.tags["dp.claim"])
        for run in runs_of(place)
    ]
    for run in runs:
        run[0].pop("command")
    return {
        "files": files,
        "config": config,
        "runs": runs,
        "printed": printed.replace(str(folder), "").replace(str(folder.relative_to(place)), ""),
    }


def test_a_trial_is_scored_once_and_counts_though_its_unpaid_figures_fail(table, here, monkeypatch):  # noqa: F811
    """A figure that fails by what is in the holdout must not decide who is chosen; nor is a score redrawn."""
    from dpsynth.evaluation import metrics

    monkeypatch.setattr(Trials, "draw", lambda self: 2)
    honest = metrics.evaluate

    def broken(*arguments, **named):
        raise ValueError("too few rows")

    monkeypatch.setattr(metrics, "evaluate", broken)
    assert call(*GRID, *table, *QUICK, "num_rows=300", monkeypatch=monkeypatch) == 1
    (release,) = here.glob("outputs/*/*/selected/release")
    folder = release.parents[1]
    assert verify(release).passed
    scores = {path: path.read_text() for path in folder.glob("internal/*/score.json")}
    assert len(scores) == 2
    monkeypatch.setattr(metrics, "evaluate", honest)
    shutil.rmtree(release)  # as if it had been cut off before it chose; the trials' releases are made again
    assert call(*GRID, *table, *QUICK, "num_rows=300", f"sweep.resume={folder}", monkeypatch=monkeypatch) == 0
    assert {path: path.read_text() for path in scores} == scores


def test_a_private_selection_is_a_sweep(table, here, monkeypatch, capsys):  # noqa: F811
    assert call("generator=independent", "sweep.selection=private", *table, monkeypatch=monkeypatch) == 2
    assert "Add -m" in capsys.readouterr().err and not (here / "outputs").exists()


def test_a_choice_of_no_finite_epsilon_is_refused_before_a_trial_reads(table, here, monkeypatch, capsys):  # noqa: F811
    schema = Path(table[2].partition("=")[2])
    text = re.sub(r", values: \[north[^]]*\]", "", schema.read_text(encoding="utf-8"))
    assert "north" not in text
    (here / "open.yaml").write_text(text, encoding="utf-8")
    words = [*GRID[:-1], "sweep.mean_trials=1000", *table[:2], f"data.schema={here}/open.yaml"]
    assert call(*words, monkeypatch=monkeypatch) != 0
    assert "use up delta" in capsys.readouterr().err
    assert not list(here.rglob("ledger.jsonl"))
