"""TVAE: a variational autoencoder for rows of numbers and categories (Xu et al. 2019, section 4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dpsynth.data.encoding import Layout, TableEncoder
from dpsynth.data.schema import Schema
from dpsynth.data.statistics import Question, Statistics
from dpsynth.generators.base import check_settings, collect_rows, public_draw, seeded
from dpsynth.generators.nn import PerUnitParameter, Segments, flat_rows, mlp, normal, per_unit


class Widths(NamedTuple):
    """Layer widths of the network."""

    embedding: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]


SIZES = {
    "small": Widths(32, (64, 64), (64, 64)),
    "medium": Widths(128, (128, 128), (128, 128)),  # as published
    "large": Widths(256, (256, 256), (256, 256)),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of TVAE; the defaults are the published ones.

    Args:
      size: widths by name; each can be overridden by the three that follow.
      representation: None is `bins` with differential privacy and `modes` without.
      loss_factor: weight of the reconstruction against the KL divergence.
      draw_categories: draw a cell from its probabilities; False takes the likeliest, as the `ctgan` package.
      batch_size: of the training without privacy; with privacy, `training` decides.
      sampling_batch_size: rows made at once.
    """

    size: Literal["small", "medium", "large"] = "medium"
    embedding_dim: int | None = None
    encoder_dims: tuple[int, ...] | None = None
    decoder_dims: tuple[int, ...] | None = None
    representation: Literal["bins", "modes"] | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    loss_factor: float = 2.0
    draw_categories: bool = True
    batch_size: int = 500
    sampling_batch_size: int = 5_000

    def __post_init__(self) -> None:
        dims = (self.embedding_dim or 1, *(self.encoder_dims or ()), *(self.decoder_dims or ()))
        check_settings(
            (self.size in SIZES, f"Expected size={self.size!r} to be one of {', '.join(SIZES)}."),
            (all(dim > 0 for dim in dims), "Expected every width above 0."),
            (self.learning_rate > 0, f"Expected learning_rate={self.learning_rate} above 0."),
            (self.weight_decay >= 0, f"Expected weight_decay={self.weight_decay} of at least 0."),
            (self.loss_factor > 0, f"Expected loss_factor={self.loss_factor} above 0."),
            (self.batch_size > 0, f"Expected batch_size={self.batch_size} above 0."),
            (self.sampling_batch_size > 0, "Expected sampling_batch_size above 0."),
        )

    @property
    def widths(self) -> Widths:
        """The widths that `size` and the overrides come to."""
        preset = SIZES[self.size]
        return Widths(
            self.embedding_dim or preset.embedding,
            preset.encoder if self.encoder_dims is None else self.encoder_dims,
            preset.decoder if self.decoder_dims is None else self.decoder_dims,
        )


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


class Objective:
    """The negative evidence lower bound, per unit; all of the network learns from real units."""

    def __init__(self, config: Config, network: Network, segments: Segments, rows_per_unit: int | None):
        self.config, self.private, self.segments = config, network, segments
        self._rows_per_unit = rows_per_unit
        self._optimizer = torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def private_optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self._optimizer]

    def averaged(self) -> nn.Module:
        return self.private.decoder

    def example_units(self, num: int, draw: torch.Generator) -> Tensor:
        return self.segments.example_units(num, self._rows_per_unit, draw)

    def unit_losses(self, units: Tensor, draw: torch.Generator) -> Tensor:
        rows = self.segments.expand(units)
        mean, log_variance = self.private.encoder(rows)
        latents = mean + (0.5 * log_variance).exp() * normal(mean.shape, draw)
        logits = self.private.decoder(latents)
        reconstruction = self.segments.cross_entropy(logits, units).sum(dim=-1)
        if self.private.decoder.stddev is not None:
            reconstruction = reconstruction + self._scalar_losses(logits, rows)
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(dim=-1)
        return per_unit(self.config.loss_factor * reconstruction + divergence, units)

    def _scalar_losses(self, logits: Tensor, rows: Tensor) -> Tensor:
        places = self.segments.scalars
        stddev = self.private.decoder.stddev(len(rows))
        stddev = stddev.reshape(len(rows), *(1,) * (rows.dim() - 2), -1)
        error = rows[..., places] - logits[..., places].tanh()
        return (error**2 / (2 * stddev**2) + stddev.log()).sum(dim=-1)

    def generated_losses(self, num: int, draw: torch.Generator) -> None:
        return None

    def penalty(self, num: int, draw: torch.Generator) -> None:
        return None

    def after_step(self) -> None:
        if self.private.decoder.stddev is not None:
            self.private.decoder.stddev.parameter.data.clamp_(0.01, 1.0)

    def public_step(self, step: int, draw: torch.Generator) -> None:
        return None

    def validation_loss(self, units: Tensor, draw: torch.Generator) -> float:
        return float(self.unit_losses(units, draw).mean())

    def state(self) -> dict[str, Any]:
        return {"network": self.private.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.private.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])


class PlainObjective:
    """The published training: shuffled epochs, mean loss, Adam."""

    def __init__(self, bound: Objective):
        self._bound, self._batch_size = bound, bound.config.batch_size
        self._order = torch.empty(0, dtype=torch.long)

    def bind(self, units: Tensor) -> None:
        self._rows = flat_rows(units)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def step(self, draw: torch.Generator) -> dict[str, float]:
        if len(self._order) == 0:
            self._order = torch.randperm(len(self._rows), generator=draw, device=draw.device)
        batch, self._order = self._order.tensor_split([self._batch_size])
        optimizer = self._bound.private_optimizer()
        loss = self._bound.unit_losses(self._rows[batch], draw).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self._bound.after_step()
        return {"loss": loss.item()}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self._bound.optimizers()

    def averaged(self) -> nn.Module:
        return self._bound.averaged()

    def validation_loss(self, units: Tensor, draw: torch.Generator) -> float:
        return self._bound.validation_loss(units, draw)

    def state(self) -> dict[str, Any]:
        return {"bound": self._bound.state(), "order": self._order}

    def load_state(self, state: dict[str, Any]) -> None:
        self._bound.load_state(state["bound"])
        self._order = state["order"]


class Generator:
    """TVAE, with the encoder and decoder trained under DP-SGD and the decoder alone released.

    Formal guarantee: `state` and samples are functions of the decoder's privately trained weights, the layout
    and a public seed.
    Source: Xu, Skoularidou, Cuesta-Infante & Veeramachaneni (2019), Modeling tabular data using conditional
      GAN, section 4.4. Deviations: cells are drawn from their probabilities, where the authors' package takes
      the likeliest; the encoder has one output layer in place of two, which is the same function.
    """

    name: ClassVar[str] = "tvae"
    trains: ClassVar[bool] = True

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        wanted = config.representation or ("bins" if private else "modes")
        return TableEncoder(schema, statistics, wanted)

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[Question, ...]:
        return ()

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder = config, encoder
        self.segments = Segments(encoder.layout)
        with seeded(seed):
            self.network = Network(encoder.layout, config.widths)

    @property
    def decoder(self) -> Decoder:
        return self.network.decoder

    def to(self, device: torch.device | str) -> Generator:
        """Moves the network, in place."""
        self.network.to(device)
        self.segments.to(device)
        return self

    def fit_public(self) -> None:
        return None

    def objective(self) -> Objective:
        return Objective(self.config, self.network, self.segments, self.encoder.rows_per_unit)

    def plain_objective(self) -> PlainObjective:
        return PlainObjective(self.objective())

    def latents(self, num: int, draw: torch.Generator) -> Tensor:
        return normal((num, self.config.widths.embedding), draw)

    def soft_rows(self, num: int, draw: torch.Generator) -> Tensor:
        """Cell probabilities of `num` generated rows, [num, width], with gradients to the decoder."""
        return self.segments.soft(self.decoder(self.latents(num, draw)))

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
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
        return {name: value.detach().cpu().clone() for name, value in self.decoder.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.decoder.load_state_dict(dict(state))
