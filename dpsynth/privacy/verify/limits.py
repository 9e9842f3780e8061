"""What is planned again for a stranger, and what would take too long: bounds far beyond any real run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dpsynth.data.units.units import units_of
from dpsynth.privacy.plan.problems import rate_and_steps

if TYPE_CHECKING:
    from dpsynth.data.schema import Schema
    from dpsynth.recipe import Recipe

MOST_COLUMNS = 2_000
MOST_STEPS = 10_000_000
MOST_EPSILON = 1_000.0
_MOST_ROWS = 100_000  # of one unit
_LEAST_NOISE = 0.02  # noise multiplier
_MOST_LOSS = 20_000.0  # rough sum of privacy losses, what its distribution has to span
_MOST_PARTS = 200  # different events


def limit_problems(schema: Schema, recipe: Recipe) -> Iterator[str]:
    """Why this recipe is not planned again."""
    if len(schema.columns) > MOST_COLUMNS:
        yield f"The schema has {len(schema.columns)} columns; up to {MOST_COLUMNS} are verified."
    if units_of(schema).max_rows > _MOST_ROWS:
        yield f"A unit has more than {_MOST_ROWS} rows."
    privacy, training = recipe.privacy, recipe.training
    if privacy.private and not 0.0 < privacy.total_epsilon <= MOST_EPSILON:
        yield f"epsilon is above {MOST_EPSILON:g}."
    if privacy.noise_multiplier is not None and privacy.noise_multiplier < _LEAST_NOISE:
        yield f"The noise multiplier is below {_LEAST_NOISE:g}."
    if len(training.ladder) > 32:
        yield "The ladder has more than 32 rungs."
    if rate_and_steps(training, schema.num_units)[1] > MOST_STEPS:
        yield f"Training has more than {MOST_STEPS:,} steps."


def price_problems(events: list[Mapping[str, Any]]) -> Iterator[str]:
    """Why the cost of these events, as ledgers have them, is not computed."""
    if len(events) > _MOST_PARTS:
        yield f"{len(events)} events are more than are composed."
        return
    loss = 0.0
    for event in events:
        found = _rough_loss(event)
        if found is None:
            yield "An event is not one that a plan makes."
            return
        loss += found
    if loss > _MOST_LOSS:
        yield "The events cost too much to be computed."


def _rough_loss(event: Any, times: int = 1, rate: float = 1.0, depth: int = 0) -> float | None:
    """Of one event, what its privacy loss may span, roughly; None where it has another form."""
    kind = event.get("type") if isinstance(event, Mapping) else None
    if depth > 4 or kind is None:
        return None
    if kind == "self_composed":
        count = event.get("count")
        good = isinstance(count, int) and not isinstance(count, bool) and 0 <= count * times <= MOST_STEPS
        return _rough_loss(event.get("event"), times * count, rate, depth + 1) if good else None
    if kind == "composed":
        parts = event.get("events")
        if not isinstance(parts, list) or len(parts) > 4:
            return None
        losses = [_rough_loss(part, times, rate, depth + 1) for part in parts]
        return None if None in losses else sum(losses)
    if kind == "poisson_sampled":
        rate = event.get("sample_rate")
        good = isinstance(rate, float | int) and 0.0 <= rate <= 1.0
        return _rough_loss(event.get("event"), times, rate, depth + 1) if good else None
    if kind == "gaussian":
        noise = event.get("noise_multiplier")
        if not isinstance(noise, float | int) or noise < _LEAST_NOISE:
            return None
        return times * min(rate, 1.0) / noise**2 if noise < 0.5 else times * rate**2 / noise**2
    if kind == "exponential_mechanism":
        each = event.get("epsilon")
        good = isinstance(each, float | int) and 0.0 < each <= MOST_EPSILON and times <= 10_000
        return times * each if good else None
    return 0.0 if kind in ("failure", "non_private") else None
