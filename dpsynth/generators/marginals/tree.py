"""A maximum tree of columns, fitted to bought pairs: coarse, and there in a moment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dpsynth.data.bought.denoising import denoised
from dpsynth.data.bought.statistics import GROUPS, STRATA, Marginal, Statistics
from dpsynth.data.rows.encoder import Layout


@dataclass(frozen=True, kw_only=True, eq=False)
class _Step:
    """How one column is drawn.

    Args:
      parents: column, code on its axis of each of its cells, and number of codes.
      ladders: cumulative shares of the column's cells, [state of the parents, cell].
    """

    column: str
    parents: tuple[tuple[str, np.ndarray, int], ...]
    ladders: np.ndarray

    @cached_property
    def ladder(self) -> np.ndarray:
        """All ladders end to end, that of state s between s and s + 1."""
        shares = self.ladders / np.maximum(self.ladders[:, -1:], 1e-300)
        return (shares + np.arange(len(shares))[:, None]).ravel()


class Tree:
    """Columns in the order in which they are drawn, each given its parent and the target's stratum.

    Formal guarantee: post-processing of bought statistics.
    Edge cases: columns about which no pair was bought are drawn alone.

    Args:
      layout: one one-hot per column.
    """

    def __init__(self, layout: Layout, statistics: Statistics):
        self._layout = layout
        self._steps = _tree(statistics, [segment.column for segment in layout.segments])

    def draw(self, num: int, random: np.random.Generator) -> np.ndarray:
        """Draws packed rows, float32 [num, packed]."""
        rows = np.zeros((num, self._layout.packed_width), dtype=np.float32)
        for step in self._steps:
            state = np.zeros(num, dtype=np.int64)
            for parent, codes, base in step.parents:
                state = state * base + codes[rows[:, self._layout.onehot(parent)].astype(np.int64)]
            size = step.ladders.shape[1]
            drawn = np.searchsorted(step.ladder, state + random.random(num), side="right") - size * state
            rows[:, self._layout.onehot(step.column)] = np.clip(drawn, 0, size - 1)
        return rows


def _tree(statistics: Statistics, columns: list[str]) -> list[_Step]:
    """Columns in the order in which they are drawn."""
    pairs = _finest(statistics)
    strata = next((axis.removeprefix(STRATA) for key in pairs for axis in pairs[key].columns[2:]), None)
    root = strata or columns[0]
    done, steps = [root], [_alone(statistics, root)]
    while len(done) < len(columns):
        best = max(
            (
                (_information(pairs[frozenset((old, new))]), old, new)
                for new in columns
                if new not in done
                for old in done
                if frozenset((old, new)) in pairs
            ),
            default=None,
        )
        if best is None:  # nothing was bought about the others
            steps += [_alone(statistics, column) for column in columns if column not in done]
            return steps
        steps.append(_given(statistics, pairs[frozenset(best[1:])], best[1], best[2]))
        done.append(best[2])
    return steps


def _finest(statistics: Statistics) -> dict[frozenset[str], Marginal]:
    """The histogram over the most cells of each pair of columns."""
    pairs: dict[frozenset[str], Marginal] = {}
    for marginal, _ in denoised(statistics):
        key = frozenset(name.removeprefix(GROUPS) for name in marginal.columns[:2])
        if key not in pairs or marginal.counts.size >= pairs[key].counts.size:
            pairs[key] = marginal
    return pairs


def _information(marginal: Marginal) -> float:
    """Mutual information of the two columns within strata."""
    counts = marginal.counts if marginal.counts.ndim == 3 else marginal.counts[..., None]
    shares = np.maximum(counts, 0.0) / max(np.maximum(counts, 0.0).sum(), 1e-9)
    rows, columns = shares.sum(1, keepdims=True), shares.sum(0, keepdims=True)
    alone = rows * columns / np.maximum(shares.sum((0, 1)), 1e-12)
    return float((shares * np.log((shares + 1e-12) / (alone + 1e-12))).sum())


def _alone(statistics: Statistics, column: str) -> _Step:
    return _Step(column=column, parents=(), ladders=np.cumsum(statistics.probabilities(column))[None])


def _given(statistics: Statistics, marginal: Marginal, old: str, new: str) -> _Step:
    """The shares of a column's cells given its parent's code and the stratum."""
    counts = np.maximum(marginal.counts, 0.0)
    first = statistics.axis(marginal.columns[0])[0]
    if first == new:
        counts = np.swapaxes(counts, 0, 1)
    axes = [name for name in marginal.columns if statistics.axis(name)[0] != new]
    own = next(name for name in marginal.columns if statistics.axis(name)[0] == new)
    counts = np.moveaxis(counts, 1, -1).reshape(-1, counts.shape[1])
    shares = statistics.probabilities(new)
    codes = statistics.axis(own)[1]
    within = shares / np.maximum(np.bincount(codes, weights=shares)[codes], 1e-12)
    prior = np.bincount(codes, weights=shares, minlength=counts.shape[1])
    table = (counts + 0.5 * prior)[:, codes] * within
    parents = tuple((*statistics.axis(name), int(statistics.axis(name)[1].max()) + 1) for name in axes)
    return _Step(column=new, parents=parents, ladders=np.cumsum(table, axis=1))
