"""`sweep.selection=private` from the command line: one release, whose claim pays for the choice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpsynth.privacy import records as lines
from dpsynth.privacy.release import Release
from dpsynth.privacy.selection import Trials, selection_epsilon
from dpsynth.privacy.verify import verify
from experiments import selection
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
    code = call(*GRID, *table, *QUICK, "num_rows=300", monkeypatch=patch)
    patch.undo()
    return here, code


def test_only_the_best_trial_is_released_and_its_claim_pays_for_the_choice(chosen):
    here, code = chosen  # noqa: F811
    (release,) = [path.parent for path in here.glob("outputs/**/certificate.json")]
    assert code == 0 and release.parent.name == "selected" and verify(release).passed
    found = Release.load(release)
    facts = found.ledger[0]["selection"]
    runs = [[lines.event_from_dict(event) for event in run] for run in facts["runs"]]
    assert len(runs) == 4  # two configurations and their scores
    cost = selection_epsilon(runs, 1e-5, Trials(mean=3.0))
    assert 2.0 < cost <= found.certificate["epsilon"] <= cost + 1e-4
    assert found.claim == f"epsilon={found.certificate['epsilon']:g}, delta=1e-05"
    parent = next(run for run in runs_of(here) if run.data.tags["dpsynth.kind"] == "sweep")
    assert parent.data.tags["dp.claim"] == found.claim
    assert (
        not list(here.glob("mlruns/**/release.json")) or len(list(here.glob("mlruns/**/release.json"))) == 1
    )


def test_the_best_is_the_one_with_the_highest_score(chosen):
    here, _ = chosen  # noqa: F811
    results = [json.loads(path.read_text()) for path in here.glob("outputs/*/*/*/result.json")]
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


@pytest.mark.parametrize("lie", ["epsilon", "mean", "runs"])
def test_a_selection_that_claims_too_little_fails_verification(lie, chosen, tmp_path):
    from dpsynth.privacy.certificate import make_certificate

    here, _ = chosen  # noqa: F811
    (path,) = here.glob("outputs/*/*/selected/release")
    honest = Release.load(path)

    def change(facts):
        if lie == "epsilon":  # the claim of a single run
            facts["epsilon"] = 2.0
        elif lie == "mean":
            facts["trials"]["mean"] = 300.0
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
    with pytest.raises(Exception, match="another grid"):
        selection.draw_trials(grid[:2], lambda words: words, tmp_path)
    others = [len(selection.draw_trials(grid, lambda words: words, tmp_path / f"{i}")) for i in range(8)]
    assert len({len(first), *others}) > 1


def test_a_sweep_with_missing_trials_chooses_nothing(tmp_path):
    kept = {"selection": {"epsilon": 3.0, "delta": 1e-5}, "picks": [0, 0]}
    Path(tmp_path, "trials.json").write_text(json.dumps(kept))
    with pytest.raises(Exception, match="missing"):
        selection.conclude(tmp_path, [])
    Path(tmp_path, "trials.json").write_text(json.dumps(kept | {"picks": []}))
    assert selection.conclude(tmp_path, [])[0] is None


def test_the_score_of_a_row_depends_on_that_row_alone(table, tmp_path):  # noqa: F811
    """Taking one row out of the holdout takes its own score out, and changes no other."""
    import pandas as pd

    from dpsynth.data.schema import Schema

    schema = Schema.load(table[2].split("=")[1])
    frame = pd.read_csv(table[1].split("=")[1])
    synthetic, holdout = frame.iloc[:120], frame.iloc[600:900]

    class Settings:
        from dpsynth.evaluation.types import EvaluationConfig

        evaluation, seed = EvaluationConfig(), 0

    whole = selection.row_scores(Settings, synthetic, holdout, schema)
    assert len(whole) == 300 and 0.0 <= whole.min() and whole.max() <= 1.0 and whole.std() > 0.01
    for row in (0, 299):
        fewer = selection.row_scores(Settings, synthetic, holdout.drop(holdout.index[row]), schema)
        assert np.array_equal(fewer, np.delete(whole, row))
    # Broken twin: scores relative to the table's mean move together.
    assert not np.array_equal((whole - whole.mean())[1:], whole[1:] - whole[1:].mean())


def test_a_private_selection_is_a_sweep(table, here, monkeypatch, capsys):  # noqa: F811
    assert call("generator=independent", "sweep.selection=private", *table, monkeypatch=monkeypatch) == 2
    assert "Add -m" in capsys.readouterr().err and not (here / "outputs").exists()
