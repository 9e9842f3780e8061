"""Asks for what hangs on three and more columns together with the target, by trees of boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from dpsynth.data.bought.grid import Cells
from dpsynth.data.bought.merging import merge_neighbours, merge_rare
from dpsynth.data.bought.partition import Grid, Partition
from dpsynth.data.bought.questions import Ballot, order_axis, order_rounds, refined_questions
from dpsynth.data.bought.statistics import Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.generators.marginals.labels import leaf_shares
from dpsynth.generators.marginals.marginal_fit import MarginalFit
from dpsynth.generators.marginals.tree import Tree

_POOL = 20_000  # rows of the model that knows pairs
_ORDERS = (3, 4, 5)  # columns of a first grid
_BOXES = 64  # of a first grid, at most
_GRIDS = 5_000  # first grids that are proposed, at most
_GROUPS = 12  # of a column's cells, between which leaves are cut
_TREES = 4  # different ones, at most
_UNKNOWN = 0.06  # of all rows: what pairs must leave open about the target, for trees to be bought


class OrderSeeker:
    """Proposes grids over a few columns that tell of the target what pairs do not; then cuts of their boxes.

    Where no grid tells enough, pairs are refined, as many as there would be trees: what is paid for is the
    same.

    Formal guarantee: post-processing of bought statistics, choices and answers.
    """

    def __init__(self, encoder: TableEncoder, *, seed: int):
        self._encoder, self._seed = encoder, seed
        self._target = order_axis(encoder.schema)
        rounds = order_rounds(encoder.schema)
        self._num, self._round = rounds.choices, 0
        self._trees: list[Partition] | None = None

    def propose(self, statistics: Statistics, noise_stddev: float) -> tuple[Ballot, ...]:
        self._statistics = statistics
        self._round += 1
        if self._trees is None:
            return self._first(statistics)
        ballots = []
        for number, tree in enumerate(self._trees):
            answers = statistics.marginals[-self._num :][number :: len(self._trees)]
            counts = np.mean([answer.counts for answer in answers], axis=0)
            ballots.append(self._cuts(statistics, tree, counts, noise_stddev))
        return (*ballots, *[self._nothing()] * (self._num - len(ballots)))

    def questions(self, ballots: Sequence[Ballot], chosen: Sequence[Sequence[int]]) -> list[Question]:
        """What to buy after these choices."""
        if self._trees is None:
            picked = [ballot.grids[at] for ballot, (at,) in zip(ballots, chosen) if at >= 0]
            self._trees = [Partition().divided([grid]) for grid in picked[:_TREES]]
        elif self._trees:
            self._trees = [
                tree.divided([ballot.grids[at] for at in places])
                for tree, ballot, places in zip(self._trees, ballots, chosen)
            ]
        if not self._trees:
            pairs = refined_questions(self._statistics, self._round * self._num)
            return [pairs[-1 - number % len(pairs)] for number in range(self._num)]
        return [
            Question(columns=(self._target,), partition=self._trees[number % len(self._trees)])
            for number in range(self._num)
        ]

    def _nothing(self) -> Ballot:
        return Ballot(
            partition=Partition(), target=self._target, grids=(), shares=(), penalties=(), least=0.0
        )

    def _first(self, statistics: Statistics) -> tuple[Ballot, ...]:
        """Splits the first grids over the ballots, in public random order."""
        tree = Tree(self._encoder.layout, statistics)
        fit = MarginalFit(self._encoder.layout, statistics, pool_rows=_POOL, seed=self._seed)

        def draw(num: int, seed: int) -> np.ndarray:
            return tree.draw(num, np.random.default_rng(seed))

        fit.solve(draw)
        rows, _, weights = fit.pool(draw)
        mass = weights.numpy().astype(np.float64)
        codes = self._encoder.layout.codes(rows)
        classes = Question(columns=(self._target,))
        labels, num = statistics.places(classes, codes, len(rows)), statistics.shape(classes)[0]
        total, effective = max(statistics.num_rows, 1.0), 1.0 / float((mass**2).sum())
        found = []
        for grid in self._grids(statistics):
            flat = grid.boxes(codes) * num + labels
            made = np.bincount(flat, weights=mass, minlength=grid.size * num).reshape(grid.size, num)
            prior = made.sum(0) / effective
            sizes = made.sum(1, keepdims=True)
            shares = (made + prior) / (sizes + prior.sum())
            spread = sizes * shares * (1 - shares) * (1 / total + 1 / effective)
            penalty = total * math.sqrt(2 / math.pi) * float(np.sqrt(spread).sum()) / 2
            found.append((grid, shares[None] * (1 - 1e-9), penalty))
        order = np.random.default_rng([self._seed, 6]).permutation(len(found))
        return tuple(
            self._ballot(Partition(), [found[at] for at in order[number :: self._num]], _UNKNOWN * total)
            for number in range(self._num)
        )

    def _ballot(self, partition: Partition, found: Sequence, least: float | None) -> Ballot:
        grids, shares, penalties = zip(*found) if found else ((), (), ())
        return Ballot(
            partition=partition,
            target=self._target,
            grids=grids,
            shares=shares,
            penalties=penalties,
            least=least,
        )

    def _cuts(
        self, statistics: Statistics, tree: Partition, counts: np.ndarray, noise_stddev: float
    ) -> Ballot:
        """Every cut of a column in two, in every leaf."""
        shares = leaf_shares(counts, noise_stddev)[:, None] * (1 - 1e-9)
        cuts = [cut for cells in self._inputs(statistics) for cut in _cuts_of(statistics, cells)]
        return self._ballot(tree, [(cut, shares, 0.0) for cut in cuts], None)

    def _inputs(self, statistics: Statistics) -> list[Cells]:
        target = self._encoder.schema.target
        return [cells for cells in statistics.domain.cells if cells.column.name != target]

    def _grids(self, statistics: Statistics) -> Iterator[Grid]:
        inputs, left = self._inputs(statistics), _GRIDS
        for order in _ORDERS:
            num = math.comb(len(inputs), order)
            if num > left:
                return
            left -= num
            most = int(_BOXES ** (1 / order) + 1e-9)
            groups = {cells.column.name: _groups(statistics, cells, most) for cells in inputs}
            for names in combinations(groups, order):
                yield Grid(columns=names, groups=tuple(groups[name] for name in names))


def _groups(statistics: Statistics, cells: Cells, most: int) -> tuple[int, ...]:
    """At most so many groups of a column's cells, alike in mass, and one more for what is missing."""
    present = cells.size - cells.missing
    shares = statistics.probabilities(cells.column.name)[:present]
    merge = merge_neighbours if _ordered(cells) else merge_rare
    codes = merge(shares, most, 0.0) if present > most else np.arange(present)
    return tuple(int(code) for code in np.append(codes, [codes.max() + 1] if cells.missing else []))


def _cuts_of(statistics: Statistics, cells: Cells) -> Iterator[Grid]:
    """Cells up to a group against those beyond; one group against all others, where there is no order."""
    groups = np.array(_groups(statistics, cells, _GROUPS))
    for group in range(int(groups.max()) + (not _ordered(cells) and groups.max() > 1)):
        sides = groups > group if _ordered(cells) else groups == group
        yield Grid(columns=(cells.column.name,), groups=(tuple(int(side) for side in sides),))


def _ordered(cells: Cells) -> bool:
    return cells.edges is not None or getattr(cells.column, "ordered", False)
