"""Exact inference in a Markov random field over a junction tree, which mbi (extra `marginal`) makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dpsynth.data.bought.grid import Domain

Clique = tuple[str, ...]


def megabytes(domain: Domain, cliques: Sequence[Clique]) -> float:
    """Size of the tree of these cliques."""
    return _mbi().junction_tree.hypothetical_model_size(_library_domain(domain), cliques)


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
