"""The plan: how one declared (epsilon, delta) is split, fixed before anything private is read.

The budget is divided in units of 1 / noise_multiplier**2, which is what Gaussian mechanisms add up when they
compose: a stage with a share of 0.1 has the noise that would spend a tenth of the budget's total of
1 / noise_multiplier**2. Training (or, without training, the last stage) is solved for, so that the composed
total meets epsilon from below. Every number here is public and a constant from then on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dpsynth.data.bought.questions import Rounds

if TYPE_CHECKING:
    from pathlib import Path

    from dp_accounting.dp_event import DpEvent

    from dpsynth.privacy.plan.guarantee import Guarantee, NonPrivate


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a generator needs from the budget. Public.

    Args:
      trains: it has a private network, trained by DP-SGD.
      measures: it uses the 1-way histograms; a simulator of declared processes does not.
      num_marginals: number of joint histograms to buy beside the 1-way ones.
      num_refined: number of joint histograms to buy afterwards, chosen by the answers to the first.
      crossed: the column (the target) whose cells cross the 1-way histograms of the others, or None.
      rounds: of joint histograms chosen by what the generator's model gets wrong, or None.
      validates: its objective has a loss per unit, of which noisy means can be bought while it trains.
      num_parameters: of the private network, for the noise-to-signal guess; None where unknown.
    """

    trains: bool
    measures: bool = True
    num_marginals: int = 0
    num_refined: int = 0
    crossed: str | None = None
    rounds: Rounds | None = None
    validates: bool = False
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
      validation_looks: noisy looks at the loss that are paid for beside the steps, at most.
      validation_noise_multiplier: of each look; None without looks.
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
    validation_looks: int = 0
    validation_noise_multiplier: float | None = None

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
class Rung:
    """A budget that a training reaches on its way, and after how many of its steps. Public."""

    epsilon: float
    steps: int

    def place(self, folder: Path) -> Path:
        """Returns where a run in `folder` puts this rung's release, unless it is the highest."""
        return folder / f"rung-{self.epsilon:g}" / "release"


@dataclass(frozen=True, kw_only=True)
class PlannedEvent:
    """One purchase: what it may be used for, how often (once), and how noisy it is.

    Args:
      name: the ledger's key.
      stage: "count", "columns", "marginals", "validation" or "training".
      event: what accountants compose.
      noise_multiplier: noise stddev over sensitivity; 0 without privacy. Of choices: of the Gaussian that
        would cost as much (1 / noise_multiplier**2 = choices * choice_epsilon**2 / 4). Of looks: of the one
        look that would cost as much as all.
      sensitivity: L2 norm by which one unit can change what is measured; of choices, how far it can move a
        score.
      choices: made by the exponential mechanism; 0 for a Gaussian one.
      num_histograms: answered together, as one vector; 0 for anything else.
      looks: at the loss while training; 0 for anything else.
      failure: delta of the event by itself (partition selection), else 0.
      about: what is read, for people.
    """

    name: str
    stage: str
    event: DpEvent
    noise_multiplier: float
    sensitivity: float
    num_histograms: int = 0
    failure: float = 0.0
    choices: int = 0
    looks: int = 0
    about: str = ""

    @property
    def noise_stddev(self) -> float:
        """In the units of what is measured."""
        return self.noise_multiplier * self.sensitivity

    @property
    def choice_epsilon(self) -> float:
        """Of each choice by the exponential mechanism; infinite without privacy."""
        return choice_epsilon(self.noise_multiplier, self.choices)


def choice_epsilon(noise_multiplier: float, choices: int) -> float:
    """Epsilon of each of some exponential mechanisms that together cost as much as one Gaussian mechanism.

    Source: Cesar & Rogers (2021): an exponential mechanism is epsilon**2 / 8 zero-concentrated DP, a Gaussian
      one 1 / (2 noise_multiplier**2). It only splits the budget; what is charged is composed exactly.
    """
    return 2.0 / (noise_multiplier * math.sqrt(choices)) if noise_multiplier else math.inf


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
      rungs: of a ladder, from the lowest to the declared epsilon; empty where there is none.
      canaries: hash that commits to the coins by which units were left out before the run; None without.
    """

    guarantee: Guarantee | NonPrivate
    events: tuple[PlannedEvent, ...]
    training: TrainingPlan | None
    epsilon: float
    num_units: int | None
    request: Request
    rungs: tuple[Rung, ...] = ()
    canaries: str | None = None

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
        from dpsynth.privacy.accounting.events import event_to_dict

        rungs = {"rungs": [asdict(rung) for rung in self.rungs]} if self.rungs else {}
        coins = {"canaries": self.canaries} if self.canaries else {}
        return {
            **rungs,
            **coins,
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


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
