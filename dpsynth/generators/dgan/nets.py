"""Networks of DoppelGANger.

Source: Lin, Jain, Wang, Fanti & Sekar (2020), Using GANs for Sharing Networked Time Series Data, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dpsynth.data.sequences.layout import SequenceLayout
from dpsynth.generators.dgan.memory import Memory
from dpsynth.generators.dgan.tensors import activate, harden, relax, sharpen

_LONG = 2.0  # added to the logit of going on: sequences start out long


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A generated batch.

    Args:
      attributes, additional, features: activations; the last feature is P(length > step) if lengths vary.
      drawn: the attributes as drawn: relaxed one-hots, or the activations themselves.
      condition: the detached attributes that the features were conditioned on.
    """

    attributes: Tensor
    drawn: Tensor
    additional: Tensor
    features: Tensor
    condition: Tensor


class SequenceGenerator(nn.Module):
    """Attribute MLP, additional-attribute MLP and LSTM; may keep BatchNorm, since it sees no real unit.

    Args:
      draws: for codes of cells: features are conditioned on drawn one-hot attributes instead of soft ones,
        the first feature noise is given to every step, and the outputs get what `Memory` adds.
      ordered: number of codes in order, by feature; only where `draws`.
    """

    def __init__(
        self,
        layout: SequenceLayout,
        *,
        sample_len: int,
        attribute_noise_dim: int,
        feature_noise_dim: int,
        attribute_num_layers: int,
        attribute_num_units: int,
        feature_num_layers: int,
        feature_num_units: int,
        forget_bias: bool,
        draws: bool,
        ordered: Mapping[str, int] | None = None,
    ):
        super().__init__()
        if layout.max_length % sample_len:
            raise ValueError(f"Expected sample_len={sample_len} to divide max_length={layout.max_length}.")
        self.layout, self.sample_len, self.draws = layout, sample_len, draws
        self.noise_dims = (attribute_noise_dim, feature_noise_dim)
        a, d = layout.attribute_width, layout.additional_width
        shape = (attribute_num_layers, attribute_num_units)
        self.attribute_net = _batch_norm_mlp(attribute_noise_dim, *shape, a) if a else None
        self.additional_net = _batch_norm_mlp(attribute_noise_dim + a, *shape, d) if d else None
        inputs = a + d + feature_noise_dim * (2 if draws else 1)
        self.lstm = nn.LSTM(inputs, feature_num_units, feature_num_layers, batch_first=True)
        self.heads = nn.Linear(feature_num_units, sample_len * layout.feature_width)
        self.memory = None
        if draws:
            inputs = (feature_num_units, a, feature_noise_dim)
            self.memory = Memory(layout, ordered or {}, inputs, sample_len)
        if forget_bias:
            for name, bias in self.lstm.named_parameters():
                if name.startswith("bias_hh"):
                    with torch.no_grad():
                        bias[feature_num_units : 2 * feature_num_units] = 1.0

    @torch.no_grad()
    def start_at(self, attributes: Tensor, features: Tensor, lengths: Tensor | None = None) -> None:
        """Sets the biases of the outputs so that generation starts near given frequencies.

        Args:
          attributes, features: of their cells, flat.
          lengths: of lengths 1 … max; None where they do not vary.
        """
        if self.attribute_net is not None:
            self.attribute_net[-1].bias.copy_(attributes.log())
        bias = self.heads.bias.view(self.sample_len, self.layout.feature_width)
        bias[:, : len(features)] = features.log()
        self.memory.start_at(features)
        if lengths is not None:
            longer = lengths.flip(0).cumsum(0).flip(0).clamp(min=1e-6)  # P(length ≥ step)
            stays = (longer / torch.cat([longer.new_ones(1), longer[:-1]])).clamp(0.01, 0.999)
            for layer in (self.heads, self.memory.logits):  # all sequences alike at first
                layer.weight.view(self.sample_len, self.layout.feature_width, -1)[:, -1] = 0.0
            bias[:, -1] = 0.0
            self.memory.step_bias[:, -1] = stays.logit() - _LONG

    @property
    def num_cells(self) -> int:
        """LSTM steps per sequence: `max_length / sample_len`."""
        return self.layout.max_length // self.sample_len

    def noise(self, num: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws the two noise tensors, [n, attribute_noise_dim] and [n, cell, feature_noise_dim]."""
        device = self.heads.weight.device
        attribute, feature = self.noise_dims
        return (
            torch.randn(num, attribute, generator=draw, device=device),
            torch.randn(num, self.num_cells, feature, generator=draw, device=device),
        )

    def forward(self, attribute_noise: Tensor, feature_noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Generates (attributes [n, a], additional_attributes [n, d], features [n, step, f])."""
        draw = torch.Generator(device=attribute_noise.device).manual_seed(0)
        made = self.generate(attribute_noise, feature_noise, draw=draw)
        return made.attributes, made.additional, made.features

    def generate(
        self,
        attribute_noise: Tensor,
        feature_noise: Tensor,
        *,
        draw: torch.Generator,
        given: dict[str, Tensor] | None = None,
    ) -> Generated:
        """Generates a batch; `given` fixes expanded attributes by column name."""
        layout = self.layout
        attributes = attribute_noise.new_zeros((len(attribute_noise), 0))
        if self.attribute_net is not None:
            raw = self.attribute_net(attribute_noise)
            attributes = activate(layout.attributes, raw, layout.normalization)
        if given:
            attributes = attributes.clone()
            for segment in layout.attributes:
                if segment.column in given:
                    attributes[:, segment.start : segment.start + segment.size] = given[segment.column]
        drawn = relax(layout.attributes, attributes, draw) if self.draws else attributes
        condition = sharpen(layout.attributes, drawn) if self.draws else attributes.detach()
        additional = attribute_noise.new_zeros((len(attribute_noise), 0))
        if self.additional_net is not None:
            raw = self.additional_net(torch.cat([condition, attribute_noise], 1))
            additional = activate(layout.additional, raw, layout.normalization)
        inputs = [torch.cat([condition, additional.detach()], 1)[:, None, :], feature_noise]
        if self.draws:  # what sets an entity apart all along, beyond its attributes
            inputs.append(feature_noise[:, :1])
        hidden, _ = self.lstm(torch.cat([part.expand(-1, self.num_cells, -1) for part in inputs], 2))
        raw = self.heads(hidden).reshape(len(hidden), layout.max_length, layout.feature_width)
        if self.memory is not None:
            raw = raw + self.memory(hidden, condition, feature_noise)
        features = activate(layout.features, raw, layout.normalization)
        if layout.variable:
            stays = functional.logsigmoid(raw[:, :, -1] + _LONG)
            first = torch.arange(layout.max_length, device=raw.device) < layout.min_length
            survival = stays.masked_fill(first, 0.0).cumsum(1).exp()
            features = torch.cat([features[:, :, : layout.feature_width - 1], survival[:, :, None]], 2)
        return Generated(
            attributes=attributes, drawn=drawn, additional=additional, features=features, condition=condition
        )

    def judged(self, made: Generated, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """What critics see of a batch, in the form of expanded real units: (attributes, whole), flat.

        Steps past the end are zero in proportion to the probability that the sequence has ended; where
        `draws`, one-hots and ends are relaxed draws.
        """
        layout, features = self.layout, made.features
        steps = features
        if self.draws:
            steps = relax(layout.features, features, draw)
        if layout.variable:
            flag = features[:, :, -1:]
            if self.draws:
                level = torch.rand(len(flag), 1, 1, generator=draw, device=flag.device)
                gap = flag.clamp(1e-6, 1 - 1e-6).logit() - level.clamp(1e-6, 1 - 1e-6).logit()
                flag = (gap / 0.2).sigmoid()
            steps = torch.cat([steps[:, :, : layout.feature_width - 1] * flag, flag], 2)
        context = torch.cat([made.drawn, made.additional], 1)
        return context, torch.cat([context, steps.flatten(1)], 1)

    def pack(self, made: Generated, draw: torch.Generator) -> np.ndarray:
        """Packs a generated batch into units: argmax and 0.5 thresholds, or draws where `draws`."""
        layout, coin = self.layout, draw if self.draws else None
        features = harden(layout.features, made.features[:, :, : layout.feature_width], coin)
        num = len(features)
        lengths = np.full(num, layout.max_length)
        if layout.variable:
            survival = made.features[:, :, -1]
            level = torch.rand(num, 1, generator=draw, device=survival.device) if self.draws else 0.5
            lengths = (survival > level).sum(1).clamp_(min=layout.min_length).cpu().numpy()
        attributes = harden(layout.attributes, made.drawn, None)
        return layout.join(attributes, made.additional.cpu().numpy(), lengths, features)


def _batch_norm_mlp(inputs: int, num_layers: int, num_units: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(num_layers):
        layers += [nn.Linear(inputs, num_units), nn.ReLU(), nn.BatchNorm1d(num_units)]
        inputs = num_units
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
