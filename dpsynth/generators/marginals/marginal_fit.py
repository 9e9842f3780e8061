"""Fits generated rows to bought joint histograms, whatever generator made them; free.

Rows of a large generated pool get weights exp(theta . f(row)) / Z; f marks a row in its cell of every bought
histogram, and released rows are drawn by these weights. Among all weightings of the pool that answer the
histograms equally well, this one is nearest to the generator's own rows in relative entropy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from dpsynth.data.bought.denoising import observed
from dpsynth.data.bought.questions import dependence
from dpsynth.data.bought.statistics import Marginal, Statistics
from dpsynth.data.rows.encoder import Layout
from dpsynth.generators.marginals.rounding import round_weights

Draw = Callable[[int, int], np.ndarray]  # (rows, seed) -> packed rows of the generator alone

_RIDGES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)  # tried in this order, from stiff to loose
_ITERATIONS = 60  # of L-BFGS, for each of them
_SWEEPS = 3  # of raking, after each of them
_CHANCE = 1.1  # squared residual over the noise's variance, at which the fit is close enough
_FEWEST = 0.1  # of the pool: the least effective number of rows
_HISTOGRAMS = 300  # joint ones that are fitted at most
_FEATURES = 12_000_000  # marks of rows that are kept in memory at once
_OVERSAMPLING = 4  # rows drawn per released row
_CHUNK = 20_000  # released rows chosen at once


class MarginalFit:
    """Weights of rows that bring a generator's answers to bought histograms.

    Formal guarantee: post-processing of bought statistics and of generated rows.
    Source: the dual of maximum entropy with a Gaussian likelihood, as in Dudik, Phillips & Schapire (2007),
      Maximum entropy density estimation with generalized regularization; its stiffness is chosen by the
      discrepancy principle (Morozov, 1966): residuals no smaller than the noise.

    Args:
      layout: one one-hot per column.
      statistics: with joint histograms.
      pool_rows: generated rows on which the weights are fitted.
      seed: public; of these rows.
    """

    def __init__(self, layout: Layout, statistics: Statistics, *, pool_rows: int, seed: int):
        self._layout, self._statistics = layout, statistics
        self._seed = seed
        self._pool: tuple[np.ndarray, Tensor, Tensor] | None = None
        self._marks, targets, variances, start = [], [], [], 0
        total = max(statistics.num_rows, 1.0)
        seen = observed(statistics)
        self._num_raked = len(statistics.domain.names) - bool(statistics.crossed)  # come first: known best
        for marginal, noise in seen[: self._num_raked] + _most_dependent(seen[self._num_raked :]):
            self._marks.append((start, marginal))
            targets.append(marginal.counts.ravel() / total)
            variances.append((noise.ravel() + 0.25) / total**2)
            start += marginal.counts.size
        self._targets, self._variances = (
            torch.from_numpy(np.concatenate(parts)).float() for parts in (targets, variances)
        )
        self.theta, self._highest = torch.zeros(start), 0.0
        self._size = max(min(pool_rows, _FEATURES // max(len(self._marks), 1)), 1_000)

    @property
    def fitted(self) -> bool:
        return bool(self.theta.any())

    def solve(self, draw: Draw) -> None:
        """Finds the weights, on a pool of the generator's rows."""
        self._pool = None
        marks = self._mark(draw(self._size, self._seed))
        shares = self._answer(marks, torch.full((marks.shape[1],), 1.0 / marks.shape[1]))
        scaled = self._variances / self._variances.mean()
        self.theta = torch.zeros_like(self.theta)
        best = math.inf
        for ridge in _RIDGES:
            theta = self._rake(marks, self._descend(marks, self.theta, ridge * scaled, shares))
            weights = self._weights(marks, theta)
            residual = self._answer(marks, weights) - self._targets
            error = float((residual**2 / self._variances).mean())
            if error >= best or 1.0 / float((weights**2).sum()) < _FEWEST * len(weights):
                return
            self.theta = torch.where(shares > 0, theta, 0.0)  # what no row of the pool answers stays unknown
            self._highest, best = float(self._score(marks, self.theta).max()), error
            if error <= _CHANCE:
                return

    def _rake(self, marks: Tensor, theta: Tensor) -> Tensor:
        """Brings the histograms that are known best, one after the other, to what was bought.

        Source: Deming & Stephan (1940), iterative proportional fitting; each step is shortened where the
          bought count is no more precise than a deviation of five per cent.
        """
        theta, scores = theta.clone(), self._score(marks, theta)
        for _ in range(_SWEEPS):
            for index in range(self._num_raked):
                start, marginal = self._marks[index]
                block = slice(start, start + marginal.counts.size)
                answers = torch.zeros(marginal.counts.size)
                answers.index_add_(0, marks[index] - start, torch.softmax(scores, 0))
                trust = (0.05 * answers) ** 2
                trust = trust / (trust + self._variances[block] + 1e-16)
                wanted = answers + trust * (self._targets[block] - answers)
                change = (wanted.clamp(min=1e-7) / answers.clamp(min=1e-7)).log().clamp(-1.0, 1.0)
                theta[block] += change
                scores += change.index_select(0, marks[index] - start)
        return theta

    def _descend(self, marks: Tensor, theta: Tensor, ridges: Tensor, shares: Tensor) -> Tensor:
        """Minimises the convex dual from `theta`, preconditioned by its diagonal."""
        scale = (shares + ridges + 1e-7).rsqrt()
        point = (theta / scale).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [point], max_iter=_ITERATIONS, history_size=12, line_search_fn="strong_wolfe"
        )

        @torch.no_grad()
        def dual() -> Tensor:
            theta = point * scale
            scores = self._score(marks, theta)
            answers = self._answer(marks, torch.softmax(scores, 0))
            point.grad = (answers - self._targets + ridges * theta) * scale
            constant = torch.logsumexp(scores, 0) - math.log(len(scores))
            return constant - theta @ self._targets + 0.5 * (ridges * theta**2).sum()

        optimizer.step(dual)
        return (point * scale).detach()

    def _mark(self, rows: np.ndarray) -> Tensor:
        """The cell of each row in each histogram, int32 [histogram, row]; cells are counted through."""
        codes, marks = self._layout.codes(rows), np.empty((len(self._marks), len(rows)), dtype=np.int32)
        for index, (start, marginal) in enumerate(self._marks):
            marks[index] = start + self._statistics.places(marginal, codes, len(rows))
        return torch.from_numpy(marks)

    @staticmethod
    def _score(marks: Tensor, theta: Tensor) -> Tensor:
        scores = torch.zeros(marks.shape[1])
        for row in marks:
            scores += theta.index_select(0, row)
        return scores

    def _weights(self, marks: Tensor, theta: Tensor) -> Tensor:
        return torch.softmax(self._score(marks, theta), 0)

    def _answer(self, marks: Tensor, weights: Tensor) -> Tensor:
        answers = torch.zeros_like(self._targets)
        for row in marks:
            answers.index_add_(0, row, weights)
        return answers

    def sample(self, draw: Draw, num: int, *, seed: int, fresh: bool = False) -> np.ndarray:
        """Draws exactly `num` rows by their weights.

        They come from the pool on which the weights were fitted and match best (values inside cells are drawn
        anew); with `fresh`, as for conditions, from new rows of the generator, none of which weighs more than
        the heaviest row of the pool: where the pool was empty, weights know nothing.
        """
        random = np.random.default_rng([seed, 0, 2])
        if not fresh:
            rows, marks, weights = self.pool(draw)
            times = round_weights(weights, marks, num, random)
            return rows[random.permutation(np.repeat(np.arange(len(rows)), times))]
        parts = [draw(0, seed)]
        for start in range(0, num, _CHUNK):
            wanted = min(_CHUNK, num - start)
            rows = draw(max(_OVERSAMPLING * wanted, 256), int(random.integers(2**31)))
            scores = self._score(self._mark(rows), self.theta).clamp(max=self._highest)
            parts.append(_systematic(rows, torch.softmax(scores, 0), wanted, random))
        return np.concatenate(parts)

    def pool(self, draw: Draw) -> tuple[np.ndarray, Tensor, Tensor]:
        """The rows on which the weights were fitted, their cells in each histogram, and their weights."""
        if self._pool is None:
            rows = draw(self._size, self._seed)
            marks = self._mark(rows)
            self._pool = rows, marks, self._weights(marks, self.theta)
        return self._pool

    def state(self) -> dict[str, Tensor]:
        if not self.fitted:
            return {}
        facts = {"seed": torch.tensor(self._seed), "highest": torch.tensor(self._highest)}
        facts["theta"] = self.theta.clone()
        return {f"marginal_fit.{name}": value for name, value in facts.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Takes its part of a generator's state and returns the rest."""
        rest, self._pool = dict(state), None
        self.theta = rest.pop("marginal_fit.theta", torch.zeros_like(self.theta))
        self._highest = float(rest.pop("marginal_fit.highest", self._highest))
        self._seed = int(rest.pop("marginal_fit.seed", self._seed))
        return rest


def _most_dependent(pairs: list[tuple[Marginal, np.ndarray]]) -> list[tuple[Marginal, np.ndarray]]:
    """All of them or, in wide tables, those that hang together most, so that the pool may be large."""
    if len(pairs) <= _HISTOGRAMS:
        return pairs
    return sorted(pairs, key=_rank)[:_HISTOGRAMS]


def _rank(pair: tuple[Marginal, np.ndarray]) -> float:
    return -math.inf if pair[0].partition is not None else -dependence(pair[0])


def _systematic(rows: np.ndarray, weights: Tensor, num: int, random: np.random.Generator) -> np.ndarray:
    """Draws rows by their weights at evenly spaced heights, in random order."""
    ladder = weights.double().cumsum(0).numpy()
    heights = (np.arange(num) + random.random()) / max(num, 1) * ladder[-1]
    chosen = np.searchsorted(ladder, heights, side="right").clip(0, len(rows) - 1)
    return rows[random.permutation(chosen)]
