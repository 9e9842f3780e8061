"""Attacks on the released weights: how well the network itself explains a target, beyond the rows it made.

A released network is a mixture: a latent is drawn, and each column from its own probabilities given that. An
overfitted one has latents that reproduce a training row almost surely, and rows drawn from it rarely show
them: the attacker who holds the weights can look for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dpsynth.generators.parts.latent import LatentModel
    from dpsynth.privacy.release.release import Release

NUM_LATENTS = 5_000  # drawn for the likelihood; the best of them starts the search
SEARCH_STEPS = 10
_BLOCK = 1_000  # latents, or rows, that pass through the network at once
_RATE = 0.1
_SPREAD = 0.1  # of scalars that the network draws without noise: about half a mode's width
_LEAST = 1e-12  # probability of a cell: a target with an unseen cell is unlikely, not impossible


@dataclass(frozen=True, kw_only=True, eq=False)
class ReleasedModel:
    """The generator of a release in the attacker's hands.

    Args:
      encode: table -> packed rows, float32 [row, packed].
      latent: how its network makes rows.
    """

    encode: Callable[[pd.DataFrame], np.ndarray]
    latent: LatentModel

    @classmethod
    def of(cls, release: Release) -> ReleasedModel | None:
        """Rebuilds it from the released weights; None where no network makes rows, or units are entities."""
        from dpsynth import pipeline
        from dpsynth.data.units.units import units_of

        if not units_of(release.schema).by_row:
            return None
        generator = pipeline.rebuild(release)
        if not hasattr(generator, "latent_model"):
            return None
        return cls(encode=generator.encoder.encode, latent=generator.latent_model())

    def look(self, table: pd.DataFrame, seed: int = 0) -> tuple[np.ndarray, Tensor, Tensor]:
        """Returns each row's log-likelihood, its packed form, and the input that explains it best by chance.

        log mean_k prod_column P_k[cell] over latents drawn as when sampling, in log space and in blocks.
        Scalars count by the density of their noise.
        """
        import torch

        rows = torch.from_numpy(self.encode(table))
        draw = torch.Generator().manual_seed(seed)
        total = torch.full((len(rows),), -torch.inf, dtype=torch.float64)
        best, found = torch.full((len(rows),), -torch.inf), None
        with torch.no_grad():
            for _ in range(NUM_LATENTS // _BLOCK):
                inputs = self.latent.draw(_BLOCK, draw)
                explained = self._explained(rows, self.latent.logits(inputs))
                total = torch.logaddexp(total, torch.logsumexp(explained.double(), dim=1))
                value, place = explained.max(dim=1)
                found = inputs[place] if found is None else found
                found[value > best] = inputs[place][value > best]
                best = torch.maximum(best, value)
        return (total - np.log(NUM_LATENTS)).numpy(), rows, found

    def _explained(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Log-probability of every row given every latent, [row, latent]."""
        import torch

        segments = self.latent.segments
        logs = segments.probabilities(logits).clamp_(min=_LEAST).log_().T.contiguous()
        value = torch.nn.functional.embedding_bag(segments.targets(rows), logs, mode="sum")
        if not segments.has_scalars:
            return value
        made, mine = logits[:, segments.scalars].tanh(), rows[:, segments.packed_scalars].nan_to_num()
        stddev = self._stddev(made)
        return value - 0.5 * torch.cdist(mine / stddev, made / stddev) ** 2

    def _stddev(self, like: Tensor) -> Tensor:
        return like.new_full((like.shape[1],), _SPREAD) if self.latent.stddev is None else self.latent.stddev

    def invert(self, rows: Tensor, inputs: Tensor) -> np.ndarray:
        """Returns the log-probability of each row given the likeliest latent that the search finds for it.

        Gradient ascent on log P(row | latent) + log P(latent); conditions beside the noise stay.
        """
        import torch

        segments, width = self.latent.segments, self.latent.num_noise
        values = []
        for start in range(0, len(rows), _BLOCK):
            mine, rest = rows[start : start + _BLOCK], inputs[start : start + _BLOCK, width:]
            noise = inputs[start : start + _BLOCK, :width].clone().requires_grad_()
            cells, speed, scale = segments.targets(mine), torch.zeros_like(noise), torch.zeros_like(noise)
            for step in range(SEARCH_STEPS + 1):
                logits = self.latent.logits(torch.cat([noise, rest], dim=1))
                value = -segments.cross_entropy(logits, cells).sum(dim=1)
                if segments.has_scalars:
                    made = logits[:, segments.scalars].tanh()
                    error = (mine[:, segments.packed_scalars].nan_to_num() - made) / self._stddev(made)
                    value = value - 0.5 * (error**2).sum(dim=1)
                if step == SEARCH_STEPS:
                    break
                (slope,) = torch.autograd.grad(value.sum() - 0.5 * (noise**2).sum(), noise)
                # Adam, by hand: the library's imports a compiler, which takes longer than the search.
                speed, scale = speed.lerp(slope, 0.1), scale.lerp(slope**2, 0.001)
                heading = (speed / (1 - 0.9 ** (step + 1))) / (scale / (1 - 0.999 ** (step + 1))).sqrt()
                noise.data.add_(heading.nan_to_num(), alpha=_RATE)
            values.append(value.detach().double().numpy())
        return np.concatenate(values)
