"""Histogram questions on packed sequences that can be bought: every entity weighs 1, however long it is.

A question is a 1-way or 2-way histogram over codes: of the length, of attributes, of a feature at each step,
of a feature and itself `lag` steps later, of two features at one step, of an attribute and a feature.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dpsynth.data.schema import Schema
from dpsynth.data.sequences.layout import SequenceLayout
from dpsynth.data.sequences.names import attribute_names, feature_names
from dpsynth.data.units.units import RESOLUTION

LENGTH = "@length"
STEP = "@step"


@dataclass(frozen=True, kw_only=True)
class SequenceQuestion:
    """One histogram over two axes.

    Formal guarantee: an entity's contribution is a non-negative integer array of sum at most `RESOLUTION`,
    so adding or removing one entity changes the answer by at most `RESOLUTION` in L1, hence in L2; a list
    of M questions has L2 sensitivity at most sqrt(M)·`RESOLUTION`.
    Edge cases: an entity with at most `lag` rows contributes nothing to that lag.

    Args:
      row: an attribute, a feature, `@length` or `@step` (the place in the sequence).
      column: likewise; a feature is read `lag` steps after the row's.
      lag: steps between the two.
    """

    row: str
    column: str
    lag: int = 0

    @property
    def columns(self) -> tuple[str, str]:
        """Names of the two axes, for a `Marginal`."""
        return self.row, f"{self.column}@+{self.lag}" if self.lag else self.column

    @classmethod
    def of_columns(cls, columns: Many[str]) -> SequenceQuestion:
        """Inverts `columns`."""
        row, column = columns
        name, mark, lag = column.rpartition("@+")
        return cls(row=row, column=name, lag=int(lag)) if mark else cls(row=row, column=column)


def axis_sizes(layout: SequenceLayout) -> dict[str, int]:
    """Number of codes of everything that a question can be about."""
    sizes = {s.column: s.size for s in (*layout.attributes, *layout.features) if s.kind == "onehot"}
    return sizes | {LENGTH: layout.max_length, STEP: layout.max_length}


def shape(question: SequenceQuestion, layout: SequenceLayout) -> tuple[int, int]:
    """Rows and columns of the answer, public."""
    sizes = axis_sizes(layout)
    return sizes[question.row], sizes[question.column]


def default_questions(
    schema: Schema,
    *,
    lags: Many[int] = (1, 2, 4),
    feature_pairs: bool = True,
    attribute_features: bool = True,
) -> tuple[SequenceQuestion, ...]:
    """The questions worth buying for a schema of sequences; public, since the schema is.

    Lags that no sequence can have are left out.
    """
    attributes, features = attribute_names(schema), feature_names(schema)
    sequence = schema.sequence
    asked = [SequenceQuestion(row=a, column=b) for a, b in combinations(attributes, 2)]
    if sequence.min_length < sequence.max_length:
        asked += [SequenceQuestion(row=a, column=LENGTH) for a in (LENGTH, *attributes)]
    elif len(attributes) == 1:
        asked.append(SequenceQuestion(row=attributes[0], column=attributes[0]))
    asked += [SequenceQuestion(row=STEP, column=f) for f in features]
    possible = [lag for lag in lags if lag < sequence.max_length]
    asked += [SequenceQuestion(row=f, column=f, lag=lag) for lag in possible for f in features]
    if feature_pairs:
        asked += [SequenceQuestion(row=a, column=b) for a, b in combinations(features, 2)]
    if attribute_features:
        asked += [SequenceQuestion(row=a, column=f) for a in attributes for f in features]
    return tuple(asked)


def answer(question: SequenceQuestion, layout: SequenceLayout, units: np.ndarray) -> np.ndarray:
    """Counts the exact answer, int64 in units of 1/`RESOLUTION` entities; private until noise is added."""
    rows, columns = shape(question, layout)
    if len(units) == 0:
        return np.zeros((rows, columns), dtype=np.int64)
    read = _reader(layout, np.asarray(units))
    lengths = read[LENGTH][:, 0].astype(np.int64) + 1
    left, right, lag = read[question.row], read[question.column], question.lag
    steps = max(left.shape[1], right.shape[1])
    if steps == 1:
        weights = np.full((len(units), 1), RESOLUTION, dtype=np.int64)
    else:
        left, right = np.broadcast_to(left, (len(units), steps)), np.broadcast_to(right, (len(units), steps))
        left, right = left[:, : steps - lag], right[:, lag:]
        pairs = lengths - lag
        share = RESOLUTION // np.maximum(pairs, 1)
        weights = np.where(np.arange(steps - lag) < pairs[:, None], share[:, None], 0)
    flat = left.astype(np.int64) * columns + right.astype(np.int64)
    # float64 sums of integers are exact below 2^53: 2^33 entities
    total = np.bincount(flat.ravel(), weights=weights.ravel(), minlength=rows * columns)
    return total.astype(np.int64).reshape(rows, columns)


def _reader(layout: SequenceLayout, units: np.ndarray) -> dict[str, np.ndarray]:
    """Codes by name: attributes and length [unit, 1], features and step [unit, step]."""
    attributes, _, lengths, features = layout.split(units)
    codes = {s.column: attributes[:, [i]] for i, s in enumerate(layout.attributes)}
    codes |= {s.column: features[:, :, i] for i, s in enumerate(layout.features)}
    codes[LENGTH] = np.asarray(lengths)[:, None] - 1
    codes[STEP] = np.broadcast_to(np.arange(layout.max_length), (len(units), layout.max_length))
    return codes
