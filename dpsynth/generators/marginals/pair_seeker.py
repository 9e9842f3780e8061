"""Asks for pairs of columns that a tree of columns, and what was bought so far, get most wrong."""

from __future__ import annotations

import math

import numpy as np

from dpsynth.data.bought.denoising import denoised
from dpsynth.data.bought.questions import Proposal, pair_questions
from dpsynth.data.bought.statistics import GROUPS, Marginal, Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.generators.marginals.tree import Tree

_DRAWN = 50_000  # rows of the tree, by which it answers


class PairSeeker:
    """Proposes every pair: over groups of cells first, then over all of them, then once more.

    A pair about which nothing was bought is answered by rows of a maximum tree of columns; a pair over groups
    of cells by spreading it over the cells, as the columns' own histograms say.

    Formal guarantee: post-processing of bought statistics.
    """

    def __init__(self, encoder: TableEncoder, *, seed: int):
        self._encoder, self._seed = encoder, seed

    def propose(self, statistics: Statistics, noise_stddev: float) -> tuple[Proposal, ...]:
        known: dict[frozenset[str], dict[bool, Marginal]] = {}
        for marginal, _ in denoised(statistics):
            key = frozenset(name.removeprefix(GROUPS) for name in marginal.columns[:2])
            known.setdefault(key, {})[marginal.columns[0].startswith(GROUPS)] = marginal
        rows = Tree(self._encoder.layout, statistics).draw(_DRAWN, np.random.default_rng([self._seed, 5]))
        made = []
        for question in pair_questions(self._encoder.schema):
            first, second = (name.removeprefix(GROUPS) for name in question.columns[:2])
            bought = known.get(frozenset((first, second)), {})
            if not bought:
                made.append(self._by_tree(question, rows, statistics, noise_stddev))
            elif False not in bought:
                made.append(self._by_groups(first, second, bought[True], statistics, noise_stddev))
            else:  # once more
                fine = bought[False]
                made.append(_proposal(Question(columns=fine.columns), fine.counts, noise_stddev))
        return tuple(made)

    def _by_tree(
        self, question: Question, rows: np.ndarray, statistics: Statistics, noise_stddev: float
    ) -> Proposal:
        expected = self._encoder.count(question, rows) * (max(statistics.num_rows, 1.0) / len(rows))
        sampling = float(np.sqrt(expected * max(statistics.num_rows, 1.0) / len(rows)).sum())
        return _proposal(question, expected, noise_stddev, sampling)

    @staticmethod
    def _by_groups(
        first: str, second: str, grouped: Marginal, statistics: Statistics, noise_stddev: float
    ) -> Proposal:
        counts = grouped.counts.reshape(*grouped.counts.shape[:2], -1).sum(2)
        if grouped.columns[0].removeprefix(GROUPS) != first:
            counts = counts.T
        codes = [statistics.axis(GROUPS + name)[1] for name in (first, second)]
        shares = []
        for name, code in zip((first, second), codes):
            mass = statistics.probabilities(name)
            shares.append(mass / np.maximum(np.bincount(code, weights=mass)[code], 1e-12))
        expected = counts[codes[0]][:, codes[1]] * shares[0][:, None] * shares[1]
        return _proposal(Question(columns=(first, second)), expected, noise_stddev)


def _proposal(
    question: Question, expected: np.ndarray, noise_stddev: float, sampling: float = 0.0
) -> Proposal:
    penalty = math.sqrt(2.0 / math.pi) * (noise_stddev * expected.size + sampling)
    return Proposal(question=question, expected=expected, penalty=penalty)
