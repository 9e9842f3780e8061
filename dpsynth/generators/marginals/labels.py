"""Draws the target given the other columns, as bought leaves say; free."""

from __future__ import annotations

import numpy as np

from dpsynth.data.bought.partition import Partition
from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.encoder import Layout


class Labels:
    """Classes of the target given a row's leaves in several trees.

    Log shares of the classes are summed over trees and divided by the root of their number: between trees
    that tell the same and trees that tell of different things. The weights that are fitted afterwards set
    right what this leaves wrong.

    Formal guarantee: post-processing of bought statistics and of generated rows.

    Args:
      statistics: with histograms of leaves by classes; the deepest of each tree are used.
    """

    def __init__(self, layout: Layout, statistics: Statistics):
        bought = [marginal for marginal in statistics.marginals if marginal.partition is not None]
        deepest = max(len(marginal.partition.levels) for marginal in bought)
        self._layout, self._statistics = layout, statistics
        self._axis = bought[0].columns[0]
        same: dict[Partition, list] = {}
        for marginal in bought:
            if len(marginal.partition.levels) == deepest:
                same.setdefault(marginal.partition, []).append(marginal)
        self._trees = [
            (
                partition,
                leaf_shares(
                    np.mean([m.counts for m in found], axis=0),
                    found[0].noise_stddev / len(found) ** 0.5,
                ),
            )
            for partition, found in same.items()
        ]

    @property
    def target(self) -> str:
        return self._statistics.axis(self._axis)[0]

    def redraw(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Packed rows with another target; one whose stratum is drawn again keeps its cell."""
        codes = self._layout.codes(rows)
        column, classes = self._statistics.axis(self._axis)
        scores = np.zeros((len(rows), int(classes.max()) + 1))
        for partition, shares in self._trees:
            scores += np.log(shares)[partition.leaves(codes, len(rows))]
        drawn = (scores / len(self._trees) ** 0.5 + random.gumbel(size=scores.shape)).argmax(1)
        cells, place = codes(column), self._layout.onehot(column)
        mass = self._statistics.probabilities(column) + 1e-12
        fresh = np.empty_like(cells)
        for group in range(scores.shape[1]):
            inside, where = np.flatnonzero(classes == group), drawn == group
            share = mass[inside] / mass[inside].sum()
            fresh[where] = random.choice(inside, int(where.sum()), p=share)
        rows = rows.copy()
        rows[:, place] = np.where(classes[cells] == drawn, cells, fresh)
        return rows


def leaf_shares(counts: np.ndarray, noise_stddev: float) -> np.ndarray:
    """Shares of the classes in each leaf, above 0, shrunk towards those of all; [leaf, class]."""
    whole = np.maximum(counts, 0.0)
    prior = (whole.sum(0) + 1.0) / (whole.sum() + whole.shape[1])
    shares = whole + (0.3 * noise_stddev + 0.1) * whole.shape[1] * prior
    return shares / shares.sum(1, keepdims=True)
