"""Which pairs a tree of columns asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from joints import SCHEMA, buy, exact, make_table
from worlds import measure

from dpsynth.data.bought.questions import pair_questions, pair_rounds
from dpsynth.data.bought.statistics import Marginal, Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.errors import InvalidInput
from dpsynth.generators.marginals.pair_seeker import PairSeeker

TABLE = make_table(4_000)


def nothing_bought() -> Statistics:
    return replace(measure(TABLE, SCHEMA), max_groups=8)


def errors(proposals, statistics) -> dict[tuple[str, ...], float]:
    return {
        p.question.columns: float(np.abs(exact(statistics, TABLE, p.question) - p.expected).sum())
        for p in proposals
    }


def seeker(statistics) -> PairSeeker:
    return PairSeeker(TableEncoder(SCHEMA, statistics), seed=0)


def test_the_first_proposals_are_all_pairs_and_their_errors_find_the_dependent_one():
    statistics = nothing_bought()
    proposals = seeker(statistics).propose(statistics, 1.0)
    assert [p.question for p in proposals] == list(pair_questions(SCHEMA))
    found = errors(proposals, statistics)
    assert max(found, key=found.get) == ("\0~age", "\0~town", "\0@buys")
    assert all(p.expected.sum() == pytest.approx(4_000.0) for p in proposals)


def test_a_pair_bought_over_groups_is_spread_over_all_cells_and_then_known_better():
    statistics = buy(TABLE, noise_stddev=0.0)
    grouped = replace(
        statistics, marginals=tuple(m for m in statistics.marginals if m.columns[0].startswith("\0~"))
    )
    proposals = {p.question.columns: p for p in seeker(grouped).propose(grouped, 1.0)}
    assert set(proposals) == {
        ("age", "town"),
        ("age", "pet"),
        ("age", "noise"),
        ("town", "pet"),
        ("town", "noise"),
        ("pet", "noise"),
    }
    first = nothing_bought()
    independent = np.outer(first.probabilities("age"), first.probabilities("town")) * 4_000
    real = exact(first, TABLE, Question(columns=("age", "town")))
    better = np.abs(proposals[("age", "town")].expected - real).sum()
    assert better < 0.5 * np.abs(independent - real).sum()


def test_what_is_known_exactly_may_be_bought_again_and_has_no_error():
    statistics = nothing_bought()
    questions = [Question(columns=("age", "town")), *pair_questions(SCHEMA)]
    bought = tuple(
        Marginal(columns=q.columns, counts=exact(statistics, TABLE, q), noise_stddev=0.0) for q in questions
    )
    known = replace(statistics, marginals=bought)
    found = errors(seeker(known).propose(known, 1.0), known)
    assert len(found) == len(pair_questions(SCHEMA))
    assert found[("age", "town")] < 1e-6


def test_noise_is_charged_per_cell():
    statistics = nothing_bought()
    for quiet, loud in zip(*(seeker(statistics).propose(statistics, s) for s in (1.0, 11.0))):
        assert loud.penalty - quiet.penalty == pytest.approx(10 * np.sqrt(2 / np.pi) * quiet.expected.size)


def test_pairs_are_chosen_only_where_asked():
    assert pair_rounds(SCHEMA, None) is None and pair_rounds(SCHEMA, 0) is None
    rounds = pair_rounds(SCHEMA, 2)
    assert (rounds.num, rounds.choices) == (2, 5)  # twice as many pairs as columns, in all
    assert pair_rounds(SCHEMA, 1).choices == len(pair_questions(SCHEMA))  # no more than there are


def test_negative_rounds_are_refused():
    with pytest.raises(InvalidInput, match="rounds"):
        pair_rounds(SCHEMA, -1)
