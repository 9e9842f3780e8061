"""CTGAN: a conditional Wasserstein GAN for rows of numbers and categories (Xu et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Boolean, Categorical, Schema
from dpsynth.generators.base import collect_rows, public_draw, seeded
from dpsynth.generators.ctgan.conditions import Conditions, bought_frequencies
from dpsynth.generators.ctgan.objective import PlainObjective, Players, PrivateObjective
from dpsynth.generators.ctgan.settings import Config
from dpsynth.generators.marginals.anchor import fit_anchor, make_anchor
from dpsynth.generators.marginals.pairwise import Pairwise, ReleasedRows
from dpsynth.generators.marginals.settings import AnchorSettings
from dpsynth.generators.parts.latent import LatentModel
from dpsynth.generators.parts.nn import Segments, mlp, normal


class Residual(nn.Module):
    """Linear, BatchNorm and ReLU beside the input."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.linear, self.norm = nn.Linear(width, out), nn.BatchNorm1d(out)

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([self.norm(self.linear(values)).relu(), values], dim=1)


class GeneratorNet(nn.Module):
    """Noise and a condition to logits of cells and places of scalars; BatchNorm sees no data here."""

    def __init__(self, width_in: int, dims: tuple[int, ...], width_out: int):
        super().__init__()
        layers: list[nn.Module] = []
        for dim in dims:
            layers.append(Residual(width_in, dim))
            width_in += dim
        self.body = nn.Sequential(*layers, nn.Linear(width_in, width_out))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs)


class Critic(nn.Module):
    """Rows with their conditions, `pac` at a time, to one score."""

    def __init__(self, width: int, dims: tuple[int, ...], dropout: float, pac: int):
        super().__init__()
        self.pac = pac
        body = mlp(pac * width, dims, nn.LeakyReLU(0.2), dropout)
        self.body = nn.Sequential(*body, nn.Linear((pac * width, *dims)[-1], 1))

    def forward(self, rows: Tensor) -> Tensor:
        if self.pac > 1:
            rows = rows.reshape(len(rows) // self.pac, -1)
        return self.body(rows).squeeze(-1)


class Generator(Pairwise):
    """CTGAN, with the critic's real term under DP-SGD and the generator as post-processing of the critic.

    Formal guarantee: the critic's scores of real units are the only access to private data; `state` and
    samples are functions of privately trained critics, bought statistics and public seeds.
    Source: Xu, Skoularidou, Cuesta-Infante & Veeramachaneni (2019), Modeling tabular data using conditional
      GAN; WGAN-GP by Gulrajani et al. (2017). Deviations from the authors' package: sampling runs in eval
      mode, a condition lands in the column that was asked for, sampling draws conditions by frequency.
    """

    name: ClassVar[str] = "ctgan"
    encoder_type: ClassVar[type[TableEncoder]] = TableEncoder
    trains: ClassVar[bool] = True

    @classmethod
    def trains_with(cls, config: Config, *, private: bool) -> bool:
        """Whether anything is trained on units."""
        return not private or config.adversarial_weight > 0

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        return TableEncoder(schema, statistics, config.resolved(private).representation)

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder, layout = config.resolved(private), encoder, encoder.layout
        self.seed, self.trains = seed, self.trains_with(config, private=private)
        columns = [cells.column for cells in statistics.domain.cells]
        discrete = tuple(c.name for c in columns if isinstance(c, Categorical | Boolean))
        conditions, widths = Conditions(layout, discrete), config.widths(private)
        inputs, joint = widths.embedding + conditions.width, layout.width + conditions.width
        self.rows = ReleasedRows(
            self._draw, encoder, statistics, private=private, pool_rows=config.fit_pool, seed=seed
        )
        with seeded(seed):
            network = GeneratorNet(inputs, widths.generator, layout.width)
            critic = Critic(joint, widths.critic, self.config.dropout, self.config.pac)
        self.players = Players(
            self.config,
            network,
            critic,
            Segments(layout),
            conditions,
            embedding=widths.embedding,
            frequencies=bought_frequencies(encoder),
            training_frequencies=bought_frequencies(encoder, logarithmic=self.config.log_frequency),
            anchor=make_anchor(layout, statistics, private=private),
        )

    @property
    def network(self) -> nn.Module:
        return self.players.network

    def to(self, device: torch.device | str) -> Generator:
        """Moves everything, in place."""
        self.players.to(device)
        return self

    def fit_public(self) -> None:
        """Fits the generator to the bought joint histograms; free."""
        config, anchor = self.config, self.players.anchor
        if anchor is None or config.anchor_steps == 0:
            return
        settings = AnchorSettings(
            steps=config.anchor_steps,
            batch_size=config.anchor_batch_size,
            learning_rate=config.anchor_learning_rate,
        )
        draw = public_draw(self.seed, self.players.segments.starts.device)
        fit_anchor(self.network, self.soft_rows, anchor, settings, draw)

    def objective(self) -> PrivateObjective:
        return PrivateObjective(self.players, self.encoder.rows_per_unit)

    def plain_objective(self) -> PlainObjective:
        return PlainObjective(self.players)

    def soft_rows(self, num: int, draw: torch.Generator) -> Tensor:
        """Cell probabilities of `num` generated rows, [num, width], with gradients to the generator.

        Their conditions are drawn as when sampling, so their mean estimates the released marginals.
        """
        choice = self.players.choose(num, draw, training=False)
        self.network.train()
        return self.players.segments.soft(self.players.logits(num, choice, draw))

    def latent_model(self) -> LatentModel:
        """The generator with conditions by frequency, for an attacker on weights."""
        players, width = self.players, self.players.embedding
        self.network.eval()

        def inputs(num: int, draw: torch.Generator) -> Tensor:
            return players.join(normal((num, width), draw), players.choose(num, draw, training=False))

        return LatentModel(segments=players.segments, draw=inputs, logits=self.network, num_noise=width)

    def _draw(self, num: int, seed: int, conditions: Mapping[str, Any] | None) -> np.ndarray:
        """Draws rows; conditions on categories go into the conditional vector, one of them per row."""
        codes = self.encoder.condition_codes(conditions or {})
        players, draw = self.players, public_draw(seed, self.players.segments.starts.device)
        self.network.eval()

        @torch.no_grad()
        def batch(size: int) -> np.ndarray:
            choice = players.ask(size, codes, draw) or players.choose(size, draw, training=False)
            return players.segments.draw_rows(players.logits(size, choice, draw), draw).cpu().numpy()

        return collect_rows(
            num,
            batch,
            width=players.segments.packed_width,
            batch_size=self.config.sampling_batch_size,
            codes=codes,
        )

    def state(self) -> dict[str, Tensor]:
        return self.rows.state(self.network)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(self.rows.load_state(state))
