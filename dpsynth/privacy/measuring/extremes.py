"""Tries every purchase on made-up extreme units before it is charged: is one unit worth what the plan says?

What `validation.py` does for gradients, for histograms and scores. It reads public facts alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.errors import GuaranteeVoid

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.units.encoder import Encoder
    from dpsynth.data.units.units import Units

_ROUNDING = 1.0 + 1e-9  # float64 square roots


def check_counts(
    units: Units,
    count: Callable[[pd.DataFrame], np.ndarray],
    bound: float,
    name: str,
) -> None:
    """Demands that counts of made-up units add up, and that none of them is worth more than is paid for.

    Args:
      count: integers, of all histograms of one purchase.
      bound: L2, in the units of what `count` answers.
    Raises:
      GuaranteeVoid: the counts would follow one unit by more, or are not sums over units.
    """
    example = units.example()
    whole, total = np.asarray(count(example)), 0
    for one in units.blocks(example, 1):
        own = np.asarray(count(one))
        if own.shape != whole.shape:
            raise GuaranteeVoid(f"The length of {name!r} follows the units that are counted.")
        if (own < 0).any() or np.linalg.norm(own.astype(np.float64)) > bound * _ROUNDING:
            raise GuaranteeVoid(f"One unit changes {name!r} by more than the plan pays for.")
        total = total + own
    if not np.array_equal(whole, total):
        raise GuaranteeVoid(f"Units do not enter {name!r} one by one.")


def check_scores(units: Units, score: Callable[[pd.DataFrame], np.ndarray], bound: float, name: str) -> None:
    """Demands that no made-up unit moves a score by more than is paid for.

    Args:
      score: of each proposal; with two axes, of each leaf and each proposal for it: then what a unit moves in
        all leaves together is what is paid for.
    """
    example = units.example()
    whole = score(example)
    for number in range(units.num(example)):
        moved = np.abs(whole - score(units.without(example, number)))
        if moved.ndim == 2:
            moved = moved.max(1, initial=0.0).sum()
        if (moved > bound * _ROUNDING).any():
            raise GuaranteeVoid(f"One unit moves a score of {name!r} by more than the plan pays for.")


def check_questions(encoder: Encoder, questions: Iterable[Any]) -> None:
    """Demands of each question that made-up units change its answer by at most their mass (L1)."""
    units, questions = encoder.units, tuple(questions)
    example = units.example()
    bound = units.mass * units.resolution
    packed = encoder.encode(example)
    singles = [encoder.encode(one) for one in units.blocks(example, 1)]
    for question in questions:
        whole, parts = encoder.count(question, packed), [encoder.count(question, one) for one in singles]
        if any((part < 0).any() or part.sum() > bound for part in parts):
            raise GuaranteeVoid(f"One unit changes the answer to {question} by more than its mass.")
        if not np.array_equal(whole, sum(parts)):
            raise GuaranteeVoid(f"Units do not enter the answer to {question} one by one.")
