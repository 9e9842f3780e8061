"""A Markov random field over the cells of columns; mbi (extra `marginal`) makes its junction tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dpsynth.data.denoising import observed
from dpsynth.data.grid import Domain
from dpsynth.data.statistics import STRATA, Statistics

Clique = tuple[str, ...]
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
        return _mbi().junction_tree.hypothetical_model_size(_library_domain(self._domain), cliques)

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


class _Message(NamedTuple):
    """One clique of the tree tells another what it knows of the columns that both have.

    Args:
      source, target: places of the cliques.
      dropped: axes of the source that the target does not have.
      shape: of the message, with an axis for each column of the target.
    """

    source: int
    target: int
    dropped: tuple[int, ...]
    shape: tuple[int, ...]


class JunctionTree:
    """Exact inference in a field: the cliques are joined into a tree of larger ones, which exchange messages.

    Source: Jensen, Lauritzen & Olesen (1990), Bayesian updating in causal probabilistic networks by local
      computations (HUGIN). Sums run over shares, not their logarithms, which is an order faster.

    Args:
      cliques: whose answers are wanted.
    """

    def __init__(self, domain: Domain, cliques: Sequence[Clique]):
        library, names = _mbi().junction_tree, domain.names
        self._size = dict(zip(names, domain.sizes))  # cells by column
        tree, _ = library.make_junction_tree(_library_domain(domain), list(cliques))
        self._nodes = [tuple(sorted(node, key=names.index)) for node in tree.nodes]
        places = {node: place for place, node in enumerate(tree.nodes)}
        self._cliques = tuple(cliques)
        self._order = [
            self._message(places[source], places[target])
            for source, target in library.message_passing_order(tree)
        ]
        self._home = {clique: self._smallest(clique, self._nodes) for clique in cliques}

    def _shape(self, clique: Clique) -> tuple[int, ...]:
        return tuple(self._size[name] for name in clique)

    def _smallest(self, clique: Clique, nodes: Sequence[Clique]) -> int:
        fitting = [place for place, node in enumerate(nodes) if set(clique) <= set(node)]
        return min(fitting, key=lambda place: np.prod(self._shape(nodes[place])))

    def _message(self, source: int, target: int) -> _Message:
        shared = set(self._nodes[source]) & set(self._nodes[target])
        dropped = tuple(i for i, name in enumerate(self._nodes[source]) if name not in shared)
        shape = tuple(self._size[name] if name in shared else 1 for name in self._nodes[target])
        return _Message(source, target, dropped, shape)

    def beliefs(self, potentials: Mapping[Clique, np.ndarray]) -> tuple[list[np.ndarray], float]:
        """Shares of the joint cells of each node of the tree, and the logarithm of the field's sum."""
        tables = [np.zeros(self._shape(node)) for node in self._nodes]
        for clique, values in potentials.items():
            node = self._nodes[self._home[clique]]
            ordered = values.transpose([clique.index(name) for name in node if name in clique])
            tables[self._home[clique]] += ordered.reshape(
                [self._size[name] if name in clique else 1 for name in node]
            )
        log_partition = 0.0
        for table in tables:
            top = table.max()
            np.exp(table - top, out=table)
            log_partition += float(top)
        sent: dict[tuple[int, int], np.ndarray] = {}
        roots = set(range(len(tables)))  # those that tell nobody before they are told
        for source, target, dropped, shape in self._order:
            message = tables[source].sum(axis=dropped)
            mass = message.sum()
            message /= mass
            told = sent.get((target, source))  # before, the other way round
            sent[source, target] = message
            if told is None:
                roots.discard(source)
                log_partition += float(np.log(mass))
            else:
                message = np.divide(message, told, out=np.zeros_like(message), where=told > 0)
            tables[target] *= message.reshape(shape)
        log_partition += sum(float(np.log(tables[root].sum())) for root in roots)
        return [table / table.sum() for table in tables], log_partition

    def infer(self, potentials: Mapping[Clique, np.ndarray]) -> tuple[dict[Clique, np.ndarray], float]:
        """Shares of the cells of each clique, and the logarithm of the field's sum."""
        (beliefs, log_partition), found = self.beliefs(potentials), {}
        for clique in sorted(self._cliques, key=len, reverse=True):
            within = [other for other in found if set(clique) <= set(other)]
            if within:  # a smaller table than the tree's
                place = self._smallest(clique, within)
                found[clique] = _margin(found[within[place]], within[place], clique)
            else:
                node = self._home[clique]
                found[clique] = _margin(beliefs[node], self._nodes[node], clique)
        return {clique: found[clique] for clique in self._cliques}, log_partition

    def draw(
        self, potentials: Mapping[Clique, np.ndarray], num: int, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draws rows, node by node down the tree, at evenly spaced heights; codes by column."""
        (beliefs, _), rows = self.beliefs(potentials), {}
        for place in self._downwards():
            node = self._nodes[place]
            known = [name for name in node if name in rows]
            new = [name for name in node if name not in rows]
            if not new:
                continue
            table = beliefs[place].transpose([node.index(name) for name in (*known, *new)])
            table = table.reshape(int(np.prod(self._shape(tuple(known)))), -1)
            state = np.zeros(num, dtype=np.int64)
            for name in known:
                state = state * self._size[name] + rows[name]
            drawn = _draw_evenly(table, state, random)
            for name, codes in zip(new, np.unravel_index(drawn, self._shape(tuple(new)))):
                rows[name] = codes
        return rows

    def _downwards(self) -> list[int]:
        """Nodes, each after one that it shares columns with; those apart from all before start anew."""
        order: list[int] = []
        for root in range(len(self._nodes)):
            waiting = [root]
            while waiting:
                place = waiting.pop()
                if place not in order:
                    order.append(place)
                    waiting += [m.target for m in self._order if m.source == place]
        return order


def _margin(table: np.ndarray, names: Clique, kept: Clique) -> np.ndarray:
    """Sums over the columns that are not kept; axes in the order of `kept`."""
    summed = table.sum(axis=tuple(i for i, name in enumerate(names) if name not in kept))
    left = [name for name in names if name in kept]
    return summed.transpose([left.index(name) for name in kept])


def _draw_evenly(table: np.ndarray, state: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A cell for each row by the shares of its state, [state, cell]; rows of a state at even heights."""
    shares = table + 1e-300
    ladder = (shares / shares.sum(axis=1, keepdims=True)).cumsum(axis=1) + np.arange(len(table))[:, None]
    order = np.lexsort((random.random(len(state)), state))
    counts = np.bincount(state, minlength=len(table))
    rank = np.arange(len(state)) - np.repeat(counts.cumsum() - counts, counts)
    heights = np.empty(len(state))
    heights[order] = (rank + random.random(len(table))[state[order]]) / counts[state[order]]
    found = np.searchsorted(ladder.ravel(), state + heights, side="right") - state * table.shape[1]
    return found.clip(0, table.shape[1] - 1)


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


def _library_domain(domain: Domain) -> Any:
    return _mbi().Domain(domain.names, domain.sizes)


def _mbi() -> Any:
    """The library, without its own warnings."""
    import os
    import warnings

    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mbi
    return mbi


def draw_rows(
    potentials: Mapping[Clique, np.ndarray], domain: Domain, num: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws rows whose answers round those of the field; codes by column."""
    tree = JunctionTree(domain, tuple(potentials))
    return tree.draw(potentials, num, np.random.default_rng(seed))
