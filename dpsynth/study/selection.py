"""Private selection: trials are drawn, scored by a paid score, and the best one alone is released.

Everything here but the chosen release and its configuration is internal, and stays in the sweep's folder
`internal`: how many trials there were, which of them was chosen, their scores, figures and releases.
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
from dpsynth.study import holdout
from dpsynth.study.points import INTERNAL, Point

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema
    from dpsynth.privacy.release.release import Release

TRIALS, SELECTED, _SCORE = "trials.json", "selected", "score.json"
_ABOUT = "noisy sum over holdout rows of 1 - squared error of a model fitted on synthetic rows"


def draw_trials(
    grid: Sequence[Sequence[str]], composed: Callable[[Sequence[str]], Any], folder: str | Path
) -> list[list[str]]:
    """Draws how many trials there are and which configuration each has; a resumed sweep keeps its draw.

    The draw, and what each configuration would cost, are on disk before the first trial reads anything.

    Args:
      grid: overrides of each configuration.
      folder: where trials run.
      composed: turns such overrides into a composed node.
    Raises:
      InvalidInput: a configuration has no privacy or nothing to be scored by.
    """
    path, grid = Path(folder) / TRIALS, [list(words) for words in grid]
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if [_identity(words) for words in kept["grid"]] != [_identity(words) for words in grid]:
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


def _identity(words: Sequence[str]) -> list[str]:
    """Returns what a configuration computes: not where it is tracked, nor that it goes on."""
    return [word for word in words if not word.startswith(("tracking.", "sweep.resume="))]


def _trials(config: RunConfig) -> Any:
    from dpsynth.privacy.accounting.selection import Trials

    sweep = config.sweep
    return Trials(mean=sweep.mean_trials, shape=sweep.shape, distribution=sweep.distribution)


def _priced(configs: Sequence[RunConfig]) -> dict[str, Any]:
    """States what showing the best trial costs: each configuration's events, and the event of its score."""
    from dpsynth import pipeline
    from dpsynth.data.tables.datasets import load_schema
    from dpsynth.privacy.accounting.events import event_from_dict, event_to_dict
    from dpsynth.privacy.accounting.selection import selection_curve
    from dpsynth.privacy.many_runs.selection import score_noise, selection_facts
    from dpsynth.study.recipe import recipe_of

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
        noise = score_noise(config.privacy.total_epsilon, config.privacy.delta)
        runs.append([{"type": "gaussian", "noise_multiplier": noise}])
    delta = max(config.privacy.delta for config in configs)
    unique = [json.loads(text) for text in dict.fromkeys(json.dumps(run) for run in runs)]
    trials = _trials(configs[0])
    facts = selection_facts(unique, delta, trials, _ABOUT)
    if facts["epsilon"] is None:
        rule = f"is {trials.mean:g}: so many trials use up delta={delta:g} where values are bought."
        fix = "Lower it, or declare the values of all categories."
        raise InvalidInput("sweep.selection=private", [Problem("sweep.mean_trials", rule, fix)])
    curve, failure = selection_curve([[event_from_dict(event) for event in run] for run in unique], trials)
    return {
        "name": uuid.uuid4().hex,
        "selection": facts,
        "curve": [float(value) if math.isfinite(value) else None for value in curve],
        "failure": failure,
    }


def score_once(
    config: RunConfig, synthetic: pd.DataFrame, rows: Callable[[], pd.DataFrame], schema: Schema, folder: Path
) -> float:
    """Returns the noisy score of a trial; what it reads is paid for by the selection.

    It is computed once, and kept: a trial that goes on has the score that it had, not another draw. How the
    score is computed is fixed before `rows` is called.

    Args:
      rows: gives the holdout's rows. Private.
      folder: of the trial.
    """
    from threadpoolctl import threadpool_limits

    from dpsynth.data.units.units import units_of
    from dpsynth.evaluation.frozen import FrozenScore
    from dpsynth.privacy.many_runs.selection import noisy_score, score_noise
    from dpsynth.privacy.noise.entropy import make_entropy

    path, privacy = folder / _SCORE, config.privacy
    if not path.exists():
        with threadpool_limits(config.evaluation.num_threads):
            score = FrozenScore.fit(synthetic, schema, config.evaluation, config.seed)
            found = score(rows())
        noise = score_noise(privacy.total_epsilon, privacy.delta)
        entropy = make_entropy(privacy.noise, "cpu")
        noisy = noisy_score(found, noise, entropy, max_rows=units_of(schema).max_rows)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(noisy), encoding="utf-8")
        draft.replace(path)
    return kept_score(folder)


def kept_score(folder: Path) -> float | None:
    """Returns the noisy score that a trial has; None where it came to none."""
    path = folder / _SCORE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def conclude(folder: Path, points: Sequence[Point]) -> tuple[Release | None, str]:
    """Releases the best trial with the claim of the choice, and takes the other trials' releases away.

    A trial counts if it came to a score, whatever became of the unpaid figures after it. Beside the release
    stands its configuration as a point of the grid: nothing says which trial it was.
    Edge cases: no trials were drawn, or all failed -> nothing is released, which costs the same.
    Raises:
      DpsynthError: trials are missing; choosing among those that are there would be another mechanism.
    """
    from dpsynth.privacy.many_runs.selection import certified
    from dpsynth.privacy.release.release import Release
    from dpsynth.privacy.release.signing import read_private_key, sign

    place = folder / SELECTED / "release"
    kept = json.loads((folder / INTERNAL / TRIALS).read_text(encoding="utf-8"))
    claim = f"epsilon={up(kept['selection']['epsilon'])}, delta={up(kept['selection']['delta'])}"
    if not place.exists():
        if len(points) < len(kept["picks"]):
            raise DpsynthError(
                f"Trials are missing. Go on with sweep.resume={folder}; nothing is chosen before."
            )
        scored = [point for point in points if point.score is not None]
        if not scored:
            return None, f"Nothing was chosen. This cost {claim}."
        best = max(scored, key=lambda point: point.score)
        place.parent.mkdir(exist_ok=True)
        trial = Path(best.release).parent
        place.with_name("config.yaml").write_text(_of_the_grid(trial / "config.yaml"), encoding="utf-8")
        holdout.copy(trial, place.parent)
        certified(Release.load(best.release), kept["selection"]).save_whole(place)
    for point in points:
        if point.release:
            shutil.rmtree(point.release, ignore_errors=True)
    if key := _sign_key(place.with_name("config.yaml")):
        sign(place, read_private_key(key))
    release = Release.load(place)
    return release, f"The best of a random number of trials, chosen by a private score: {claim}.\n{place}"


def _sign_key(path: Path) -> str | None:
    """Returns the key's file that a configuration names."""
    import yaml

    return (yaml.safe_load(path.read_text(encoding="utf-8")).get("release") or {}).get("sign_key")


def _of_the_grid(path: Path) -> str:
    """Returns a trial's configuration without what tells it from other trials of the same."""
    import yaml

    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings = {key: value for key, value in settings.items() if key not in ("sweep", "tracking")}
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
