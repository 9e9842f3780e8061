"""A ladder: one training, and a release at each budget that it reaches on its way.

What a rung releases is a function of the events before training and of the first steps of the training, at
the one noise multiplier that the plan solved for the highest rung. The states come from one trajectory, so
publishing several rungs costs what the highest of them costs: the others are on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.privacy.configs import TrainingConfig
from dpsynth.privacy.ledger.lines import START, line_hash
from dpsynth.privacy.plan.plan import Plan, Rung, TrainingPlan
from dpsynth.privacy.training.kept_states import kept_states

if TYPE_CHECKING:
    from dpsynth.privacy.ledger.ledger import Ledger
    from dpsynth.privacy.release.release import Release


@dataclass(frozen=True)
class Extract:
    """The part of a ledger that a rung is made of; read-only, and shaped like a ledger."""

    records: list[dict[str, Any]]


def rung_plan(plan: Plan, rung: Rung) -> Plan:
    """Returns the plan of a run that stops at this rung: the same noise, fewer steps, a lower epsilon.

    Edge cases: a rung that no step reaches has no training event; it is made from what was bought before.
    """
    from dpsynth.privacy.accounting import accountants
    from dpsynth.privacy.plan.budget import training_event

    training = replace(plan.training, steps=rung.steps) if rung.steps else None
    events = [event for event in plan.events if event.stage != "training"]
    events += [training_event(training)] if training else []
    composed = accountants.Ingredients.of(event.event for event in events)
    return replace(
        plan,
        guarantee=replace(plan.guarantee, epsilon=rung.epsilon),
        events=tuple(events),
        training=training,
        epsilon=accountants.pld_epsilon(composed, plan.guarantee.delta),
    )


def extract(records: Sequence[Mapping[str, Any]], plan: Plan, rung: Rung) -> Extract:
    """Returns the ledger of a run that stopped at this rung, with the real one's id, stamps and order."""
    before = records[0]["plan"]["training"]["expected_batch_size"]  # the plan's, not what a count made of it
    stopped = rung_plan(replace(plan, training=replace(plan.training, expected_batch_size=before)), rung)
    planned = {event.name for event in stopped.events}
    extracted, previous = [], START
    for record in records:
        body = {key: value for key, value in record.items() if key != "hash"}
        if body["kind"] == "plan":
            body["plan"] = stopped.to_dict()
        elif body.get("event", next(iter(planned))) not in planned:
            continue
        if body["kind"] == "finish" and body["event"] == "training":
            body["digest"] = None  # of the highest rung's weights
        body |= {"index": len(extracted), "previous": previous}
        previous = line_hash(body)
        extracted.append({**body, "hash": previous})
    return Extract(extracted)


def restore(
    objective: Any, state: Path, constants: TrainingPlan, config: TrainingConfig, ledger: Ledger
) -> None:
    """Puts an objective where the training was after a rung's steps, weight averages applied.

    Raises:
      GuaranteeVoid: the state belongs to another ledger or plan.
    """
    from dpsynth.privacy.training.checkpoint import Checkpoint
    from dpsynth.privacy.training.schedule import WeightAverage

    found = Checkpoint(path=state).read(ledger.id, constants)
    objective.load_state(found["objective"])
    average = WeightAverage(objective, config.ema_decay)
    average.load_state(found["parts"]["average"])
    average.apply()


def climb(
    make: Callable[[Extract], Release],
    objective: Any,
    plan: Plan,
    config: TrainingConfig,
    ledger: Ledger,
    folder: Path,
) -> tuple[Release, ...]:
    """Writes the releases below the highest, from the states that were kept; rungs that exist stay.

    Args:
      make: makes a release from the objective's present state, certified by the ledger that it is given.
      plan: with the divisor of its training filled in.
    """
    from dpsynth.privacy.release.release import Release

    states, releases = kept_states(folder, plan), []
    for rung in plan.rungs[:-1]:
        place = rung.place(folder)
        if not place.exists():
            restore(objective, states[rung.steps], plan.training, config, ledger)
            make(extract(ledger.records, plan, rung)).save_whole(place)
        releases.append(Release.load(place))
    for state in states.values():
        state.unlink(missing_ok=True)
    return tuple(releases)
