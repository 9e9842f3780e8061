"""Ways to keep a critic's slope bounded by a projection after each step, in place of a gradient penalty.

Both read the critic's weights alone, so under privacy they are post-processing.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

_WARM_UP = 20  # power iterations before the first projection
_PER_STEP = 2  # afterwards; weights move little between steps, so the vectors stay good


class LipschitzProjection:
    """Projects the Linear layers of a critic after each step.

    `spectral` divides a weight by its largest singular value over `bound` where that exceeds 1; that bounds
    the critic's slope by bound ** layers. The singular value is followed by power iteration from a fixed
    start: a lower estimate, exact in the limit.
    `clip` clamps every weight and bias to [-bound, bound].

    Source: Miyato et al. (2018), Spectral normalization (as a projection, not as a layer); Arjovsky et al.
    (2017), Wasserstein GAN, algorithm 1.
    """

    def __init__(self, critic: nn.Module, kind: Literal["spectral", "clip"], bound: float):
        if bound <= 0.0:
            raise ValueError(f"Expected bound={bound} above 0.")
        self._critic, self._kind, self._bound = critic, kind, bound
        self._layers = [module for module in critic.modules() if type(module) is nn.Linear]
        self._vectors: list[Tensor] | None = None

    @torch.no_grad()
    def __call__(self) -> None:
        """Projects the current weights, in place."""
        if self._kind == "clip":
            for parameter in self._critic.parameters():
                parameter.clamp_(-self._bound, self._bound)
            return
        iterations = _PER_STEP
        if self._vectors is None:
            draw = torch.Generator().manual_seed(0)
            starts = [torch.randn(layer.in_features, generator=draw) for layer in self._layers]
            self._vectors = [start.to(layer.weight) for start, layer in zip(starts, self._layers)]
            iterations = _WARM_UP
        for place, layer in enumerate(self._layers):
            weight, right = layer.weight, self._vectors[place]
            for _ in range(iterations):
                left = nn.functional.normalize(weight @ right, dim=0)
                right = nn.functional.normalize(weight.t() @ left, dim=0)
            self._vectors[place] = right
            weight.div_((torch.linalg.vector_norm(weight @ right) / self._bound).clamp(min=1.0))
