"""From public facts to a plan: what a recipe asks of a schema, before anything private is read."""

from __future__ import annotations

import functools
from typing import Any

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.errors import InvalidInput
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Plan, Request
from dpsynth.recipe import Recipe


def plan(schema: Schema, recipe: Recipe) -> Plan:
    """Splits the declared budget before anything private is read; depends on public facts alone.

    Raises:
      InvalidInput: the method does not fit the schema, or there is no such plan; lists every reason.
    """
    try:
        hash(recipe)
    except TypeError:  # settings that hold a mapping are solved for anew
        return _plan.__wrapped__(schema, recipe)
    return _plan(schema, recipe)


@functools.lru_cache(maxsize=8)
def _plan(schema: Schema, recipe: Recipe) -> Plan:
    return make_plan(recipe.privacy, recipe.training, schema, request(schema, recipe))


def request(schema: Schema, recipe: Recipe) -> Request:
    """What the method needs from the budget, known before any purchase; public.

    Raises:
      InvalidInput: the method does not fit the schema.
    """
    from dpsynth.generators import generator_names
    from dpsynth.generators.base import load_generator, wishes
    from dpsynth.methods import fit_problems

    method, private = load_generator(recipe.generator).Generator, recipe.privacy.shaped
    if problems := fit_problems(recipe.generator, schema, generator_names()):
        raise InvalidInput("the recipe", problems)
    encoder = method.encoder_type
    questions = method.questions(recipe.settings, schema, private=private)
    wants = wishes(method, recipe.settings, schema, private=private)
    return Request(
        trains=wants.trains,
        measures=wants.measures,
        num_marginals=len(questions),
        num_refined=encoder.num_refined(schema) if questions and wants.refines else 0,
        crossed=encoder.crossing(schema) if questions or wants.rounds else None,
        rounds=wants.rounds,
        **(_private_network(method, schema, recipe) if wants.trains and private else {}),
    )


def _private_network(method: Any, schema: Schema, recipe: Recipe) -> dict[str, Any]:
    """What the plan asks of the network, over made-up statistics: a guess, as no cell is bought yet."""
    statistics = Statistics.made_up(schema)
    encoder = method.encoder(recipe.settings, schema, statistics, private=True)
    objective = method(recipe.settings, encoder, statistics, seed=0, private=True).objective()
    return {
        "num_parameters": sum(p.numel() for p in objective.private.parameters()),
        "validates": hasattr(objective, "validation_losses"),
    }


def try_questions(schema: Schema, recipe: Recipe) -> None:
    """Tries the method's questions on made-up units, before anything is charged."""
    from dpsynth.generators.base import load_generator
    from dpsynth.privacy.measuring.extremes import check_questions

    method, private = load_generator(recipe.generator).Generator, recipe.privacy.shaped
    if questions := method.questions(recipe.settings, schema, private=private):
        made_up = Statistics.made_up(schema, max_cells=method.encoder_type.max_cells)
        check_questions(method.encoder(recipe.settings, schema, made_up, private=private), questions)
