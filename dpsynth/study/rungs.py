"""The lower rungs of a ladder: each is recorded as a child of the run whose training it came from."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth import tracking
from dpsynth.config import RunConfig
from dpsynth.data.wording import up
from dpsynth.study import holdout
from dpsynth.study.points import FINISHED, Point

if TYPE_CHECKING:
    from dpsynth.evaluation.types import Evaluation
    from dpsynth.pipeline import Run
    from dpsynth.privacy.release.release import Release
    from dpsynth.tracking import Tracker


def rung_points(
    config: RunConfig,
    run: Run,
    folder: Path,
    tracker: Tracker,
    *,
    who: Mapping[str, Any],
    evaluated: Callable[[Release], Evaluation],
    record: Callable[[Tracker, Release, Evaluation, Path], None],
) -> list[Point]:
    """Evaluates and records what the training gave on its way; empty without a ladder.

    Args:
      who: what tells the run from others, as fields of a point.
      evaluated: the figures of a release.
      record: logs a release and its figures; the folder is that of the release's files.
    """
    points = []
    for rung, release in zip(run.plan.rungs, run.rungs):
        place = rung.place(folder)
        shutil.copy(folder / "config.yaml", place.parent / "config.yaml")  # for whoever reports on it
        holdout.copy(folder, place.parent)
        name = f"{config.generator_name} {release.claim} seed={config.seed} (rung)"
        tags = {"dpsynth.kind": "rung", "dp.claim": release.claim, "dp.unit": run.plan.guarantee.unit}
        child = dataclasses.replace(config.tracking, parent_run_id=tracker.run_id, run_name=None)
        settings = {**who["settings"], "privacy.epsilon": rung.epsilon}
        with tracking.track(child, name, tags) as own:
            own.params({**settings, "ladder.steps": rung.steps, **_noise(run)})
            evaluation = evaluated(release)
            record(own, release, evaluation, place.parent)
            points.append(
                Point(
                    **{**who, "epsilon": rung.epsilon, "settings": settings},
                    status=FINISHED,
                    claim=release.claim,
                    evaluation=evaluation.to_dict(),
                    release=str(place),
                    run_id=own.run_id,
                )
            )
    if run.plan.rungs:
        tracker.params(_noise(run))
        tracker.text(statement(run), "ladder.txt")
    return points


def _noise(run: Run) -> dict[str, float]:
    return {"ladder.noise_multiplier": run.plan.training.noise_multiplier}


def statement(run: Run) -> str:
    """Says what the rungs have in common and what publishing them costs."""
    plan = run.plan
    noise = plan.training.noise_multiplier
    lines = [
        f"A ladder: one training with noise multiplier {noise:g} for all rungs.",
        *(f"  epsilon={up(rung.epsilon)} after {rung.steps} steps" for rung in plan.rungs),
        "Publishing one rung costs its epsilon. Publishing several, or all, costs that of the highest",
        f"({plan.guarantee.claim}), since the others are on its way.",
        "A run planned for a lower epsilon alone would take more steps with more noise.",
    ]
    return "\n".join(lines) + "\n"
