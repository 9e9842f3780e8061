"""TVAE: a variational autoencoder for rows of numbers and categories (Xu et al. 2019, section 4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.encoder import Layout, TableEncoder
from dpsynth.data.schema import Schema
from dpsynth.generators.base import collect_rows, public_draw, seeded
from dpsynth.generators.marginals.anchor import Anchoring, fit_anchor, make_anchor
from dpsynth.generators.marginals.pairwise import Pairwise, ReleasedRows
from dpsynth.generators.marginals.settings import AnchorSettings
from dpsynth.generators.parts.latent import LatentModel
from dpsynth.generators.parts.nn import PerUnitParameter, Segments, mlp, normal
from dpsynth.generators.tvae.objective import Objective, PlainObjective
from dpsynth.generators.tvae.settings import Config, Widths


class Encoder(nn.Module):
    """Rows to the mean and log-variance of their latents; one Linear makes both."""

    def __init__(self, width: int, widths: Widths):
        super().__init__()
        self.body = nn.Sequential(*mlp(width, widths.encoder, nn.ReLU()))
        self.head = nn.Linear((width, *widths.encoder)[-1], 2 * widths.embedding)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.head(self.body(rows)).chunk(2, dim=-1)
        return mean, log_variance


class Decoder(nn.Module):
    """Latents to logits of cells and places of scalars, with one standard deviation per scalar."""

    def __init__(self, width: int, num_scalars: int, widths: Widths):
        super().__init__()
        body = mlp(widths.embedding, widths.decoder, nn.ReLU())
        self.body = nn.Sequential(*body, nn.Linear((widths.embedding, *widths.decoder)[-1], width))
        self.stddev = PerUnitParameter(torch.full((num_scalars,), 0.1)) if num_scalars else None

    def forward(self, latents: Tensor) -> Tensor:
        return self.body(latents)


class Network(nn.Module):
    """Everything that learns from real rows; only the decoder is released."""

    def __init__(self, layout: Layout, widths: Widths):
        super().__init__()
        num_scalars = sum(segment.kind == "scalar" for segment in layout.segments)
        self.encoder = Encoder(layout.width, widths)
        self.decoder = Decoder(layout.width, num_scalars, widths)


class Generator(Pairwise):
    """TVAE, with the encoder and decoder trained under DP-SGD and the decoder alone released.

    Formal guarantee: `state` and samples are functions of the decoder's privately trained weights, the layout
    and a public seed.
    Source: Xu, Skoularidou, Cuesta-Infante & Veeramachaneni (2019), Modeling tabular data using conditional
      GAN, section 4.4. Deviations: cells are drawn from their probabilities, where the authors' package takes
      the likeliest; the encoder has one output layer in place of two, which is the same function.
    """

    name: ClassVar[str] = "tvae"
    encoder_type: ClassVar[type[TableEncoder]] = TableEncoder
    trains: ClassVar[bool] = True

    @classmethod
    def trains_with(cls, config: Config, *, private: bool) -> bool:
        """Whether anything is trained on units."""
        return not private or config.dp_sgd

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        return TableEncoder(schema, statistics, config.encoding(private))

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder, self.seed = config, encoder, seed
        self.trains = self.trains_with(config, private=private)
        self.segments = Segments(encoder.layout)
        self.anchor = make_anchor(encoder.layout, statistics, private=private)
        self._widths = config.widths(private)
        self.rows = ReleasedRows(
            self._draw, encoder, statistics, private=private, pool_rows=config.fit_pool, seed=seed
        )
        with seeded(seed):
            self.network = Network(encoder.layout, self._widths)

    @property
    def decoder(self) -> Decoder:
        return self.network.decoder

    def to(self, device: torch.device | str) -> Generator:
        """Moves the network, in place."""
        for module in (self.network, self.segments, self.anchor):
            if module is not None:
                module.to(device)
        return self

    def fit_public(self) -> None:
        """Fits the decoder to the bought joint histograms, then the encoder to its rows; free."""
        config = self.config
        if self.anchor is None or config.anchor_steps == 0:
            return
        draw = public_draw(self.seed, self.segments.starts.device)
        settings = AnchorSettings(
            steps=config.anchor_steps,
            batch_size=config.anchor_batch_size,
            learning_rate=config.anchor_learning_rate,
        )
        fit_anchor(self.decoder, self.soft_rows, self.anchor, settings, draw)
        optimizer = torch.optim.Adam(self.network.encoder.parameters(), lr=config.learning_rate, fused=True)
        for _ in range(config.warm_steps):
            with torch.no_grad():
                made = self.segments.draw_rows(self.decoder(self.latents(config.batch_size, draw)), draw)
            loss = self.objective().unit_losses(made, draw).mean()
            optimizer.zero_grad()
            loss.backward(inputs=list(self.network.encoder.parameters()))
            optimizer.step()

    def objective(self) -> Objective:
        anchoring = None
        if self.anchor is not None:
            anchoring = Anchoring(
                self.anchor,
                self.decoder,
                self.soft_rows,
                every=self.config.anchor_every,
                batch_size=self.config.anchor_batch_size,
                learning_rate=0.1 * self.config.anchor_learning_rate,
            )
        return Objective(
            self.config, self.network, self.segments, self.encoder.rows_per_unit, anchoring=anchoring
        )

    def plain_objective(self) -> PlainObjective:
        return PlainObjective(self.objective())

    def latents(self, num: int, draw: torch.Generator) -> Tensor:
        return normal((num, self._widths.embedding), draw)

    def soft_rows(self, num: int, draw: torch.Generator) -> Tensor:
        """Cell probabilities of `num` generated rows, [num, width], with gradients to the decoder."""
        return self.segments.soft(self.decoder(self.latents(num, draw)))

    def latent_model(self) -> LatentModel:
        """The decoder, for an attacker on weights."""
        self.network.eval()
        stddev = None if self.decoder.stddev is None else self.decoder.stddev.parameter.detach()
        return LatentModel(
            segments=self.segments,
            draw=self.latents,
            logits=self.decoder,
            num_noise=self._widths.embedding,
            stddev=stddev,
        )

    def _draw(self, num: int, seed: int, conditions: Mapping[str, Any] | None) -> np.ndarray:
        draw = public_draw(seed, self.segments.starts.device)
        self.network.eval()

        @torch.no_grad()
        def batch(size: int) -> np.ndarray:
            logits = self.decoder(self.latents(size, draw))
            stddev = None if self.decoder.stddev is None else self.decoder.stddev(1)
            rows = self.segments.draw_rows if self.config.draw_categories else self.segments.likeliest_rows
            return rows(logits, draw, stddev).cpu().numpy()

        return collect_rows(
            num,
            batch,
            width=self.segments.packed_width,
            batch_size=self.config.sampling_batch_size,
            codes=self.encoder.condition_codes(conditions or {}),
        )

    def state(self) -> dict[str, Tensor]:
        return self.rows.state(self.decoder)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.decoder.load_state_dict(self.rows.load_state(state))
