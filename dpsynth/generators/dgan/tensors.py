"""Packed sequences as tensors and back: one-hots spread out, activations relaxed, drawn and packed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dpsynth.data.sequences.layout import MINUSONE_ONE, SequenceLayout, code_of_bits


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


def activate(segments, raw: Tensor, normalization: str) -> Tensor:
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


def harden(segments, soft: Tensor, draw: torch.Generator | None) -> np.ndarray:
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


def relax(segments, soft: Tensor, draw: torch.Generator, tau: float = 0.2) -> Tensor:
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


def sharpen(segments, soft: Tensor) -> Tensor:
    """Turns each one-hot into its argmax; other segments are kept. No gradient."""
    hard = soft.detach().clone()
    for segment in segments:
        if segment.kind == "onehot":
            part = hard[..., segment.start : segment.start + segment.size]
            part.copy_(functional.one_hot(part.argmax(-1), segment.size))
    return hard
