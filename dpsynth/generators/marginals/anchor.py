"""Anchors a generator of rows to bought histograms: free, since the histograms were paid for.

The soft one-hots P of a batch of B rows give every 2-way histogram in one matrix product, P'P / B, and every
histogram within a stratum s of the target in one more, (P * P_s)'P / B. The loss is the Gaussian negative
log-likelihood of the bought counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dpsynth.data.bought.denoising import denoised
from dpsynth.data.bought.grid import project_to_simplex
from dpsynth.data.bought.statistics import GROUPS, Marginal, Statistics
from dpsynth.data.rows.encoder import Layout
from dpsynth.generators.marginals.settings import AnchorSettings

_WARMUP = 20  # steps over which the learning rate rises


class Anchor(nn.Module):
    """Distance between generated soft rows and bought joint histograms.

    Formal guarantee: post-processing of bought counts and of generated rows.
    Source: Liu, Vietri & Wu (2021), Iterative methods for private synthetic data: unifying framework and new
      methods (GEM), where the answers of a network's soft rows are fitted to noisy ones. Deviations: all
      histograms enter at once, by their variance; the squared error is estimated without bias.

    Args:
      layout: one one-hot per column, over the cells of `statistics.domain`.
      statistics: with joint histograms.
    """

    def __init__(self, layout: Layout, statistics: Statistics):
        super().__init__()
        places = {s.column: slice(s.start, s.start + s.size) for s in layout.segments}
        self._num_rows, self.num_cells = max(statistics.num_rows, 1.0), 0
        grouped, targets = _groups(layout, statistics), {}
        self.register_buffer("groups", grouped.matrix, persistent=False)
        for marginal, noise in denoised(statistics):
            variance = _with_sampling(marginal, noise, self._num_rows)
            *pair, stratum = marginal.columns if len(marginal.columns) == 3 else (*marginal.columns, "")
            key = (stratum, pair[0] in grouped.places)
            where = grouped.places if key[1] else places
            if key not in targets:
                members = _members(stratum, statistics, places, layout.width)
                self.register_buffer(f"members_{len(targets)}", members, persistent=False)
                width = grouped.matrix.shape[1] if key[1] else layout.width
                targets[key] = torch.zeros(2, members.shape[1], width, width)
            counts = marginal.counts if stratum else marginal.counts[..., None]
            spread = variance if stratum else variance[..., None]
            place = (slice(None), *(where[name] for name in pair))
            targets[key][0][place] = _tensor(np.moveaxis(counts, -1, 0) / self._num_rows)
            targets[key][1][place] = _tensor(self._num_rows**2 / np.moveaxis(spread, -1, 0))
            self.num_cells += counts.size
        self._grouped = [is_grouped for _, is_grouped in targets]
        for index, pair in enumerate(targets.values()):
            self.register_buffer(f"targets_{index}", pair[0], persistent=False)
            self.register_buffer(f"weights_{index}", pair[1], persistent=False)

    def loss(self, rows: Tensor) -> Tensor:
        """Mean over bought cells of the squared standardised residual, estimated without bias.

        Two halves of the batch give independent residuals, whose product has the right mean. The square of
        one residual would also charge the batch's own sampling noise, and so favour rows that are alike.

        Args:
          rows: [row, width], soft; an even number is used.
        """
        halves = [(half, half @ self.groups) for half in rows[: len(rows) // 2 * 2].chunk(2)]
        total = rows.new_zeros(())
        for index, is_grouped in enumerate(self._grouped):
            targets, weights = getattr(self, f"targets_{index}"), getattr(self, f"weights_{index}")
            members = getattr(self, f"members_{index}")
            for k in range(len(targets)):
                residuals = []
                for half, groups in halves:
                    cells = groups if is_grouped else half
                    inside = cells if len(targets) == 1 else cells * (half @ members[:, k : k + 1])
                    residuals.append(inside.T @ cells / len(half) - targets[k])
                total = total + (residuals[0] * residuals[1] * weights[k]).sum()
        return total / max(self.num_cells, 1)


class _Groups(NamedTuple):
    """The expanded row summed over groups of cells.

    Args:
      matrix: [width, group], 1 where a cell is in a group.
      places: of the groups of each axis `~column`.
    """

    matrix: Tensor
    places: dict[str, slice]


def _groups(layout: Layout, statistics: Statistics) -> _Groups:
    parts, places, start = [], {}, 0
    for segment in layout.segments:
        codes = torch.from_numpy(statistics.axis(GROUPS + segment.column)[1])
        parts.append(nn.functional.one_hot(codes).float())
        places[GROUPS + segment.column] = slice(start, start + parts[-1].shape[1])
        start += parts[-1].shape[1]
    return _Groups(torch.block_diag(*parts), places)


def _members(stratum: str, statistics: Statistics, places: Mapping[str, slice], width: int) -> Tensor:
    """Which expanded cells say that a row is in a stratum, [width, stratum]; `""` has everyone."""
    if not stratum:
        return torch.empty(width, 1)
    column, codes = statistics.axis(stratum)
    members = torch.zeros(width, int(codes.max()) + 1)
    members[torch.arange(width)[places[column]], torch.from_numpy(codes)] = 1.0
    return members


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _with_sampling(marginal: Marginal, noise: np.ndarray, num_rows: float) -> np.ndarray:
    """Variance of counts by noise and by the sampling of rows, with a floor for cells that look empty."""
    return noise + project_to_simplex(marginal.counts, num_rows) + num_rows / (10 * marginal.counts.size)


def make_anchor(layout: Layout, statistics: Statistics, *, private: bool) -> Anchor | None:
    """A neural generator's anchor: with privacy, where joint histograms were bought over its one-hots."""
    onehot = all(segment.kind == "onehot" for segment in layout.segments)
    return Anchor(layout, statistics) if private and statistics.marginals and onehot else None


def fit_anchor(
    network: nn.Module,
    soft_rows: Callable[[int, torch.Generator], Tensor],
    anchor: Anchor,
    settings: AnchorSettings,
    draw: torch.Generator,
) -> float:
    """Trains a network on bought histograms alone; leaves the averaged weights; returns the last mean loss.

    Args:
      soft_rows: makes that many soft rows, with gradients to the network.
    """
    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / _WARMUP, 0.5 + 0.5 * np.cos(np.pi * step / max(settings.steps, 1))),
    )
    average, recent = copy.deepcopy(network.state_dict()), 0.0
    for step in range(settings.steps):
        loss = anchor.loss(soft_rows(settings.batch_size, draw))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        decay = min(settings.ema_decay, (step + 1) / (step + 10))
        recent += (1 - decay) * (float(loss.detach()) - recent)
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)
    network.load_state_dict(average)
    return recent


class Anchoring:
    """Anchoring steps beside private training; a released network thus keeps to what was bought. Free.

    Args:
      every: private steps per anchoring step.
    """

    def __init__(
        self,
        anchor: Anchor,
        network: nn.Module,
        soft_rows: Callable[[int, torch.Generator], Tensor],
        *,
        every: int,
        batch_size: int,
        learning_rate: float,
    ):
        self._anchor, self._soft_rows, self._every, self._batch_size = anchor, soft_rows, every, batch_size
        self._optimizer = torch.optim.Adam(
            network.parameters(), lr=learning_rate, betas=(0.9, 0.99), fused=True
        )

    def step(self, step: int, draw: torch.Generator) -> None:
        """Takes a step where one is due after private step `step`."""
        if (step + 1) % self._every:
            return
        loss = self._anchor.loss(self._soft_rows(self._batch_size, draw))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def state(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state)
