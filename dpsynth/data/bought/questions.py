"""Which joint histograms of a table are worth buying.

A declared target is what a table is mostly used for, so every pair of other columns is bought within each of
its *strata*: a few groups of its cells (the cells themselves for short lists). The axis of strata is named
`@target`. Noise in a histogram does not depend on the number of its cells, but grows with the number of
histograms. So all pairs are bought first, over few groups of cells (`~column`); then those that hang together
most are bought once more, over all cells; or, where pairs leave the target open, as many histograms of the
leaves of trees. How many is decided by the schema alone; which ones, by answers that have been bought.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from dpsynth.data.bought.partition import Grid, Partition
from dpsynth.data.bought.statistics import GROUPS, MAX_STRATA, STRATA, Marginal, Question, Statistics
from dpsynth.data.schema import Boolean, Categorical, Schema
from dpsynth.errors import InvalidInput, Problem

_SIGNAL = 4.0
_ORDER_ROUNDS = 4
_PER_COLUMN = 2  # pairs that are chosen after all have been bought


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How often a generator asks further questions by what its model gets wrong. Public.

    Args:
      num: rounds; each chooses questions by the exponential mechanism and buys their answers.
      choices: questions per round.
      choice_share: of a round's budget for choosing; the rest is for answers.
    """

    num: int
    choices: int = 1
    choice_share: float = 0.1

    def __post_init__(self) -> None:
        if not (self.num > 0 and self.choices > 0 and 0.0 < self.choice_share < 1.0):
            rule = f"Expected {self} to have num and choices above 0 and choice_share in (0, 1)."
            raise InvalidInput("the generator", [Problem("rounds", rule, "Correct its settings.")])


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposal:
    """A question that a model would have answered next, and what it expects. Made of bought answers alone.

    Args:
      question: of the joint histogram.
      expected: the model's answer, in rows.
      weight: how much an error counts, in [0, 1].
      penalty: what the answer's noise would cost, in rows; taken off the model's error.
    """

    question: Question
    expected: np.ndarray
    weight: float = 1.0
    penalty: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Ballot:
    """What one choice is about: which grid divides each leaf of a partition. Made of bought answers alone.

    A grid's score in a leaf is half the L1 distance of its boxes by classes from what the expected shares of
    the classes make of the boxes' own rows, less its penalty: how much the grid tells about the classes that
    is not known yet. So only what hangs together with the target counts, not where rows are.

    Args:
      partition: of all rows.
      target: axis of the classes.
      grids: that are proposed for every leaf.
      shares: by grid, expected shares of the classes, [leaf, box or 1, class]; each at most one in sum.
      penalties: by grid, in rows.
      least: score of leaving a leaf whole, in rows; None where every leaf is divided.
    """

    partition: Partition
    target: str
    grids: tuple[Grid, ...]
    shares: tuple[np.ndarray, ...]
    penalties: tuple[float, ...]
    least: float | None = None

    def thinned(self, num: int) -> Ballot:
        """At most so many of its grids, evenly spaced."""
        step = -(-len(self.grids) // num) or 1
        parts = {name: getattr(self, name)[::step] for name in ("grids", "shares", "penalties")}
        return replace(self, **parts)


def crossing(schema: Schema) -> str | None:
    """The column whose cells cross the 1-way histograms of the others: a target of few declared values."""
    target = schema.target
    if target is None or target not in _names(schema):
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
        return tuple(Question(columns=(GROUPS + a, GROUPS + b)) for a, b in combinations(names, 2))
    asked = [Question(columns=(GROUPS + a, GROUPS + b, STRATA + strata)) for a, b in combinations(others, 2)]
    if crossing(schema) is None:
        asked += [Question(columns=(name, strata)) for name in others]
    return tuple(asked)


def pair_rounds(schema: Schema, adaptive_rounds: int | None) -> Rounds | None:
    """Rounds that choose pairs by what a model gets wrong, in place of refining; None where none are wanted.

    Args:
      adaptive_rounds: None refines pairs by what was bought anyway: that needs no choice to be paid for, and
        has been better on every table measured.
    """
    pairs = len(pair_questions(schema))
    if not adaptive_rounds or pairs == 0:
        return None
    choices = -(-_PER_COLUMN * len(_names(schema)) // adaptive_rounds)
    return Rounds(num=adaptive_rounds, choices=min(choices, pairs))


def order_rounds(schema: Schema) -> Rounds | None:
    """Rounds that divide rows by what pairs do not tell about the target; None without a target or columns.

    Each pays for as many histograms as are refined in a round, whatever the answers say.
    """
    if order_axis(schema) is None or len(_names(schema)) < 4:
        return None
    return Rounds(num=_ORDER_ROUNDS, choices=-(-num_refined(schema) // _ORDER_ROUNDS), choice_share=0.2)


def order_axis(schema: Schema) -> str | None:
    """The axis of the target's classes: its cells, or strata of a number; None without a target."""
    target = schema.target
    if target is None or target not in _names(schema):
        return None
    return target if isinstance(schema.column(target), (Boolean, Categorical)) else STRATA + target


def num_refined(schema: Schema) -> int:
    """How many pairs are bought a second time; public."""
    return min(
        sum(_is_grouped(question) for question in pair_questions(schema)), _PER_COLUMN * len(_names(schema))
    )


def refined_questions(statistics: Statistics, num: int) -> tuple[Question, ...]:
    """The pairs that hang together most within strata, over all their cells.

    Formal guarantee: post-processing of bought histograms.
    """
    grouped = [m for m in statistics.marginals if _is_grouped(m)]
    grouped.sort(key=lambda m: -dependence(m))
    plain = [tuple(name.removeprefix(GROUPS) for name in m.columns) for m in grouped[:num]]
    return tuple(Question(columns=columns) for columns in plain)


def max_groups(num_rows: float, noise_stddev: float, num_strata: int) -> int:
    """Groups per column for which the cells of a pair hold a few times the noise on average; 5 to 32."""
    if noise_stddev <= 0.0:
        return 32
    return int(np.clip(round((num_rows / (_SIGNAL * num_strata * noise_stddev)) ** 0.5), 5, 32))


def _is_grouped(asked: Question | Marginal) -> bool:
    return all(name.startswith(GROUPS) for name in asked.columns[:2])


def dependence(marginal: Marginal) -> float:
    """Chi-square of independence within strata, less what noise adds to it."""
    counts = marginal.counts if marginal.counts.ndim == 3 else marginal.counts[..., None]
    rows, columns = counts.sum(1, keepdims=True), counts.sum(0, keepdims=True)
    expected = np.maximum(rows, 0.0) * np.maximum(columns, 0.0) / np.maximum(counts.sum((0, 1)), 1.0)
    variance = marginal.noise_stddev**2
    return float((((counts - expected) ** 2 - variance) / (expected + marginal.noise_stddev + 1.0)).sum())


def _names(schema: Schema) -> list[str]:
    return [column.name for column in schema.modelled]


def _stratified(schema: Schema) -> str | None:
    target = schema.target
    if target is None or target not in _names(schema):
        return None
    return None if isinstance(schema.column(target), Categorical) and crossing(schema) is None else target
