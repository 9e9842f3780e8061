"""Bought histograms of sequences as probabilities, for generators without a network."""

from __future__ import annotations

from collections.abc import Sequence as Many

import numpy as np
from scipy import special

from dpsynth.data.bought.grid import project_to_simplex
from dpsynth.data.bought.statistics import Marginal
from dpsynth.data.sequences.layout import SequenceLayout
from dpsynth.data.sequences.questions import LENGTH, STEP, SequenceQuestion, axis_sizes


class SequenceMarginals:
    """Looks up frequencies of what was bought; post-processing."""

    def __init__(self, layout: SequenceLayout, marginals: Many[Marginal]):
        self.layout, self.sizes = layout, axis_sizes(layout)
        self._tables: dict[SequenceQuestion, np.ndarray] = {}
        for marginal in marginals:
            question, counts = SequenceQuestion.of_columns(marginal.columns), marginal.counts
            if question.row == question.column and not question.lag:
                counts = np.diag(np.diagonal(counts))  # elsewhere there is nothing but noise
            table = project_to_simplex(counts, max(float(counts.sum()), 1.0))
            self._tables[question] = table / table.sum()

    def pair(self, row: str, column: str, lag: int = 0) -> np.ndarray | None:
        """Joint frequencies [row, column], or None where they were not bought."""
        found = self._tables.get(SequenceQuestion(row=row, column=column, lag=lag))
        if found is None and lag == 0:
            turned = self._tables.get(SequenceQuestion(row=column, column=row))
            found = None if turned is None else turned.T
        return found

    def alone(self, name: str) -> np.ndarray:
        """Frequencies of an attribute, the length or a feature: averaged over the histograms that have it."""
        found = [t.sum(1) for q, t in self._tables.items() if q.row == name]
        found += [t.sum(0) for q, t in self._tables.items() if q.column == name and q.lag == 0]
        if not found:
            return np.full(self.sizes[name], 1 / self.sizes[name])
        return np.mean(found, axis=0)

    def correlation(self, row: str, column: str, lag: int = 0) -> float | None:
        """Correlation of normal scores in a bought histogram, in (-1, 1); None where it was not bought."""
        table = self.pair(row, column, lag)
        if table is None:
            return None
        x, y = normal_scores(self.alone(row)), normal_scores(self.alone(column))
        p, q = table.sum(1), table.sum(0)
        cross = x @ table @ y - (p @ x) * (q @ y)
        scale = np.sqrt((p @ x**2 - (p @ x) ** 2) * (q @ y**2 - (q @ y) ** 2))
        return float(np.clip(cross / scale, -0.999, 0.999)) if scale > 1e-9 else 0.0

    def by_step(self, feature: str) -> np.ndarray:
        """Frequencies of a feature given the step, [step, cell]; its overall ones where a step is unseen."""
        table, overall = self._tables[SequenceQuestion(row=STEP, column=feature)], self.alone(feature)
        mass = table.sum(1, keepdims=True)
        return np.where(mass > 1e-6, table / np.maximum(mass, 1e-12), overall)

    def draw_lengths(self, num: int, random: np.random.Generator) -> np.ndarray:
        """Lengths [n] from the bought histogram; the maximum where lengths do not vary."""
        layout = self.layout
        if not layout.variable:
            return np.full(num, layout.max_length)
        shares = self.alone(LENGTH).copy()
        shares[: layout.min_length - 1] = 0.0
        return 1 + draw_codes(np.tile(shares, (num, 1)), random)


def normal_scores(shares: np.ndarray) -> np.ndarray:
    """Normal scores of cells in order: the normal quantile of each cell's middle."""
    top = np.cumsum(shares)
    return special.ndtri(np.clip(top - shares / 2, 1e-4, 1 - 1e-4))


def draw_codes(
    shares: np.ndarray, random: np.random.Generator, place: np.ndarray | None = None
) -> np.ndarray:
    """Draws a code from each row of frequencies [n, cell]; `place` in [0, 1) instead of a fresh draw."""
    cumulative = np.cumsum(shares, axis=1)
    place = random.random(len(shares)) if place is None else place
    return np.minimum((cumulative <= (place * cumulative[:, -1])[:, None]).sum(1), shares.shape[1] - 1)
