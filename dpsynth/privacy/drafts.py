"""What a schema and a generator make a run buy, before any noise is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpsynth.data.questions import Rounds
from dpsynth.privacy.checks import rate_and_steps
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

if TYPE_CHECKING:
    from dpsynth.data.schema import Schema
    from dpsynth.privacy.plan import Request

# Weights inside the columns' share. Histograms carry the model; the others only have to be right once.
_COLUMN_WEIGHTS = {
    "columns/range": 0.2,
    "columns/narrow": 0.3,
    "columns/values": 0.3,
    "columns/histograms": 1.0,
}
_MARGINAL_WEIGHTS = {"marginals": 0.6, "marginals/refined": 0.4}  # the second also of all further rounds
_FAILURE_SHARE = 0.1  # of delta, for partition selection, where categories are undeclared


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A purchase before its noise is known; `weight` is its fraction of its stage's share."""

    name: str
    stage: str
    weight: float
    sensitivity: float
    failure: float
    about: str
    choices: int = 0
    looks: int = 0


def list_drafts(
    privacy: PrivacyConfig, schema: Schema, request: Request, num_units: int | None
) -> list[Draft]:
    """Lists the purchases, each one joint Gaussian vector over the columns that take part in it.

    Sensitivity: a unit has at most `max_rows` rows, each in one cell of each column's histogram, so it
    changes one histogram by at most `max_rows` in L2 and k of them together by sqrt(k) * max_rows. In
    histograms of sequences an entity weighs 1, and this takes the place of `max_rows`.
    """
    rows = schema.unit.max_rows
    weight_in_histograms = 1 if schema.sequence is not None else rows
    open_bounds = [name for name, kind in schema.undeclared if kind == "bounds"]
    open_values = [name for name, kind in schema.undeclared if kind == "values"]

    def columns(name: str, num: int, about: str, failure: float = 0.0, per_unit: int = rows) -> Draft:
        sensitivity = per_unit * math.sqrt(num)
        weight = _COLUMN_WEIGHTS[name]
        return Draft(
            name=name, stage="columns", weight=weight, sensitivity=sensitivity, failure=failure, about=about
        )

    drafts = []
    if num_units is None:
        about = "the number of units"
        drafts.append(
            Draft(name="count", stage="count", weight=1.0, sensitivity=1.0, failure=0.0, about=about)
        )
    if open_bounds:
        which = ", ".join(open_bounds)
        drafts.append(columns("columns/range", len(open_bounds), f"powers of two around {which}"))
        drafts.append(
            columns("columns/narrow", len(open_bounds), f"where inside them the values of {which} lie")
        )
    if open_values:
        about = f"values of {', '.join(open_values)} that enough units share"
        drafts.append(columns("columns/values", len(open_values), about, _FAILURE_SHARE * privacy.delta))
    if not request.measures:
        return drafts
    num = len(schema.modelled)
    about = f"histograms of {num} columns"
    if request.crossed and num > 1:  # the target's own histogram is a sum of the others'
        num, about = num - 1, f"histograms of {num - 1} columns by {request.crossed}"
    drafts.append(columns("columns/histograms", num, about, per_unit=weight_in_histograms))
    rounds = {"marginals": request.num_marginals, "marginals/refined": request.num_refined}
    drafts += [
        Draft(
            name=name,
            stage="marginals",
            weight=_MARGINAL_WEIGHTS[name],
            sensitivity=weight_in_histograms * math.sqrt(num),
            failure=0.0,
            about=f"{num} joint histograms" + (", chosen by the others" if "/" in name else ""),
        )
        for name, num in rounds.items()
        if num
    ]
    return drafts + list(_round_drafts(request.rounds, weight_in_histograms))


def look_drafts(
    privacy: PrivacyConfig, training: TrainingConfig, request: Request, num_units: int | None
) -> Iterator[Draft]:
    """Noisy looks at the loss while training, if any are wanted.

    Sensitivity: a loss counts from 0 to 1, in parts of its bound.
    """
    if not (request.trains and privacy.private and privacy.validation_share > 0.0):
        return
    looks = rate_and_steps(training, num_units)[1] // training.validation_every
    yield Draft(
        name="validation",
        stage="validation",
        weight=1.0,
        sensitivity=1.0,
        failure=0.0,
        about=f"{looks} noisy looks at the loss, in parts of its bound",
        looks=looks,
    )


def _round_drafts(rounds: Rounds | None, per_unit: int) -> Iterator[Draft]:
    """Two purchases per round: the choice of questions, then their answers.

    Sensitivity: a unit moves a model's error on a histogram (L1) by at most `per_unit`, hence a score.
    """
    if rounds is None:
        return
    whole = _MARGINAL_WEIGHTS["marginals/refined"] / rounds.num
    shared = {"stage": "marginals", "failure": 0.0}
    for number in range(1, rounds.num + 1):
        choice, answers = round_events(number)
        yield Draft(
            name=choice,
            weight=whole * rounds.choice_share,
            sensitivity=float(per_unit),
            choices=rounds.choices,
            about=f"which {rounds.choices} joint histograms the model gets most wrong",
            **shared,
        )
        yield Draft(
            name=answers,
            weight=whole * (1.0 - rounds.choice_share),
            sensitivity=per_unit * math.sqrt(rounds.choices),
            about=f"the {rounds.choices} joint histograms chosen",
            **shared,
        )


def round_events(number: int) -> tuple[str, str]:
    """Names of a round's choice and answers."""
    return f"marginals/{number}/choice", f"marginals/{number}/answers"
