"""A network fitted to bought joint histograms alone: no DP-SGD. What private training adds is measured
against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Schema
from dpsynth.generators.base import collect_rows, public_draw, seeded
from dpsynth.generators.marginal_net.settings import Config
from dpsynth.generators.marginals.anchor import Anchor, fit_anchor
from dpsynth.generators.marginals.pairwise import Pairwise, ReleasedRows
from dpsynth.generators.marginals.settings import AnchorSettings
from dpsynth.generators.parts.latent import LatentModel
from dpsynth.generators.parts.nn import Segments, normal


class ResidualNet(nn.Module):
    """Latents to logits through pre-normalised residual blocks; each row by itself."""

    def __init__(self, width_in: int, width: int, num_blocks: int, width_out: int):
        super().__init__()
        self.first = nn.Linear(width_in, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(num_blocks)
        )
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width_out))

    def forward(self, values: Tensor) -> Tensor:
        values = self.first(values)
        for block in self.blocks:
            values = values + block(values)
        return self.last(values)


class Generator(Pairwise):
    """Draws latents; a network makes the probabilities of every column's cells, which are drawn one by one.

    Formal guarantee: post-processing of bought statistics; reads no private unit.
    Source: Liu, Vietri & Wu (2021), Iterative methods for private synthetic data (GEM); deviations in
      `anchor.Anchor`.
    """

    name: ClassVar[str] = "marginal_net"
    encoder_type: ClassVar[type[TableEncoder]] = TableEncoder
    trains: ClassVar[bool] = False

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        return TableEncoder(schema, statistics)

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder, self.seed = config, encoder, seed
        self.segments, self.anchor = Segments(encoder.layout), Anchor(encoder.layout, statistics)
        self.rows = ReleasedRows(
            self._draw, encoder, statistics, private=True, pool_rows=config.fit_pool, seed=seed
        )
        with seeded(seed):
            self.network = ResidualNet(
                config.embedding_dim, config.width, config.num_blocks, encoder.layout.width
            )
            shares = np.concatenate([encoder.frequencies(s.column) for s in encoder.layout.segments])
            with torch.no_grad():  # starts at the bought 1-way histograms
                self.network.last[1].bias.copy_(torch.from_numpy(np.log(shares + 1e-4)))

    def to(self, device: torch.device | str) -> Generator:
        """Moves everything, in place."""
        for module in (self.network, self.segments, self.anchor):
            module.to(device)
        return self

    def objective(self) -> None:
        return None

    def plain_objective(self) -> None:
        return None

    def fit_public(self) -> None:
        """Fits the network to the bought histograms; free."""
        config = self.config
        settings = AnchorSettings(
            steps=config.anchor_steps,
            batch_size=config.anchor_batch_size,
            learning_rate=config.anchor_learning_rate,
            ema_decay=config.anchor_ema_decay,
        )
        draw = public_draw(self.seed, self.segments.starts.device)
        fit_anchor(self.network, self.soft_rows, self.anchor, settings, draw)

    def soft_rows(self, num: int, draw: torch.Generator) -> Tensor:
        """Cell probabilities of `num` generated rows, [num, width], with gradients to the network."""
        return self.segments.soft(self.network(self.latents(num, draw)))

    def latents(self, num: int, draw: torch.Generator) -> Tensor:
        return normal((num, self.config.embedding_dim), draw)

    def latent_model(self) -> LatentModel:
        """The network, for an attacker on weights."""
        self.network.eval()
        return LatentModel(
            segments=self.segments,
            draw=self.latents,
            logits=self.network,
            num_noise=self.config.embedding_dim,
        )

    def _draw(self, num: int, seed: int, conditions: Mapping[str, Any] | None) -> np.ndarray:
        draw = public_draw(seed, self.segments.starts.device)

        @torch.no_grad()
        def batch(size: int) -> np.ndarray:
            logits = self.network(self.latents(size, draw))
            return self.segments.draw_rows(logits, draw).cpu().numpy()

        return collect_rows(
            num,
            batch,
            width=self.segments.packed_width,
            batch_size=self.config.sampling_batch_size,
            codes=self.encoder.condition_codes(conditions or {}),
        )

    def state(self) -> dict[str, Tensor]:
        return self.rows.state(self.network)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(self.rows.load_state(state))
