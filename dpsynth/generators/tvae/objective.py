"""How TVAE learns: by its evidence lower bound, with privacy or as published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dpsynth.generators.marginals.anchor import Anchoring
from dpsynth.generators.parts.nn import Segments, flat_rows, normal, per_unit

if TYPE_CHECKING:
    from dpsynth.generators.tvae.generator import Network
    from dpsynth.generators.tvae.settings import Config


class Objective:
    """The negative evidence lower bound, per unit; all of the network learns from real units."""

    def __init__(
        self,
        config: Config,
        network: Network,
        segments: Segments,
        rows_per_unit: int | None,
        *,
        anchoring: Anchoring | None = None,
    ):
        self._anchoring = anchoring
        self.config, self.private, self.segments = config, network, segments
        self._rows_per_unit = rows_per_unit
        self._optimizer = torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def private_optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self._optimizer]  # the schedule of private steps; anchoring keeps its own rate

    def averaged(self) -> nn.Module:
        return self.private.decoder

    def example_units(self, num: int, draw: torch.Generator) -> Tensor:
        return self.segments.example_units(num, self._rows_per_unit, draw)

    def unit_losses(self, units: Tensor, draw: torch.Generator) -> Tensor:
        cells = self.segments.targets(units)
        rows = self.segments.expand(units, cells)
        mean, log_variance = self.private.encoder(rows)
        stddev = (0.5 * log_variance).exp()
        logits = self.private.decoder(torch.addcmul(mean, stddev, normal(mean.shape, draw)))
        reconstruction = self.segments.cross_entropy(logits, cells).sum(dim=-1)
        if self.private.decoder.stddev is not None:
            reconstruction = reconstruction + self._scalar_losses(logits, rows)
        squares = torch.addcmul(mean * mean, stddev, stddev) - log_variance
        divergence = 0.5 * (squares.sum(dim=-1) - mean.shape[-1])
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
        if self._anchoring is not None:
            self._anchoring.step(step, draw)

    def validation_losses(self, units: Tensor, draw: torch.Generator) -> Tensor:
        return self.unit_losses(units, draw)

    def validation_loss(self, units: Tensor, draw: torch.Generator) -> float:
        return float(self.unit_losses(units, draw).mean())

    def state(self) -> dict[str, Any]:
        state = {"network": self.private.state_dict(), "optimizer": self._optimizer.state_dict()}
        return state if self._anchoring is None else state | {"anchoring": self._anchoring.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.private.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._anchoring is not None:
            self._anchoring.load_state(state["anchoring"])


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
