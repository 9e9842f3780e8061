"""Which joint histograms of a table are worth buying; decided by the schema alone, before any purchase.

A declared target is what a table is mostly used for, so every pair of other columns is bought within each of
its *strata*: a few groups of its cells (the cells themselves for short lists). The axis of strata is named
`@target`.
"""

from __future__ import annotations

from itertools import combinations

from dpsynth.data.schema import Boolean, Categorical, Schema
from dpsynth.data.statistics import MAX_STRATA, STRATA, Question


def crossing(schema: Schema) -> str | None:
    """The column whose cells cross the 1-way histograms of the others: a target of few declared values."""
    target = schema.target
    if target is None or schema.sequence is not None or target not in _names(schema):
        return None
    column = schema.column(target)
    if isinstance(column, Boolean):
        return target
    short = isinstance(column, Categorical) and column.values is not None
    return target if short and len(column.values) + column.nullable <= MAX_STRATA else None


def pair_questions(schema: Schema) -> tuple[Question, ...]:
    """Every pair of columns, within the target's strata where it has some.

    Edge cases: no target, or one that is a long list of categories -> plain pairs; a numeric target has few
    strata, so it is paired with every other column too; fewer than two columns -> nothing.
    """
    names = _names(schema)
    strata = _stratified(schema)
    others = [name for name in names if name != strata]
    if strata is None or len(others) < 2:
        return tuple(Question(columns=pair) for pair in combinations(names, 2))
    asked = [Question(columns=(*pair, STRATA + strata)) for pair in combinations(others, 2)]
    if crossing(schema) is None:
        asked += [Question(columns=(name, strata)) for name in others]
    return tuple(asked)


def _names(schema: Schema) -> list[str]:
    return [column.name for column in schema.modelled]


def _stratified(schema: Schema) -> str | None:
    target = schema.target
    if target is None or target not in _names(schema):
        return None
    return None if isinstance(schema.column(target), Categorical) and crossing(schema) is None else target
