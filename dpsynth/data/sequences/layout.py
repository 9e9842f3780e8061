"""Arithmetic of sequence encodings: scales, binary codes, and where each column lies in a packed unit.

Everything here is a map of one sequence and of public constants. Nothing is fitted.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from dpsynth.data.rows.encoder import Segment

ZERO_ONE = "ZERO_ONE"
MINUSONE_ONE = "MINUSONE_ONE"
NORMALIZATIONS = (ZERO_ONE, MINUSONE_ONE)


def normalize(values: np.ndarray, low: float, high: float, normalization: str) -> np.ndarray:
    """Maps [low, high] onto [0, 1] or [-1, 1]; a range without width maps to its middle."""
    if not high > low:
        return np.full_like(values, 0.5 if normalization == ZERO_ONE else 0.0, dtype=np.float64)
    unit = (values - low) / (high - low)
    return unit if normalization == ZERO_ONE else 2.0 * unit - 1.0


def denormalize(values: np.ndarray, low: float, high: float, normalization: str) -> np.ndarray:
    """Inverts `normalize`: x·(max − min) + min, or (x + 1)/2·(max − min) + min."""
    unit = values if normalization == ZERO_ONE else (values + 1.0) / 2.0
    return unit * (high - low) + low


@dataclass(frozen=True, kw_only=True)
class ExampleScaled:
    """One continuous feature of many sequences, each scaled by its own midpoint and half-range.

    Args:
      values: [sequence, step] in the normalised range; the middle where nothing was observed.
      midpoint: [sequence] in the normalised range of the global scale.
      half_range: [sequence] in the normalised range; a constant sequence has the range's low end.
    """

    values: np.ndarray
    midpoint: np.ndarray
    half_range: np.ndarray


def scale_examples(values: np.ndarray, observed: np.ndarray, normalization: str) -> ExampleScaled:
    """Scales each row of `values` (globally on [0, 1]) by its own observed extremes.

    Edge cases: a constant row keeps its midpoint and has half-range 0; a row with nothing observed has
    midpoint 0.5 and half-range 0; steps that are padding or missing enter no scale.
    """
    low = np.where(observed, values, np.inf).min(axis=1)
    high = np.where(observed, values, -np.inf).max(axis=1)
    empty = ~observed.any(axis=1)
    low, high = np.where(empty, 0.5, low), np.where(empty, 0.5, high)
    width = high - low
    safe = np.where(width > 0, width, 1.0)
    unit = np.where(width[:, None] > 0, (values - low[:, None]) / safe[:, None], 0.5)
    unit = np.where(observed, unit, 0.5)
    middle = (low + high) / 2.0
    if normalization == MINUSONE_ONE:
        return ExampleScaled(values=2 * unit - 1, midpoint=2 * middle - 1, half_range=2 * width - 1)
    return ExampleScaled(values=unit, midpoint=middle, half_range=width)


def unscale_examples(scaled: ExampleScaled, normalization: str) -> np.ndarray:
    """Inverts `scale_examples` with per-sequence min = m − h and max = m + h; the result is on [0, 1]."""
    values, middle, width = scaled.values, scaled.midpoint, scaled.half_range
    if normalization == MINUSONE_ONE:
        values, middle, width = (values + 1) / 2, (middle + 1) / 2, (width + 1) / 2
    low, high = middle - width / 2, middle + width / 2
    return values * (high - low)[:, None] + low[:, None]


def num_bits(num_values: int) -> int:
    """Digits of a binary code for `num_values` values."""
    return max(1, math.ceil(math.log2(num_values)))


def code_of_bits(bits: np.ndarray, num_values: int) -> np.ndarray:
    """Reads codes from the last axis with a 0.5 threshold, most significant digit first.

    Edge cases: a code that names no value loses its leading digit and then does name one, so that
    nothing that was observed is needed to repair it.
    """
    digits = (np.asarray(bits) > 0.5).astype(np.int64)
    weights = 1 << np.arange(digits.shape[-1] - 1, -1, -1, dtype=np.int64)
    codes = digits @ weights
    return np.where(codes < num_values, codes, codes - weights[0])


@dataclass(frozen=True, kw_only=True)
class SequenceLayout:
    """Where each column lies in a packed sequence and in its expanded form.

    A packed unit is one flat vector: a slot per attribute segment, a slot per additional attribute, the
    length (when lengths vary), then `max_length` times a slot per feature segment. A one-hot or binary
    slot holds its code, a scalar slot its value. Steps past the length hold zeros.

    Args:
      max_length, min_length: steps, public; where they differ the length is generated.
      normalization: ZERO_ONE or MINUSONE_ONE, the range of scalar slots.
      attributes, additional, features: segments; `start` counts within their own group. A binary
        segment has kind `bits`.
    """

    max_length: int
    min_length: int
    normalization: str
    attributes: tuple[Segment, ...]
    additional: tuple[Segment, ...]
    features: tuple[Segment, ...]

    def __post_init__(self):
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"Expected normalization={self.normalization!r} in {NORMALIZATIONS}.")

    @property
    def variable(self) -> bool:
        """Whether the length is generated: a generation flag per step in the expanded form."""
        return self.min_length < self.max_length

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments, in packed order, features once."""
        return self.attributes + self.additional + self.features

    @property
    def attribute_width(self) -> int:
        return sum(s.size for s in self.attributes)

    @property
    def additional_width(self) -> int:
        return sum(s.size for s in self.additional)

    @property
    def feature_width(self) -> int:
        """Expanded width of one step, with its generation flag if lengths vary."""
        return sum(s.size for s in self.features) + int(self.variable)

    @property
    def width(self) -> int:
        """Expanded width of a whole unit."""
        return self.attribute_width + self.additional_width + self.max_length * self.feature_width

    @property
    def packed_width(self) -> int:
        head = len(self.attributes) + len(self.additional) + int(self.variable)
        return head + self.max_length * len(self.features)

    def split(self, units):
        """Cuts packed units [n, packed] (NumPy or Torch) into (attributes, additional, lengths, features).

        `lengths` is [n] (full length where lengths do not vary), features are [n, step, slot].
        """
        a = len(self.attributes)
        d = a + len(self.additional)
        attributes, additional = units[:, :a], units[:, a:d]
        if self.variable:
            lengths, rest = units[:, d], units[:, d + 1 :]
        else:
            lengths, rest = units[:, :1].sum(1) * 0 + self.max_length, units[:, d:]
        return attributes, additional, lengths, rest.reshape(len(units), self.max_length, len(self.features))

    def join(self, attributes, additional, lengths, features) -> np.ndarray:
        """Packs NumPy parts into float32 units; the inverse of `split`. Steps past the length become 0."""
        features = np.where(np.arange(self.max_length)[None, :, None] < lengths[:, None, None], features, 0.0)
        parts = [attributes, additional]
        if self.variable:
            parts.append(lengths[:, None])
        parts.append(features.reshape(len(features), self.max_length * len(self.features)))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict) -> SequenceLayout:
        groups = {
            key: tuple(Segment(**segment) for segment in raw[key])
            for key in ("attributes", "additional", "features")
        }
        return cls(**{**raw, **groups})
