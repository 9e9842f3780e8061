"""Joint histograms: a fixed set, what its answers refine, and what a model then gets most wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dpsynth.data.bought.questions import Ballot, Proposal
from dpsynth.data.bought.statistics import Marginal, Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.tables.table import PrivateTable
from dpsynth.data.units.encoder import Encoder
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.measuring.answers import Answers, Shop
from dpsynth.privacy.noise.entropy import Entropy
from dpsynth.privacy.plan.plan import Plan
from dpsynth.privacy.plan.purchases import round_events

_LATTICE = 2.0**10  # scores are sums of multiples of its inverse, so float64 adds them without rounding


def joint_histograms(
    table: PrivateTable,
    statistics: Statistics,
    encoder: Encoder,
    questions: Sequence[Any],
    plan: Plan,
    ledger: Ledger,
    entropy: Entropy,
    *,
    event: str = "marginals",
    answers: str | Path | None = None,
) -> Statistics:
    """Buys joint histograms of encoded units, in one pass.

    Formal guarantee: a unit changes one histogram by at most its mass (`Units`), hence all of them together
    by sqrt(number of questions) times that (L2); the plan has paid for `num_histograms` of the event.

    Args:
      event: "marginals", or "marginals/refined" for questions chosen by the answers to the first.
      encoder: packs units and answers questions about them, in 1/`encoder.units.resolution`.
      questions: public; each names the `columns` of its histogram.
    """
    shop = _open(table, plan, ledger, entropy, answers)
    return replace(statistics, marginals=statistics.marginals + _buy(shop, encoder, questions, event))


def adaptive_histograms(
    table: PrivateTable,
    statistics: Statistics,
    encoder: Encoder,
    seeker: Any,
    plan: Plan,
    ledger: Ledger,
    entropy: Entropy,
    *,
    answers: str | Path | None = None,
) -> Statistics:
    """Buys, round by round, the joint histograms that a generator's model gets most wrong.

    Formal guarantee: each round is two planned events. The choice is `rounds.choices` exponential mechanisms
    over proposals that are made of bought answers alone; a unit moves a score by at most what it can change
    in a histogram (L1). Where ballots are proposed in their place, each is one exponential mechanism on every
    leaf of a partition, and a unit moves the scores of all leaves together by at most that. The answers are
    one Gaussian mechanism, as in `joint_histograms`. Number, noise and selection epsilon are constants of the
    plan; only the questions adapt.
    Edge cases: a resumed run takes kept choices and answers, and its model follows the same way.

    Args:
      seeker: `propose(statistics, noise_stddev)` returns Proposals, at least `rounds.choices` of them; or as
        many Ballots, and `questions(ballots, chosen)` what to buy after these choices.
    Source: McKenna, Mullins, Sheldon & Miklau (2022), AIM: an adaptive and iterative mechanism, section 4,
      for the score; deviation: constant noise, planned before the first read, in place of annealing.
    """
    shop = _open(table, plan, ledger, entropy, answers)
    for number in range(1, plan.request.rounds.num + 1):
        choice, bought = round_events(number)
        proposed = seeker.propose(statistics, plan.event(bought).noise_stddev)
        if isinstance(proposed[0], Ballot):
            questions = seeker.questions(proposed, _divide(shop, encoder, proposed, choice))
        else:
            questions = [proposed[place].question for place in _choose(shop, encoder, proposed, choice)]
        found = _buy(shop, encoder, questions, bought)
        statistics = replace(statistics, marginals=statistics.marginals + found)
    return statistics


def _open(
    table: PrivateTable, plan: Plan, ledger: Ledger, entropy: Entropy, answers: str | Path | None
) -> Shop:
    if entropy.voids:
        ledger.void("measurements drew fixed noise, which is for tests")
    return Shop(table, plan, ledger, entropy, Answers(answers))


def _choose(shop: Shop, encoder: Encoder, proposals: Sequence[Proposal], event: str) -> list[int]:
    """Buys the places of proposals with large errors, less what their noise would cost."""
    if len(proposals) < shop.plan.event(event).choices:
        raise GuaranteeVoid(f"Expected proposals for {event!r}; got {len(proposals)}.")

    def score(frame: pd.DataFrame) -> np.ndarray:
        units = shop.encoded(frame, encoder)
        return np.array([_score(encoder, proposal, units) for proposal in proposals])

    return shop.choose(event, score)


def _score(encoder: Encoder, proposal: Proposal, units: np.ndarray) -> float:
    """Weight times (L1 error less penalty), exact: weight, expectation and penalty are put on the lattice."""
    if not 0.0 <= proposal.weight <= 1.0:
        raise GuaranteeVoid(f"Expected a proposal's weight={proposal.weight} in [0, 1].")
    weight, penalty = (round(value * _LATTICE) / _LATTICE for value in (proposal.weight, proposal.penalty))
    expected = np.round(proposal.expected * _LATTICE) / _LATTICE
    counts = encoder.count(proposal.question, units) / encoder.units.resolution
    return weight * (float(np.abs(counts - expected).sum()) - penalty)


def _divide(shop: Shop, encoder: TableEncoder, ballots: Sequence[Ballot], event: str) -> list[list[int]]:
    """Buys, for each ballot, which grid divides each leaf: its place, or -1 for none."""
    planned = shop.plan.event(event)
    if len(ballots) != planned.choices:
        raise GuaranteeVoid(f"Expected {planned.choices} ballots for {event!r}; got {len(ballots)}.")

    def score(frame: pd.DataFrame, ballot: Ballot) -> np.ndarray:
        return ballot_scores(encoder, ballot, shop.encoded(frame, encoder))

    return shop.divide(event, ballots, score)


def ballot_scores(encoder: TableEncoder, ballot: Ballot, units: np.ndarray) -> np.ndarray:
    """The score of each grid in each leaf, [leaf, grid], exact: shares and penalties are put on the lattice.

    Formal guarantee: a row is in one leaf and one box there. Its own class counts 1 - share and the others
    their shares more, at most 2 in all since shares are at most one in sum, so half of it moves each score of
    that one leaf by at most 1 and no score of another.
    """
    rows, statistics = encoder.rows(units), encoder.statistics
    codes = encoder.layout.codes(rows)
    leaf = ballot.partition.leaves(codes, len(rows))
    classes = Question(columns=(ballot.target,))
    labels, num = statistics.places(classes, codes, len(rows)), math.prod(statistics.shape(classes))
    scores = np.empty((ballot.partition.size, len(ballot.grids)))
    for at, (grid, shares, penalty) in enumerate(zip(ballot.grids, ballot.shares, ballot.penalties)):
        shares = np.floor(np.asarray(shares) * _LATTICE) / _LATTICE
        if shares.min(initial=0.0) < 0.0 or shares.sum(-1).max(initial=0.0) > 1.0:
            raise GuaranteeVoid("Expected shares of classes from 0, and at most 1 in sum.")
        flat = (leaf * grid.size + grid.boxes(codes)) * num + labels
        shape = (len(scores), grid.size, num)
        counts = np.bincount(flat, minlength=math.prod(shape)).reshape(shape)
        error = np.abs(counts - counts.sum(2, keepdims=True) * shares).sum((1, 2)) / 2
        scores[:, at] = error - round(penalty * _LATTICE) / _LATTICE
    return scores


def _buy(shop: Shop, encoder: Encoder, questions: Sequence[Any], event: str) -> tuple[Marginal, ...]:
    planned = shop.plan.event(event).num_histograms
    if len(questions) != planned:
        raise GuaranteeVoid(f"Expected {planned} joint histograms, as planned; got {len(questions)}.")
    shapes = [encoder.shape(question) for question in questions]

    def count(frame: pd.DataFrame) -> np.ndarray:
        units = shop.encoded(frame, encoder)
        return np.concatenate([encoder.count(question, units).ravel() for question in questions])

    noisy = shop.noisy(event, count, scale=encoder.units.resolution)
    stddev = shop.plan.event(event).noise_stddev
    parts = np.split(noisy, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    return tuple(
        Marginal(
            columns=question.columns,
            counts=part.reshape(shape),
            noise_stddev=stddev,
            event=event,
            partition=getattr(question, "partition", None),
        )
        for question, part, shape in zip(questions, parts, shapes)
    )
