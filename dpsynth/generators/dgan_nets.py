"""Networks of DoppelGANger and the map between packed units and tensors.

Source: Lin, Jain, Wang, Fanti & Sekar (2020), Using GANs for Sharing Networked Time Series Data, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dpsynth.data.sequence_encoding import MINUSONE_ONE, SequenceLayout, code_of_bits


def expand(layout: SequenceLayout, units: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Expands packed units [n, packed] to attributes [n, a], additional [n, d] and features [n, step, f].

    One-hot and binary codes are spread out; the last feature is the generation flag if lengths vary.
    Steps past the length are zero in all features.
    """
    attributes, additional, lengths, features = layout.split(units)
    wide = _spread(layout.attributes, attributes, layout.attribute_width)
    steps = _spread(layout.features, features, layout.feature_width)
    if layout.variable:
        present = (torch.arange(layout.max_length, device=units.device) < lengths[:, None]).to(steps.dtype)
        steps = steps * present[:, :, None]
        steps[:, :, -1] = present
    return wide, additional, steps


def _spread(segments, packed: Tensor, width: int) -> Tensor:
    wide = packed.new_zeros((*packed.shape[:-1], width))
    hot = [i for i, s in enumerate(segments) if s.kind == "onehot"]
    if hot:
        starts = torch.tensor([segments[i].start for i in hot], device=packed.device)
        wide.scatter_(-1, packed[..., hot].long() + starts, 1.0)
    for i, segment in enumerate(segments):
        if segment.kind == "scalar":
            wide[..., segment.start] = packed[..., i]
        elif segment.kind == "bits":
            place = torch.arange(segment.size - 1, -1, -1, device=packed.device)
            digits = (packed[..., i : i + 1].long() >> place) & 1
            wide[..., segment.start : segment.start + segment.size] = digits.to(wide.dtype)
    return wide


def expand_attributes(
    layout: SequenceLayout, slots: dict[str, np.ndarray], like: Tensor
) -> dict[str, Tensor]:
    """Expands packed slots of some attributes to what `generate` takes as `given`, by segment."""
    given = {}
    for name, columns in slots.items():
        segments = [s for s in layout.attributes if s.column in (name, f"{name}@missing")]
        for segment, column in zip(segments, columns.T):
            packed = torch.as_tensor(column[:, None], dtype=like.dtype, device=like.device)
            given[segment.column] = _spread([replace(segment, start=0)], packed, segment.size)
    return given


def _activate(segments, raw: Tensor, normalization: str) -> Tensor:
    """Softmax over each one-hot, sigmoid on binary digits, sigmoid or tanh on scalars."""
    parts = []
    for segment in segments:
        part = raw[..., segment.start : segment.start + segment.size]
        if segment.kind == "onehot":
            parts.append(part.softmax(-1))
        elif segment.kind == "scalar" and normalization == MINUSONE_ONE:
            parts.append(part.tanh())
        else:
            parts.append(part.sigmoid())
    return torch.cat(parts, -1) if parts else raw


def _harden(segments, soft: Tensor, draw: torch.Generator | None) -> np.ndarray:
    """Packs activations: the argmax (or a draw) of each one-hot, codes of digits, scalars as they are."""
    packed = np.empty((*soft.shape[:-1], len(segments)), dtype=np.float32)
    for i, segment in enumerate(segments):
        part = soft[..., segment.start : segment.start + segment.size]
        if segment.kind == "scalar":
            packed[..., i] = part[..., 0].cpu().numpy()
        elif segment.kind == "bits":
            packed[..., i] = code_of_bits(part.cpu().numpy(), 2**segment.size)
        else:
            packed[..., i] = _pick(part, draw).cpu().numpy()
    return packed


def _pick(probabilities: Tensor, draw: torch.Generator | None) -> Tensor:
    if draw is None:
        return probabilities.argmax(-1)
    place = torch.rand(probabilities.shape[:-1], generator=draw, device=probabilities.device)
    above = probabilities.cumsum(-1) < place[..., None]
    return above.sum(-1).clamp_(max=probabilities.shape[-1] - 1)


def _relax(segments, soft: Tensor, draw: torch.Generator, tau: float = 0.2) -> Tensor:
    """Draws from each one-hot by the Gumbel-softmax; other segments are kept."""
    parts = []
    for segment in segments:
        part = soft[..., segment.start : segment.start + segment.size]
        if segment.kind == "onehot":
            noise = (
                torch.empty(part.shape, device=part.device)
                .exponential_(generator=draw)
                .clamp_(min=1e-20)
                .log()
            )
            part = ((part.clamp(min=1e-12).log() - noise) / tau).softmax(-1)
        parts.append(part)
    return torch.cat(parts, -1) if parts else soft


def _sharpen(segments, soft: Tensor) -> Tensor:
    """Turns each one-hot into its argmax; other segments are kept. No gradient."""
    hard = soft.detach().clone()
    for segment in segments:
        if segment.kind == "onehot":
            part = hard[..., segment.start : segment.start + segment.size]
            part.copy_(functional.one_hot(part.argmax(-1), segment.size))
    return hard


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
        and the first feature noise is given to every step.
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
        if forget_bias:
            for name, bias in self.lstm.named_parameters():
                if name.startswith("bias_hh"):
                    with torch.no_grad():
                        bias[feature_num_units : 2 * feature_num_units] = 1.0

    @torch.no_grad()
    def start_at(self, attributes: Tensor, features: Tensor) -> None:
        """Sets the biases of the outputs so that generation starts near the given frequencies of cells."""
        if self.attribute_net is not None:
            self.attribute_net[-1].bias.copy_(attributes.log())
        bias = self.heads.bias.view(self.sample_len, self.layout.feature_width)
        bias[:, : len(features)] = features.log()

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
            attributes = _activate(layout.attributes, raw, layout.normalization)
        if given:
            attributes = attributes.clone()
            for segment in layout.attributes:
                if segment.column in given:
                    attributes[:, segment.start : segment.start + segment.size] = given[segment.column]
        drawn = _relax(layout.attributes, attributes, draw) if self.draws else attributes
        condition = _sharpen(layout.attributes, drawn) if self.draws else attributes.detach()
        additional = attribute_noise.new_zeros((len(attribute_noise), 0))
        if self.additional_net is not None:
            raw = self.additional_net(torch.cat([condition, attribute_noise], 1))
            additional = _activate(layout.additional, raw, layout.normalization)
        inputs = [torch.cat([condition, additional.detach()], 1)[:, None, :], feature_noise]
        if self.draws:  # what sets an entity apart all along, beyond its attributes
            inputs.append(feature_noise[:, :1])
        hidden, _ = self.lstm(torch.cat([part.expand(-1, self.num_cells, -1) for part in inputs], 2))
        raw = self.heads(hidden).reshape(len(hidden), layout.max_length, layout.feature_width)
        features = _activate(layout.features, raw, layout.normalization)
        if layout.variable:
            stays = functional.logsigmoid(raw[:, :, -1] + 2.0)  # sequences start out long
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
            steps = _relax(layout.features, features, draw)
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
        features = _harden(layout.features, made.features[:, :, : layout.feature_width], coin)
        num = len(features)
        lengths = np.full(num, layout.max_length)
        if layout.variable:
            survival = made.features[:, :, -1]
            level = torch.rand(num, 1, generator=draw, device=survival.device) if self.draws else 0.5
            lengths = (survival > level).sum(1).clamp_(min=layout.min_length).cpu().numpy()
        attributes = _harden(layout.attributes, made.drawn, None)
        return layout.join(attributes, made.additional.cpu().numpy(), lengths, features)


class Critic(nn.Module):
    """ReLU MLP with one output and no BatchNorm: each unit is judged alone."""

    def __init__(self, inputs: int, num_layers: int = 5, num_units: int = 200):
        super().__init__()
        widths = [inputs] + [num_units] * num_layers
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths, widths[1:]))
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.last(x)[:, 0]

    def penalty(self, x: Tensor) -> Tensor:
        """Mean over examples of (‖∂D/∂x‖ − 1)², one norm per example, in closed form.

        D is piecewise linear, so its input gradient is a product of weights and constant masks: one
        backward pass through that product is the double backward pass of autograd, at less cost.
        """
        masks = []
        with torch.no_grad():
            for layer in self.layers:
                x = torch.relu(layer(x))
                masks.append(x > 0)
        slope = self.last.weight.expand(len(x), -1)
        for layer, mask in zip(reversed(self.layers), reversed(masks)):
            slope = (slope * mask) @ layer.weight
        return ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()


def _batch_norm_mlp(inputs: int, num_layers: int, num_units: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(num_layers):
        layers += [nn.Linear(inputs, num_units), nn.ReLU(), nn.BatchNorm1d(num_units)]
        inputs = num_units
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
