"""Small objectives and ledgers for tests of the training core."""

from __future__ import annotations

import torch
from torch import nn

from dpsynth.data.tables.table import Receipt


class UnitParameter(nn.Module):
    """A raw parameter that enters the loss once per unit."""

    per_unit_parameter = True

    def __init__(self, size: int):
        super().__init__()
        self.parameter = nn.Parameter(torch.linspace(0.5, 1.5, size))

    def forward(self, batch: int) -> torch.Tensor:
        return self.parameter.expand(batch, -1)


class ToyObjective:
    """Autoencodes units `[unit feature]` or `[unit row feature]`, with dropout, latents and a raw scale."""

    def __init__(self, width: int = 5, rows: int | None = None, *, dropout: float = 0.3, twice: bool = False):
        layers = [nn.Linear(width, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 6, bias=False), nn.ReLU()]
        self.net = nn.Sequential(*layers)
        self.head = nn.Linear(6, width)
        self.scale = UnitParameter(width)
        self.private = nn.ModuleDict({"net": self.net, "head": self.head, "scale": self.scale})
        self.optimizer = torch.optim.Adam(self.private.parameters(), lr=1e-2)
        self.released = nn.Linear(2, 2)
        self.shape = (width,) if rows is None else (rows, width)
        self.twice = twice
        self.public_steps = []

    def private_optimizer(self):
        return self.optimizer

    def example_units(self, num, draw):
        return torch.randn(num, *self.shape, generator=draw)

    def unit_losses(self, units, draw):
        hidden = self.net(units)
        hidden = hidden + 0.1 * torch.randn(hidden.shape, generator=draw)
        output = self.head(hidden)
        if self.twice:
            output = output + self.head(hidden.flip(-1))
        scale = self.scale(len(units))
        scale = scale if output.ndim == 2 else scale.unsqueeze(1)
        return ((output * scale - units) ** 2).reshape(len(units), -1).sum(1)

    def generated_losses(self, num, draw):
        return None

    def penalty(self, num, draw):
        return None

    def after_step(self):
        pass

    def public_step(self, step, draw):
        self.public_steps.append(float(torch.rand((), generator=draw)))

    def averaged(self):
        return self.head

    def validation_loss(self, units, draw):
        return self.unit_losses(units, draw).mean()

    def state(self):
        return {
            "private": self.private.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "public_steps": list(self.public_steps),
        }

    def load_state(self, state):
        self.private.load_state_dict(state["private"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.public_steps = list(state["public_steps"])


class CountingLedger:
    """Writes down what it was asked for."""

    def __init__(self):
        self.charged, self.voided = [], []
        self.id = "toy"

    def charge(self, event: str) -> Receipt:
        self.charged.append(event)
        return Receipt("toy", 0, event)

    def void(self, reason: str) -> None:
        self.voided.append(reason)


def flat_parameters(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])
