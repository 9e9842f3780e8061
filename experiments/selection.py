"""Private selection: trials are drawn, scored by a paid score, and the best one alone is released.

Everything here but the chosen release is internal: the number of trials, their scores and their releases.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.config import RunConfig, parse
from dpsynth.data.wording import up
from dpsynth.errors import DpsynthError, InvalidInput, Problem
from experiments.points import FINISHED, Point

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dpsynth.data.schema import Schema
    from dpsynth.privacy.release import Release

TRIALS, SELECTED = "trials.json", "selected"
_ABOUT = "noisy sum over holdout rows of 1 - squared error of a model fitted on synthetic rows"


def draw_trials(
    grid: Sequence[Sequence[str]], composed: Callable[[Sequence[str]], Any], folder: str | Path
) -> list[list[str]]:
    """Draws how many trials there are and which configuration each has; a resumed sweep keeps its draw.

    The draw, and what each configuration would cost, are on disk before the first trial reads anything.

    Args:
      grid: overrides of each configuration.
      composed: turns such overrides into a composed node.
    Raises:
      InvalidInput: a configuration has no privacy or nothing to be scored by.
    """
    path, grid = Path(folder) / TRIALS, [list(words) for words in grid]
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["grid"] != grid:
            raise DpsynthError(f"{path} was drawn for another grid. Restore it, or start a new sweep.")
    else:
        configs = [parse(composed(words)) for words in grid]
        kept = {"grid": grid, **_priced(configs)}
        number = _trials(configs[0]).draw()
        kept["picks"] = [secrets.randbelow(len(grid)) for _ in range(number)]
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
    return [[*grid[pick], f"sweep.trial={trial}"] for trial, pick in enumerate(kept["picks"])]


def _trials(config: RunConfig) -> Any:
    from dpsynth.privacy.selection import Trials

    sweep = config.sweep
    return Trials(mean=sweep.mean_trials, shape=sweep.shape, distribution=sweep.distribution)


def _priced(configs: Sequence[RunConfig]) -> dict[str, Any]:
    """States what showing the best trial costs: each configuration's events, and the event of its score."""
    from dpsynth import pipeline
    from dpsynth.data.datasets import load_schema
    from dpsynth.privacy.records import event_from_dict, event_to_dict
    from dpsynth.privacy.selection import selection_curve, selection_facts
    from experiments.train import recipe_of

    runs, problems = [], []
    for config in configs:
        schema = load_schema(config.data)
        if not config.privacy.private:
            problems.append(
                Problem("privacy", "is none, and a choice cannot be private then.", "Leave it out.")
            )
        if schema.target is None:
            problems.append(Problem("data.target", "is needed: trials are scored by it.", "Declare it."))
        if not config.holdout_share:
            problems.append(Problem("holdout_share", "is 0: trials are scored on a holdout.", "Take 0.2."))
        if config.training.ladder:
            problems.append(Problem("training.ladder", "shows more than one release.", "Set it to []."))
        if problems:
            raise InvalidInput("sweep.selection=private", dict.fromkeys(problems))
        plan = pipeline.plan(schema, recipe_of(config))
        runs.append([event_to_dict(event.event) for event in plan.events])
        runs.append([{"type": "gaussian", "noise_multiplier": score_noise(config)}])
    delta = max(config.privacy.delta for config in configs)
    unique = [json.loads(text) for text in dict.fromkeys(json.dumps(run) for run in runs)]
    trials = _trials(configs[0])
    curve, failure = selection_curve([[event_from_dict(event) for event in run] for run in unique], trials)
    return {
        "name": uuid.uuid4().hex,
        "selection": selection_facts(unique, delta, trials, _ABOUT),
        "curve": [float(value) if math.isfinite(value) else None for value in curve],
        "failure": failure,
    }


def score_noise(config: RunConfig) -> float:
    """Noise multiplier of a trial's score: as much as one Gaussian event may have for the trial's budget.

    Holdout rows are in no trial's training table, so their budget is as large as the trial's own.
    """
    from dpsynth.privacy.calibration import gaussian_noise_multiplier

    noise = gaussian_noise_multiplier(config.privacy.total_epsilon, config.privacy.delta)
    return math.ceil(noise * 1e4) / 1e4


def private_score(config: RunConfig, synthetic: pd.DataFrame, holdout: pd.DataFrame, schema: Schema) -> float:
    """Returns the noisy score of a trial; what it reads is paid for by the selection."""
    from dpsynth.privacy.noise import make_entropy
    from dpsynth.privacy.selection import noisy_score

    rows = row_scores(config, synthetic, holdout, schema)
    entropy = make_entropy(config.privacy.noise, "cpu")
    return noisy_score(rows, score_noise(config), entropy, max_rows=schema.unit.max_rows)


def row_scores(
    config: RunConfig, synthetic: pd.DataFrame, holdout: pd.DataFrame, schema: Schema
) -> np.ndarray:
    """Scores each holdout row in [0, 1], by itself: a model fitted on synthetic rows predicts its target.

    Classes: 1 - (1 - p)**2 with p the probability of the true class. Numbers: 1 - (error / range)**2, at
    least 0. A table with no usable synthetic target scores 0.
    """
    import numpy as np

    from dpsynth.evaluation.utility import make_task, predict_number, predict_probabilities

    task = make_task(synthetic, holdout, schema, config.evaluation, config.seed)
    truth = task.test_target
    if not len(task.fit_target) or not len(truth):
        return np.zeros(len(truth))
    if task.classes is None:
        width = max(float(np.ptp(task.fit_target)), 1e-12)
        error = (predict_number(task, "boosting", config.seed) - truth) / width
        return 1.0 - np.minimum(np.abs(error), 1.0) ** 2
    chance = predict_probabilities(task, "boosting", config.seed)[np.arange(len(truth)), truth]
    return 1.0 - (1.0 - chance) ** 2


def conclude(folder: Path, points: Sequence[Point]) -> tuple[Release | None, str]:
    """Releases the best trial with the claim of the choice, and takes the other trials' releases away.

    Edge cases: no trials were drawn, or all failed -> nothing is released, which costs the same.
    Raises:
      DpsynthError: trials are missing; choosing among those that are there would be another mechanism.
    """
    from dpsynth.privacy.release import Release
    from dpsynth.privacy.selection import certified

    place = folder / SELECTED / "release"
    kept = json.loads((folder / TRIALS).read_text(encoding="utf-8"))
    claim = f"epsilon={up(kept['selection']['epsilon'])}, delta={up(kept['selection']['delta'])}"
    if not place.exists():
        if len(points) < len(kept["picks"]):
            raise DpsynthError(
                f"Trials are missing. Go on with sweep.resume={folder}; nothing is chosen before."
            )
        scored = [point for point in points if point.status == FINISHED and point.score is not None]
        if not scored:
            return None, f"Nothing was chosen: no trial finished. This cost {claim}."
        best = max(scored, key=lambda point: point.score)
        place.parent.mkdir(exist_ok=True)
        shutil.copy(Path(best.release).with_name("config.yaml"), place.with_name("config.yaml"))
        certified(Release.load(best.release), kept["selection"]).save_whole(place)
    for point in points:
        if point.release:
            shutil.rmtree(point.release, ignore_errors=True)
    release = Release.load(place)
    return release, f"The best of a random number of trials, chosen by a private score: {claim}.\n{place}"
