"""Choosing the best of a random number of trials: how many, and what showing only the best costs.

The number of trials is drawn from the operating system's entropy and stays secret: given that number, or the
best one's place among them, which bounds it, the choice would cost more. What is shown is the best trial's
release and its configuration; neither its score nor anything of other trials.

Source: Papernot & Steinke (2022), Hyperparameter tuning with Renyi differential privacy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.accounting.selection import Trials, selection_epsilon

if TYPE_CHECKING:
    from dpsynth.privacy.release.release import Release

_SCORE_STEPS = 1000  # a row's score counts in thousandths


def selection_facts(
    runs: Sequence[Sequence[Mapping[str, Any]]], delta: float, trials: Trials, about: str
) -> dict[str, Any]:
    """States what a selection costs, so that a stranger can compute it again. Public.

    Args:
      runs: the events of each configuration, and of the score of each, as ledgers have them.
      about: what the trials were scored by.
    """
    from dpsynth.privacy.accounting.events import event_from_dict

    events = [[event_from_dict(event) for event in run] for run in runs]
    found = selection_epsilon(events, delta, trials)
    return {
        "epsilon": math.ceil(found * 1e4) / 1e4 if math.isfinite(found) else None,
        "delta": delta,
        "trials": asdict(trials),
        "runs": [list(run) for run in runs],
        "score": about,
    }


def certified(release: Release, facts: Mapping[str, Any]) -> Release:
    """Returns the best trial's release with the claim of the selection in place of its own.

    Args:
      release: of the trial that was chosen.
      facts: see `selection_facts`.
    """
    from dpsynth.privacy.ledger.lines import START, line_hash
    from dpsynth.privacy.release.certificate import make_certificate

    records, previous = [], START
    for record in release.ledger:
        body = {key: value for key, value in record.items() if key != "hash"} | {"previous": previous}
        if body["kind"] == "plan":
            body["selection"] = dict(facts)
        previous = line_hash(body)
        records.append({**body, "hash": previous})
    certificate = make_certificate(records, release.schema, release.certificate["noise"])
    return replace(release, ledger=tuple(records), certificate=certificate)


def score_noise(epsilon: float, delta: float) -> float:
    """Noise multiplier of a trial's score: as much as one Gaussian event may have for the trial's budget.

    Holdout rows are in no trial's training table, so their budget is as large as the trial's own.
    """
    from dpsynth.privacy.accounting.calibration import gaussian_noise_multiplier

    return math.ceil(gaussian_noise_multiplier(epsilon, delta) * 1e4) / 1e4


def noisy_score(scores: np.ndarray, noise_multiplier: float, entropy: Any, *, max_rows: int = 1) -> float:
    """Returns the noisy sum of scores of rows that no trial trained on.

    Formal guarantee: one Gaussian event of this noise multiplier over units with at most `max_rows` rows, if
    a row's score depends on that row and on what was paid for alone. A unit is either here or in the training
    table, never in both, so a trial with its score costs one unit the larger of the two, not their sum.

    Args:
      scores: private; in [0, 1], one per row.
    Raises:
      GuaranteeVoid: a score is not a number; what its row would change has no bound.
    """
    from dpsynth.privacy.noise.mechanisms import exact_gaussian

    if not np.isfinite(scores).all():
        raise GuaranteeVoid("A row's score is not finite. Score every row with a number in [0, 1].")
    steps = np.rint(np.clip(scores, 0.0, 1.0) * _SCORE_STEPS).astype(np.int64)
    stddev = noise_multiplier * _SCORE_STEPS * max_rows
    return float(exact_gaussian(np.array([steps.sum()]), stddev, entropy=entropy)[0] / _SCORE_STEPS)
