"""A generator's network seen as a mixture: what it gives away about a row besides the rows it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsynth.generators.parts.nn import Segments


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentModel:
    """How rows are made: inputs are drawn, a network turns each into logits, columns are drawn one by one.

    Formal guarantee: a function of the released weights and of public settings.

    Args:
      segments: of the rows.
      draw: (num, source of chance) -> inputs [num, wide]: noise, and whatever stands beside it.
      logits: inputs -> [num, width], differentiable; the network in the mode in which it is sampled.
      num_noise: leading inputs that are standard normal; the others were chosen from a list.
      stddev: [scalar] around the tanh of the scalars' logits; None adds no noise.
    """

    segments: Segments
    draw: Callable[[int, torch.Generator], Tensor]
    logits: Callable[[Tensor], Tensor]
    num_noise: int
    stddev: Tensor | None = None
