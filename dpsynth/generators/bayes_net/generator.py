"""A tree of columns, each drawn given its parent: a baseline on bought pairs alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Schema
from dpsynth.generators.base import collect_rows
from dpsynth.generators.bayes_net.settings import Config
from dpsynth.generators.marginals.pairwise import Pairwise, ReleasedRows
from dpsynth.generators.marginals.tree import Tree
from dpsynth.generators.parts.networkless import Untrained


class Generator(Pairwise, Untrained):
    """Draws the target, then each column given its parent and the target's stratum, down a maximum tree.

    Formal guarantee: post-processing of bought statistics; reads no private unit.
    Source: Chow & Liu (1968), Approximating discrete probability distributions with dependence trees, with
      the target as a parent of all (Friedman et al. 1997, TAN); on noisy pairs as in McKenna et al. (2021),
      MST. Deviations: pairs are denoised first, and the tree is chosen from answers that were bought anyway.
    """

    name: ClassVar[str] = "bayes_net"
    encoder_type: ClassVar[type[TableEncoder]] = TableEncoder

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        return TableEncoder(schema, statistics)

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder, self.seed = config, encoder, seed
        self.rows = ReleasedRows(
            self._draw, encoder, statistics, private=True, pool_rows=config.fit_pool, seed=seed, tree=False
        )
        self._tree = Tree(encoder.layout, statistics)

    def _draw(self, num: int, seed: int, conditions: Mapping[str, Any] | None) -> np.ndarray:
        random = np.random.default_rng(seed)
        return collect_rows(
            num,
            lambda size: self._tree.draw(size, random),
            width=self.encoder.layout.packed_width,
            batch_size=self.config.sampling_batch_size,
            codes=self.encoder.condition_codes(conditions or {}),
        )

    def state(self) -> dict[str, Tensor]:
        return self.rows.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if self.rows.load_state(state):
            raise ValueError("Expected no weights for the tree; it is made of bought statistics.")
