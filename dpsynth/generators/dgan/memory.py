"""What lasts along a generated sequence of codes, beside what the LSTM remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dpsynth.data.sequences.layout import SequenceLayout


class Memory(nn.Module):
    """Logits for codes of cells beside the LSTM's: biases per step, noise that lasts, and places on an axis.

    Noise that lasts is each sequence's first feature noise, and its feature noises smoothed along time with
    learnt decays (stationary, unit variance). Ordered codes get one location per feature and step: a code
    whose normal score is x has logit precision · (x · location − x² / 2), as if a draw from the bought
    histogram had been seen with Gaussian noise. What lasts is then a scalar, not a pattern over all codes.

    Args:
      ordered: number of codes in order, by feature; codes beyond (missing) have no place.
      inputs: widths of an LSTM output, of the attributes and of the feature noise.
    """

    def __init__(
        self,
        layout: SequenceLayout,
        ordered: Mapping[str, int],
        inputs: tuple[int, int, int],
        sample_len: int,
    ):
        super().__init__()
        hidden, attributes, noise = inputs
        segments = [(s, ordered[s.column]) for s in layout.features if ordered.get(s.column, 0) > 2]
        self.num, self.shape = len(segments), (layout.max_length, layout.feature_width)
        self.spans = [(s.start, s.start + count) for s, count in segments]
        self.register_buffer("places", torch.zeros(self.num, layout.feature_width))
        self.log_precision = nn.Parameter(torch.full((self.num, 1), math.log(4.0)))
        self.decay = nn.Parameter(torch.linspace(-1.0, 4.0, noise))  # logits
        self.step_bias = nn.Parameter(torch.zeros(*self.shape))
        self.step_location = nn.Parameter(torch.zeros(layout.max_length, self.num))
        self.by_attributes = nn.Parameter(torch.zeros(attributes, self.num))
        if self.num:
            self.by_hidden = nn.Linear(hidden, sample_len * self.num, bias=False)
            self.by_noise = nn.Linear(2 * noise, sample_len * self.num, bias=False)
            nn.init.normal_(self.by_noise.weight, std=(2 * noise) ** -0.5)
        self.logits = nn.Linear(2 * noise, sample_len * layout.feature_width, bias=False)

    @torch.no_grad()
    def start_at(self, shares: Tensor) -> None:
        """Sets the places of codes to their normal scores under frequencies."""
        for row, (start, end) in enumerate(self.spans):
            part = shares[start:end] / shares[start:end].sum()
            middle = (part.cumsum(0) - part / 2).clamp(1e-4, 1 - 1e-4)
            self.places[row, start:end] = torch.special.ndtri(middle.double()).float()

    def forward(self, hidden: Tensor, attributes: Tensor, noise: Tensor) -> Tensor:
        """Logits [n, step, feature width] to add."""
        num, (length, width) = len(hidden), self.shape
        lasting = torch.cat([noise[:, :1].expand_as(noise), self._smoothed(noise)], 2)
        logits = self.logits(lasting).reshape(num, length, width) + self.step_bias
        if not self.num:
            return logits
        location = (self.by_hidden(hidden) + self.by_noise(lasting)).reshape(num, length, self.num)
        location = location + (attributes @ self.by_attributes)[:, None, :] + self.step_location
        precision = self.log_precision.exp()
        pull = (precision * (precision + 1)).sqrt() * self.places  # unit locations give the bought spread
        return logits + location @ pull - (precision * self.places.square()).sum(0) / 2

    def _smoothed(self, noise: Tensor) -> Tensor:
        """First-order autoregressions with unit variance, [n, cell, noise]."""
        decay = self.decay.sigmoid()
        steps = torch.arange(noise.shape[1], device=noise.device)
        apart = steps[:, None] - steps[None, :]
        kernel = decay[:, None, None] ** apart.clamp(min=0) * (apart >= 0)
        scale = torch.where(steps == 0, torch.ones_like(decay)[:, None], (1 - decay**2).sqrt()[:, None])
        return torch.einsum("nsk,kts->ntk", noise, kernel * scale[:, None, :])
