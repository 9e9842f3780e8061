"""The plan: how one declared (epsilon, delta) is split, fixed before anything private is read.

The budget is divided in units of 1 / noise_multiplier**2, which is what Gaussian mechanisms add up when they
compose: a stage with a share of 0.1 has the noise that would spend a tenth of the budget's total of
1 / noise_multiplier**2. Training (or, without training, the last stage) is solved for, so that the composed
total meets epsilon from below. Every number here is public and a constant from then on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dpsynth.errors import InvalidInput, Problem
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig

__all__ = ["Plan", "PlannedEvent", "PrivacyConfig", "Request", "TrainingConfig", "TrainingPlan", "make_plan"]

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

    from dpsynth.data.schema import Schema
    from dpsynth.privacy.guarantee import Guarantee, NonPrivate


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a generator needs from the budget. Public.

    Args:
      trains: it has a private network, trained by DP-SGD.
      measures: it uses the 1-way histograms; a simulator of declared processes does not.
      num_marginals: number of joint histograms to buy beside the 1-way ones.
      num_refined: number of joint histograms to buy afterwards, chosen by the answers to the first.
      crossed: the column (the target) whose cells cross the 1-way histograms of the others, or None.
      num_parameters: of the private network, for the noise-to-signal guess; None where unknown.
    """

    trains: bool
    measures: bool = True
    num_marginals: int = 0
    num_refined: int = 0
    crossed: str | None = None
    num_parameters: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Constants of one training run; the sampler, the clip, the noise and the charged event all read them.

    Args:
      sample_rate: per unit and step.
      steps: exactly this many are charged; a run may not take more.
      noise_multiplier: noise stddev over `max_grad_norm` (no unit), for the sum of clipped gradients.
      max_grad_norm: L2 bound of one unit's gradient.
      expected_batch_size: the divisor of the noisy sum, sample_rate times the public or bought number of
        units. A scale, not part of the event; None until the count has been bought.
      physical_batch_size, backend, noise, device: as configured.
    """

    sample_rate: float
    steps: int
    noise_multiplier: float
    max_grad_norm: float
    expected_batch_size: float | None
    physical_batch_size: int | str = "auto"
    backend: str = "fast"
    noise: str = "aes"
    device: str = "cpu"

    @property
    def noise_stddev(self) -> float:
        """Of the noise added to the sum of clipped gradients, in gradient units."""
        return self.noise_multiplier * self.max_grad_norm

    def with_count(self, num_units: float) -> TrainingPlan:
        """Fills the divisor from a bought (or public) number of units; a public divisor stays."""
        if self.expected_batch_size is not None:
            return self
        return replace(self, expected_batch_size=max(1.0, self.sample_rate * num_units))


@dataclass(frozen=True, kw_only=True)
class PlannedEvent:
    """One purchase: what it may be used for, how often (once), and how noisy it is.

    Args:
      name: the ledger's key.
      stage: "count", "columns", "marginals" or "training".
      event: what accountants compose.
      noise_multiplier: noise stddev over sensitivity; 0 without privacy.
      sensitivity: L2 norm by which one unit can change what is measured.
      failure: delta of the event by itself (partition selection), else 0.
      about: what is read, for people.
    """

    name: str
    stage: str
    event: DpEvent
    noise_multiplier: float
    sensitivity: float
    failure: float = 0.0
    about: str = ""

    @property
    def noise_stddev(self) -> float:
        """In the units of what is measured."""
        return self.noise_multiplier * self.sensitivity


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All purchases of a run, in order, and what they add up to. Public.

    Args:
      guarantee: what is declared and will be certified.
      events: in the order in which they may be charged; each at most once.
      training: constants of the training event, or None when nothing is trained privately.
      epsilon: of all events composed, by PLD, at the guarantee's delta; at most the declared one.
      num_units: the schema's approximate public number of units, or None.
      request: what the generator asked for.
    """

    guarantee: Guarantee | NonPrivate
    events: tuple[PlannedEvent, ...]
    training: TrainingPlan | None
    epsilon: float
    num_units: int | None
    request: Request

    @property
    def private(self) -> bool:
        return self.guarantee.private

    def __contains__(self, name: str) -> bool:
        return any(event.name == name for event in self.events)

    def event(self, name: str) -> PlannedEvent:
        """Returns the purchase of that name."""
        for event in self.events:
            if event.name == name:
                return event
        raise KeyError(f"No event {name!r} in the plan; it has {[event.name for event in self.events]}.")

    def before_training(self) -> list[DpEvent]:
        """The events of all stages but training."""
        return [event.event for event in self.events if event.stage != "training"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form: the head of a ledger."""
        from dpsynth.privacy.records import event_to_dict

        return {
            "guarantee": asdict(self.guarantee) | {"epsilon": _finite(self.guarantee.epsilon)},
            "private": self.private,
            "epsilon": _finite(self.epsilon),
            "num_units": self.num_units,
            "training": None if self.training is None else asdict(self.training),
            "events": [
                {
                    **{k: v for k, v in vars(event).items() if k != "event"},
                    "event": event_to_dict(event.event),
                }
                for event in self.events
            ],
        }

    def table(self) -> str:
        """The plan for people: events, noise, shares, epsilon after each, warnings with suggestions."""
        from dpsynth.privacy.pricing import describe_plan

        return describe_plan(self)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# Weights inside the columns' share. Histograms carry the model; the others only have to be right once.
_COLUMN_WEIGHTS = {
    "columns/range": 0.2,
    "columns/narrow": 0.3,
    "columns/values": 0.3,
    "columns/histograms": 1.0,
}
_MARGINAL_WEIGHTS = {"marginals": 0.6, "marginals/refined": 0.4}
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


def make_plan(
    privacy: PrivacyConfig,
    training: TrainingConfig,
    schema: Schema,
    request: Request,
    num_units: int | None = None,
) -> Plan:
    """Splits the declared budget over what this schema and generator need.

    Formal guarantee: reads no private data; depends on declared facts alone. The composed epsilon of the
    events at the declared delta lies in [0.995 * epsilon, epsilon] (with a given noise multiplier: at most
    the declared one).
    Edge cases: a public number of units needs no count, declared bounds and values need no purchase, a
    generator without private training gives its share to the last other stage; where nothing is bought, the
    guarantee is epsilon 0.

    Args:
      num_units: approximate, public; defaults to the schema's.
    Raises:
      InvalidInput: lists every reason why there is no such plan.
    """
    from dpsynth.privacy import budget
    from dpsynth.privacy.guarantee import Guarantee, NonPrivate

    num_units = num_units or schema.num_units
    problems = list(_plan_problems(privacy, training, request, num_units))
    if problems:
        raise InvalidInput("the plan", problems)
    unit = {"unit": schema.unit.column or "row", "max_rows": schema.unit.max_rows}
    drafts = _drafts(privacy, schema, request, num_units)
    if not privacy.private:
        return budget.without_privacy(drafts, NonPrivate(**unit), num_units, request)
    spends = bool(drafts) or request.trains
    guarantee = Guarantee(epsilon=privacy.total_epsilon if spends else 0.0, delta=privacy.delta, **unit)
    return budget.solve(privacy, training, guarantee, drafts, num_units, request)


def _plan_problems(
    privacy: PrivacyConfig, training: TrainingConfig, request: Request, num_units: int | None
) -> Iterator[Problem]:
    if not privacy.private:
        return
    if num_units is None and privacy.count_share == 0.0:
        fix = "Raise it to 0.01, or declare the schema's num_units (approximate will do)."
        yield Problem("privacy.count_share", "is 0, but the number of units has to be bought.", fix)
    if privacy.columns_share == 0.0 and (request.trains or request.num_marginals):
        yield Problem("privacy.columns_share", "is 0, but histograms have to be bought.", "Raise it to 0.1.")
    if not request.trains:
        return
    if training.expected_batch_size is not None:
        if num_units is None:
            rule = "needs the schema's num_units, since the exact number of units is private."
            fix = "Declare num_units (approximate will do), or set training.sample_rate and leave this null."
            yield Problem("training.expected_batch_size", rule, fix)
        elif training.expected_batch_size > num_units:
            rule = f"Expected {training.expected_batch_size} to be at most num_units={num_units}."
            yield Problem("training.expected_batch_size", rule, "Lower it.")
    if training.gradient_accumulation != 1:
        rule = "would change what is charged."
        fix = "Raise training.expected_batch_size; training.physical_batch_size bounds memory."
        yield Problem("training.gradient_accumulation", rule, fix)
    if training.validation_share > 0.0 or training.early_stop_delta is not None:
        rule = "would read private units without paying."
        yield Problem("training.validation_share", rule, "Set it to 0 and training.early_stop_delta to null.")


def _drafts(privacy: PrivacyConfig, schema: Schema, request: Request, num_units: int | None) -> list[Draft]:
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
    return drafts
