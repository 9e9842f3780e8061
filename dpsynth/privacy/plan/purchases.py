"""What a schema and a generator make a run buy, before any noise is known: the one formula of sensitivity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dpsynth.data.units.units import units_of
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.plan.problems import rate_and_steps

if TYPE_CHECKING:
    from dpsynth.data.schema import Schema
    from dpsynth.privacy.plan.plan import Request

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
class Purchase:
    """One event before its noise is known. Public.

    Args:
      name, stage, about: as in `PlannedEvent`.
      num_histograms: answered together, as one vector; 0 for anything else.
      sensitivity: L2 norm by which one unit can change what is measured; of choices, how far it can move a
        score.
      weight: fraction of the stage's share.
      failure: delta of the event by itself.
      choices: made by the exponential mechanism; 0 for a Gaussian one.
      looks: at the loss while training; 0 for anything else.
    """

    name: str
    stage: str
    about: str
    sensitivity: float
    num_histograms: int = 0
    weight: float = 1.0
    failure: float = 0.0
    choices: int = 0
    looks: int = 0


def list_purchases(
    privacy: PrivacyConfig,
    schema: Schema,
    request: Request,
    *,
    training: TrainingConfig | None = None,
    num_units: int | None = None,
) -> list[Purchase]:
    """Lists all purchases but training, in order; each is one joint vector over what takes part in it.

    Formal guarantee: with mass the most by which one unit changes one histogram (L1), it changes k of them
    together by at most mass * sqrt(k) in L2, and a model's error on one of them, hence a score, by mass.
    Where a schema leaves columns open rows are counted one by one, so there the cap of rows is the mass. The
    number of units changes by 1, and a loss counts from 0 to 1, in parts of its bound.

    Args:
      training: of a generator that trains; None lists no looks at its loss.
      num_units: approximate, public; defaults to the schema's.
    """
    units, num_units = units_of(schema), num_units or schema.num_units
    found = [] if num_units else [_count()]
    found += _open_columns(privacy, schema, units.max_rows)
    if request.measures:
        found += _histograms(schema, request, units.mass)
        found += _rounds(request, units.mass)
    if training is not None and request.trains and privacy.validation_share > 0.0:
        looks = rate_and_steps(training, num_units)[1] // training.validation_every
        about = f"{looks} noisy looks at the loss, in parts of its bound"
        found.append(
            Purchase(name="validation", stage="validation", about=about, sensitivity=1.0, looks=looks)
        )
    return found


def histogram_sensitivity(mass: int, num_histograms: int) -> float:
    """L2 norm by which one unit changes that many histograms together."""
    return mass * math.sqrt(num_histograms)


def _count() -> Purchase:
    return Purchase(name="count", stage="count", about="the number of units", sensitivity=1.0)


def _columns(name: str, num: int, mass: int, about: str) -> Purchase:
    return Purchase(
        name=name,
        stage="columns",
        about=about,
        sensitivity=histogram_sensitivity(mass, num),
        num_histograms=num,
        weight=_COLUMN_WEIGHTS[name],
    )


def _open_columns(privacy: PrivacyConfig, schema: Schema, max_rows: int) -> Iterator[Purchase]:
    """What has to be bought because the schema leaves it open."""
    bounds = [name for name, kind in schema.undeclared if kind == "bounds"]
    values = [name for name, kind in schema.undeclared if kind == "values"]
    if bounds:
        which = ", ".join(bounds)
        yield _columns("columns/range", len(bounds), max_rows, f"powers of two around {which}")
        yield _columns(
            "columns/narrow", len(bounds), max_rows, f"where inside them the values of {which} lie"
        )
    if values:
        about = f"values of {', '.join(values)} that enough units share"
        bought = _columns("columns/values", len(values), max_rows, about)
        yield replace(bought, failure=_FAILURE_SHARE * privacy.delta)


def _histograms(schema: Schema, request: Request, mass: int) -> Iterator[Purchase]:
    num = len(schema.modelled)
    about = f"histograms of {num} columns"
    if request.crossed and num > 1:  # the target's own histogram is a sum of the others'
        num, about = num - 1, f"histograms of {num - 1} columns by {request.crossed}"
    yield _columns("columns/histograms", num, mass, about)
    for name, num in {"marginals": request.num_marginals, "marginals/refined": request.num_refined}.items():
        if num:
            chosen = ", chosen by the others" if "/" in name else ""
            yield _joint(name, num, mass, _MARGINAL_WEIGHTS[name], f"{num} joint histograms{chosen}")


def _joint(name: str, num: int, mass: int, weight: float, about: str) -> Purchase:
    return Purchase(
        name=name,
        stage="marginals",
        about=about,
        sensitivity=histogram_sensitivity(mass, num),
        num_histograms=num,
        weight=weight,
    )


def _rounds(request: Request, mass: int) -> Iterator[Purchase]:
    """Two purchases per round: the choice of questions, then their answers."""
    rounds = request.rounds
    if rounds is None:
        return
    whole, num = _MARGINAL_WEIGHTS["marginals/refined"] / rounds.num, rounds.choices
    for number in range(1, rounds.num + 1):
        choice, answers = round_events(number)
        yield Purchase(
            name=choice,
            stage="marginals",
            about=f"which {num} joint histograms the model gets most wrong",
            sensitivity=float(mass),
            weight=whole * rounds.choice_share,
            choices=num,
        )
        weight = whole * (1.0 - rounds.choice_share)
        yield _joint(answers, num, mass, weight, f"the {num} joint histograms chosen")


def round_events(number: int) -> tuple[str, str]:
    """Names of a round's choice and answers."""
    return f"marginals/{number}/choice", f"marginals/{number}/answers"
