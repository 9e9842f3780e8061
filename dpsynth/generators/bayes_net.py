"""A tree of columns, each drawn given its parent: a baseline on bought pairs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dpsynth.data.denoising import denoised
from dpsynth.data.encoding import TableEncoder
from dpsynth.data.questions import pair_questions
from dpsynth.data.schema import Schema
from dpsynth.data.statistics import GROUPS, STRATA, Marginal, Question, Statistics
from dpsynth.generators.base import collect_rows
from dpsynth.generators.marginal_fit import make_fit


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the tree.

    Args:
      sampling_batch_size: rows made at once.
      fit_pool: generated rows on which weights of released rows are fitted to all that was bought; 0 releases
        rows of the tree as they come.
    """

    sampling_batch_size: int = 50_000
    fit_pool: int = 60_000


class Generator:
    """Draws the target, then each column given its parent and the target's stratum, down a maximum tree.

    Formal guarantee: post-processing of bought statistics; reads no private unit.
    Source: Chow & Liu (1968), Approximating discrete probability distributions with dependence trees, with
      the target as a parent of all (Friedman et al. 1997, TAN); on noisy pairs as in McKenna et al. (2021),
      MST. Deviations: pairs are denoised first, and the tree is chosen from answers that were bought anyway.
    """

    name: ClassVar[str] = "bayes_net"
    trains: ClassVar[bool] = False

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        return TableEncoder(schema, statistics)

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[Question, ...]:
        return pair_questions(schema)

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder, self.seed = config, encoder, seed
        self.fit = make_fit(encoder.layout, statistics, private=True, pool_rows=config.fit_pool, seed=seed)
        self._steps = _tree(statistics, [s.column for s in encoder.layout.segments])

    def to(self, device: torch.device | str) -> Generator:
        return self

    def fit_public(self) -> None:
        return None

    def objective(self) -> None:
        return None

    def plain_objective(self) -> None:
        return None

    def fit_release(self) -> None:
        """Fits the weights of released rows to the bought joint histograms; free."""
        if self.fit is not None:
            self.fit.solve(self._draw)

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        if self.fit is None or not self.fit.fitted:
            return self._draw(num, seed, conditions)

        def draw(rows: int, seed: int) -> np.ndarray:
            return self._draw(rows, seed, conditions)

        return self.fit.sample(draw, num, seed=seed, fresh=bool(conditions))

    def _draw(self, num: int, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        random, layout = np.random.default_rng(seed), self.encoder.layout

        def batch(size: int) -> np.ndarray:
            rows = np.zeros((size, layout.packed_width), dtype=np.float32)
            for step in self._steps:
                state = np.zeros(size, dtype=np.int64)
                for parent, codes, base in step.parents:
                    state = state * base + codes[rows[:, layout.onehot(parent)].astype(np.int64)]
                heights = random.random(size) * step.ladders[state, -1]
                drawn = (step.ladders[state] <= heights[:, None]).sum(1)
                rows[:, layout.onehot(step.column)] = np.minimum(drawn, step.ladders.shape[1] - 1)
            return rows

        return collect_rows(
            num,
            batch,
            width=layout.packed_width,
            batch_size=self.config.sampling_batch_size,
            codes=self.encoder.condition_codes(conditions or {}),
        )

    def state(self) -> dict[str, Tensor]:
        return {} if self.fit is None else self.fit.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if dict(state) if self.fit is None else self.fit.load_state(state):
            raise ValueError("Expected no weights for the tree; it is made of bought statistics.")


@dataclass(frozen=True, kw_only=True)
class _Step:
    """How one column is drawn.

    Args:
      parents: column, code on its axis of each of its cells, and number of codes.
      ladders: cumulative shares of the column's cells, [state of the parents, cell].
    """

    column: str
    parents: tuple[tuple[str, np.ndarray, int], ...]
    ladders: np.ndarray


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
