"""Random draws inside the losses of private units: unknown, and independent across units."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dpsynth.privacy.noise.entropy import Entropy


class SecretDraws:
    """Generators for private passes, reseeded from the entropy each time.

    Formal guarantee: under a public seed, leaving one unit out would hand everyone else's latents to their
    neighbour. Under fresh secret seeds draws are independent of the data and of what others know.

    Args:
      device: of `generator`, from which objectives draw. Dropout draws from torch's global generators, which
        are put back after.
    """

    def __init__(self, entropy: Entropy, device: str | torch.device):
        self._entropy = entropy
        self.generator = torch.Generator(device)
        self._globals = [torch.default_generator]
        if self.generator.device.type == "cuda":
            self._globals.append(torch.cuda.default_generators[self.generator.device.index or 0])

    @contextmanager
    def __call__(self) -> Iterator[torch.Generator]:
        seeds = (self._entropy.uniform(2) * 2.0**53).astype("int64")
        self.generator.manual_seed(int(seeds[0]))
        states = [generator.get_state() for generator in self._globals]
        for generator in self._globals:
            generator.manual_seed(int(seeds[1]))
        try:
            yield self.generator
        finally:
            for generator, state in zip(self._globals, states):
                generator.set_state(state)
