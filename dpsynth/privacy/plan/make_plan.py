"""Splits one declared budget over everything that a run buys, before anything private is read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dpsynth.data.units.units import units_of
from dpsynth.errors import InvalidInput
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.plan.plan import Plan, Request
from dpsynth.privacy.plan.purchases import list_purchases

if TYPE_CHECKING:
    from dpsynth.data.schema import Schema


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
    from dpsynth.privacy.plan import budget
    from dpsynth.privacy.plan.guarantee import Guarantee, NonPrivate
    from dpsynth.privacy.plan.problems import plan_problems

    num_units = num_units or schema.num_units
    problems = list(plan_problems(privacy, training, request, num_units))
    if problems:
        raise InvalidInput("the plan", problems)
    units = units_of(schema)
    unit = {"unit": units.name, "max_rows": units.max_rows}
    if privacy.name == "encoding":
        priced = make_plan(replace(privacy, name="dp"), training, schema, request, num_units)
        return budget.without_private_training(priced, NonPrivate(**unit))
    looked = training if privacy.private else None
    purchases = list_purchases(privacy, schema, request, training=looked, num_units=num_units)
    if not privacy.private:
        plan = budget.without_privacy(purchases, NonPrivate(**unit), num_units, request)
        clipped = privacy.name == "clipping" and request.trains
        return replace(plan, training=budget.clipping_alone(training, num_units)) if clipped else plan
    spends = bool(purchases) or request.trains
    guarantee = Guarantee(epsilon=privacy.total_epsilon if spends else 0.0, delta=privacy.delta, **unit)
    return budget.solve(privacy, training, guarantee, purchases, num_units, request)
