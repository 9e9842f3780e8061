"""The note of a sweep says in Markdown what the terminal said."""

from __future__ import annotations

from dpsynth.study.points import Point
from dpsynth.study.sweep_notes import sweep_note

METRICS = [
    {"name": "tstr_auc_boosting", "value": 0.8, "lower": 0.75, "upper": 0.85, "computed_on": "holdout"},
    {"name": "trtr_auc_boosting", "value": 0.9, "lower": None, "upper": None, "computed_on": "holdout"},
]


def point(seed: int = 0, **more) -> Point:
    known = {"digest": "d", "status": "FINISHED", "generator": "tvae", "claim": "epsilon=1, delta=1e-05"}
    return Point(**{**known, "seed": seed, "epsilon": 1.0, "evaluation": {"metrics": METRICS}, **more})


def test_a_note_holds_the_frontier_the_cost_and_each_failed_point():
    failed = point(1, status="FAILED", error="InvalidInput: a | b\nmore", evaluation={"metrics": []})
    note = sweep_note([point(), failed], "Publishing one run: epsilon=1.\nPublishing all: epsilon=2.")
    note = note.replace("&emsp;", " ")
    assert "| ε | tvae | real rows |" in note and "| 1 | 0.800 ± 0.050 | 0.900 |" in note
    assert "- Publishing all: epsilon=2." in note
    assert (
        "**Failed points: 1**" in note
        and "| tvae | epsilon=1, delta=1e-05 | 1 | InvalidInput: a \\| b more |" in note
    )


def test_a_sweep_in_which_all_failed_has_a_note_too():
    note = sweep_note([point(s, status="FAILED", evaluation={"metrics": []}) for s in range(30)], "")
    assert (
        "Failed points: 30, the first 10" in note
        and note.count("| tvae&emsp;|") == 10
        and "costs" not in note
    )
