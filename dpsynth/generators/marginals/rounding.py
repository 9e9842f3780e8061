"""Weights of rows to whole numbers of rows, whose histograms stay close to those of the weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ROUNDS = 150
_LOOKED_AT = 3_000  # rows per round, at random
_MOST = 256  # pairs of rows that change places in one round
_SURE = 0.02  # parts of a row below it, or above one less it, are settled as they stand


def round_weights(weights: Tensor, marks: Tensor, num: int, random: np.random.Generator) -> np.ndarray:
    """How often each row is taken: `num` times its weight, rounded down or up; int64 [row], sums to `num`.

    Drawn at evenly spaced heights first. Then rows that were rounded up and rows that were rounded down
    change places where that brings the histograms closer to those of the weights: chance alone would
    move each count by about its square root.

    Args:
      weights: sum to one, [row].
      marks: cell of each row in each histogram, counted through, [histogram, row].
    Source: balanced sampling (Deville & Tille, 2004, Efficient balanced sampling: the cube method);
      deviation: balanced by exchange, as far as that goes.
    """
    wanted = weights.double() * num
    base = wanted.floor()
    parts = (wanted - base).numpy()
    up = _evenly(parts, num - int(base.sum()), random)
    size = int(marks.max()) + 1
    expected = _count(marks, wanted, size)
    precision = 1.0 / (expected + 1.0)
    residual = expected - _count(marks, base + torch.from_numpy(up), size)
    loose = np.flatnonzero((parts > _SURE) & (parts < 1 - _SURE))
    pairs = _MOST
    for _ in range(_ROUNDS if len(loose) > 1 else 0):
        some = random.choice(loose, min(_LOOKED_AT, len(loose)), replace=False)
        cells = marks[:, torch.from_numpy(some)]
        own = precision[cells].sum(0)
        gain = 2 * (residual * precision)[cells].sum(0)
        rising = torch.where(torch.from_numpy(up[some]), -torch.inf, gain - own)
        falling = torch.where(torch.from_numpy(up[some]), -gain - own, -torch.inf)
        taken = min(pairs, int(up[some].sum()), int((~up[some]).sum()))
        if taken == 0:
            continue
        (first, rise), (second, fall) = rising.topk(taken), falling.topk(taken)
        better = first + second > 0
        rise, fall = rise[better], fall[better]
        change = _count(cells[:, rise], torch.ones(len(rise)), size)
        change -= _count(cells[:, fall], torch.ones(len(fall)), size)
        if float((change * (2 * residual - change) * precision).sum()) > 0:
            residual -= change
            up[some[rise.numpy()]], up[some[fall.numpy()]] = True, False
        else:
            pairs = max(pairs // 2, 1)
    return (base.long().numpy() + up).astype(np.int64)


def _evenly(parts: np.ndarray, num: int, random: np.random.Generator) -> np.ndarray:
    """Marks exactly `num` rows, each with a chance of its part, at evenly spaced heights in random order."""
    order, up = random.permutation(len(parts)), np.zeros(len(parts), dtype=bool)
    ladder = parts[order].cumsum()
    heights = (np.arange(num) + random.random()) * (ladder[-1] / max(num, 1))
    up[order[np.searchsorted(ladder, heights, side="right").clip(0, len(parts) - 1)]] = True
    missed = num - int(up.sum())  # where rounding put two heights on one row
    up[np.argsort(np.where(up, -1.0, parts))[::-1][:missed]] = True
    return up


def _count(marks: Tensor, rows: Tensor, size: int) -> Tensor:
    counts = torch.zeros(size, dtype=torch.float64)
    for row in marks:
        counts.index_add_(0, row, rows.double())
    return counts
