"""A Markov random field over the cells of columns, fitted to bought histograms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dpsynth.data.bought.denoising import observed
from dpsynth.data.bought.grid import Domain
from dpsynth.data.bought.statistics import STRATA, Statistics
from dpsynth.generators.marginals.junction_tree import Clique, JunctionTree, megabytes

_FLOOR = 1.0  # rows: the least standard deviation of a count, where none was added
_STIFFNESS = (
    0.3,
    0.03,
    0.003,
)  # tried in this order: nats of likelihood per row for a nat of relative entropy
_CHANCE = 1.1  # squared residual over the noise's variance, at which the fit is close enough


class Field:
    """A Markov random field, fitted to all bought histograms at once; each fit goes on where the last was."""

    def __init__(self, domain: Domain):
        self._domain = domain
        self.potentials: dict[Clique, np.ndarray] = {}
        self._loosest = 0  # of `_STIFFNESS`, so far
        self._answers: dict[Clique, np.ndarray] = {}

    def size_with(self, clique: Clique) -> float:
        """Megabytes of the field with one more clique."""
        cliques = [*self.potentials, clique]
        return megabytes(self._domain, cliques)

    def answer(self, clique: Clique) -> np.ndarray | None:
        return self._answers.get(clique)

    def fit(self, statistics: Statistics, iterations: int) -> None:
        """Minimises the convex dual of relative entropy to uniform with the counts' Gaussian likelihood.

        The entropy counts less and less, until residuals are no larger than the noise. That comes closer to
        the counts in fewer passes over the tree than mirror descent on the likelihood alone.
        Source: Dudik, Phillips & Schapire (2007), Maximum entropy density estimation with generalized
          regularization; the discrepancy principle (Morozov, 1966) ends it. In place of McKenna, Sheldon &
          Miklau (2019), algorithm 1.

        Args:
          iterations: of L-BFGS, for each weight of the entropy.
        """
        from scipy.optimize import minimize

        total = max(statistics.num_rows, 1.0)
        wanted = _wanted(statistics)
        parts = _Parts({clique: means.shape for clique, (means, _) in wanted.items()})
        tree = JunctionTree(self._domain, tuple(wanted))
        targets = parts.flat({c: means / total for c, (means, _) in wanted.items()})
        variances = parts.flat({c: 1.0 / (precision * total**2) for c, (_, precision) in wanted.items()})
        weights = parts.flat({c: np.full(shape, 1.0 / np.prod(shape)) for c, shape in parts.shapes.items()})
        weights /= weights.sum() * variances  # each clique counts alike, or the largest would hide the rest
        theta = parts.flat({c: self.potentials.get(c, np.zeros(shape)) for c, shape in parts.shapes.items()})
        best, seen = np.inf, np.inf

        def dual(point: np.ndarray, scale: np.ndarray, ridges: np.ndarray) -> tuple[float, np.ndarray]:
            theta = point * scale
            shares, log_partition = tree.infer(parts.split(theta))
            residuals = parts.flat(shares) - targets
            nonlocal seen
            seen = float(residuals**2 @ weights)
            value = log_partition - theta @ targets + 0.5 * float((ridges * theta**2).sum())
            return value, (residuals + ridges * theta) * scale

        def enough(_: np.ndarray) -> None:
            if seen <= _CHANCE:
                raise StopIteration

        for place in range(self._loosest, len(_STIFFNESS)):
            self._loosest = place
            ridges = _STIFFNESS[place] * total * variances
            scale = (np.maximum(targets, 0.0) + variances**0.5 + ridges) ** -0.5
            options = {"maxiter": iterations, "maxcor": 12, "ftol": 0.0}
            found = minimize(
                dual,
                theta / scale,
                args=(scale, ridges),
                jac=True,
                method="L-BFGS-B",
                options=options,
                callback=enough,
            )
            theta = found.x * scale
            answers, _ = tree.infer(parts.split(theta))
            error = float((parts.flat(answers) - targets) ** 2 @ weights)
            if not error < best:  # too loose to be solved
                return
            best, self.potentials = error, parts.split(theta)
            self._answers = {clique: total * shares for clique, shares in answers.items()}
            if error <= _CHANCE:
                return


class _Parts:
    """Tables of cliques one after the other in one vector."""

    def __init__(self, shapes: Mapping[Clique, tuple[int, ...]]):
        self.shapes = dict(shapes)
        self._cuts = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]

    def flat(self, tables: Mapping[Clique, np.ndarray]) -> np.ndarray:
        return np.concatenate([np.ravel(tables[clique]) for clique in self.shapes])

    def split(self, vector: np.ndarray) -> dict[Clique, np.ndarray]:
        pieces = np.split(vector, self._cuts)
        return {clique: piece.reshape(self.shapes[clique]) for clique, piece in zip(self.shapes, pieces)}


def _wanted(statistics: Statistics) -> dict[Clique, tuple[np.ndarray, np.ndarray]]:
    """Mean and precision of the counts of every clique that was bought, once or more."""
    found: dict[Clique, tuple[np.ndarray, np.ndarray]] = {}
    for marginal, variance in observed(statistics):
        clique = tuple(name.removeprefix(STRATA) for name in marginal.columns)
        precision = 1.0 / (variance + _FLOOR**2)
        if clique in found:
            mean, known = found[clique]
            mean = (mean * known + marginal.counts * precision) / (known + precision)
            found[clique] = mean, known + precision
        else:
            found[clique] = marginal.counts, precision
    return found


def draw_rows(
    potentials: Mapping[Clique, np.ndarray], domain: Domain, num: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws rows whose answers round those of the field; codes by column."""
    tree = JunctionTree(domain, tuple(potentials))
    return tree.draw(potentials, num, np.random.default_rng(seed))
