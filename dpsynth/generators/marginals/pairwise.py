"""What methods that buy pairs of columns have in common: what they ask, and how rows leave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from dpsynth.data.bought.questions import Rounds, order_rounds, pair_questions, pair_rounds
from dpsynth.data.bought.statistics import Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Schema
from dpsynth.generators.base import collect_rows
from dpsynth.generators.marginals.labels import Labels
from dpsynth.generators.marginals.marginal_fit import MarginalFit
from dpsynth.generators.marginals.order_seeker import OrderSeeker
from dpsynth.generators.marginals.pair_seeker import PairSeeker
from dpsynth.generators.marginals.tree import Tree

_BATCH = 20_000  # rows whose target is drawn at once

Draw = Callable[[int, int, Mapping[str, Any] | None], np.ndarray]  # rows, seed, conditions -> packed rows


class ReleasedRows:
    """A generator's own rows; where joint histograms over its one-hots were bought, weighted by them. Free.

    Args:
      draw: makes rows of the generator alone.
      pool_rows: on which the weights are fitted; 0 releases rows as they come.
      tree: every second row of the pool is drawn from a tree of columns.
    """

    def __init__(
        self,
        draw: Draw,
        encoder: TableEncoder,
        statistics: Statistics,
        *,
        private: bool,
        pool_rows: int,
        seed: int,
        tree: bool = True,
    ):
        onehot = all(segment.kind == "onehot" for segment in encoder.layout.segments)
        wanted = private and statistics.marginals and onehot and pool_rows > 0
        self._draw, self._encoder = draw, encoder
        self._fit = self._tree = self._labels = None
        if wanted:
            self._fit = MarginalFit(encoder.layout, statistics, pool_rows=pool_rows, seed=seed)
            self._tree = Tree(encoder.layout, statistics) if tree else None
            if any(marginal.partition is not None for marginal in statistics.marginals):
                self._labels = Labels(encoder.layout, statistics)

    def fit(self) -> None:
        """Finds the weights."""
        if self._fit is not None:
            self._fit.solve(self._pool)

    def _pool(self, num: int, seed: int) -> np.ndarray:
        """Rows to be weighted: the generator's, those of the tree, with targets as the leaves say."""
        own = num if self._tree is None else num // 2
        rows = self._draw(own, seed, None)
        if self._tree is not None:
            others = self._tree.draw(num - own, np.random.default_rng([seed, 0, 3]))
            rows = np.concatenate([rows, others])
        if self._labels is None:
            return rows
        return self._labels.redraw(rows, np.random.default_rng([seed, 0, 4]))

    def _fresh(self, num: int, seed: int, conditions: Mapping[str, Any]) -> np.ndarray:
        """The generator's rows under conditions, with targets as the leaves say."""
        if self._labels is None:
            return self._draw(num, seed, conditions)
        random, target = np.random.default_rng([seed, 0, 5]), self._labels.target
        others = {name: value for name, value in conditions.items() if name != target}
        wanted = {name: value for name, value in conditions.items() if name == target}
        return collect_rows(
            num,
            lambda size: self._labels.redraw(self._draw(size, int(random.integers(2**31)), others), random),
            width=self._encoder.layout.packed_width,
            batch_size=_BATCH,
            codes=self._encoder.condition_codes(wanted),
        )

    def sample(self, num: int, seed: int, conditions: Mapping[str, Any] | None) -> np.ndarray:
        """Draws exactly `num` packed rows."""
        if self._fit is None or not (self._fit.fitted or self._labels):
            return self._draw(num, seed, conditions)
        if not conditions:
            return self._fit.sample(self._pool, num, seed=seed)
        return self._fit.sample(lambda n, s: self._fresh(n, s, conditions), num, seed=seed, fresh=True)

    def state(self, network: nn.Module | None = None) -> dict[str, Tensor]:
        """The weights of the released network, if there is one, and those of the fit."""
        values = {} if network is None else network.state_dict()
        own = {name: value.detach().cpu().clone() for name, value in values.items()}
        return own if self._fit is None else own | self._fit.state()

    def load_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Takes the fit's part and returns the network's."""
        return dict(state) if self._fit is None else self._fit.load_state(state)


class Pairwise:
    """The part of a generator that one on bought pairs of columns leaves as it is.

    Its `Config` has `anchored(private)`, which says whether pairs are bought, and `adaptive_rounds`.
    """

    rows: ReleasedRows

    @classmethod
    def questions(cls, config: Any, schema: Schema, *, private: bool) -> tuple[Question, ...]:
        return pair_questions(schema) if config.anchored(private) else ()

    @classmethod
    def rounds(cls, config: Any, schema: Schema, *, private: bool) -> Rounds | None:
        if not config.anchored(private):
            return None
        if config.adaptive_rounds is None:
            return order_rounds(schema)
        return pair_rounds(schema, config.adaptive_rounds)

    @classmethod
    def seeker(cls, config: Any, encoder: TableEncoder, *, seed: int) -> PairSeeker | OrderSeeker:
        return (OrderSeeker if config.adaptive_rounds is None else PairSeeker)(encoder, seed=seed)

    def fit_release(self) -> None:
        """Fits the weights of released rows to the bought joint histograms; free."""
        self.rows.fit()

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        return self.rows.sample(num, seed, conditions)
