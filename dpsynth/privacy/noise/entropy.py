"""Where randomness that protects people comes from: the operating system, and nowhere else.

Three sources share one interface. `AesEntropy` is the default: AES-128 in counter mode under a key read
from the operating system. `TorchEntropy` is faster on accelerators and weaker (Mersenne Twister or Philox);
certificates name it. `FixedEntropy` repeats itself, exists for tests and voids every ledger it touches.
None of them can be seeded by configuration, pickled or checkpointed.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.noise.gaussian import NormalStream

_CHUNK = 1 << 16
LATTICE_BITS = 24  # noise_stddev spans at least 2**24 lattice steps; see privacy/README.md, "The lattice"


class Entropy(ABC):
    """A source of coins and noise.

    Formal guarantee: draws of the two real sources are independent of every other stream in the project
    (weights, latents, splits) and of `seed`. A process that was forked from the owner of a stream draws from
    a fresh key, so that no two processes share noise.
    """

    name: ClassVar[str]  # released: named in the certificate
    voids: ClassVar[bool] = False  # a ledger that meets this source is stamped void

    @abstractmethod
    def normal_(self, out: torch.Tensor, stddev: float) -> torch.Tensor:
        """Fills `out` (contiguous, floating) with independent N(0, stddev**2) draws and returns it."""

    @abstractmethod
    def uniform(self, num: int) -> np.ndarray:
        """Draws `num` float64 values, uniform on [0, 1)."""

    @abstractmethod
    def binomial(self, num: int, probability: float) -> int:
        """Counts successes among `num` coins of the given probability, exactly in law."""

    @abstractmethod
    def choice(self, num: int, size: int) -> np.ndarray:
        """Draws a uniform subset of `size` of range(num), without replacement, int64 in no useful order."""

    def geometric(self, probability: float, size: int) -> np.ndarray:
        """Draws `size` gaps (1, 2, …) between successes of coins of the given probability, int64."""
        if not 0.0 < probability <= 1.0:
            raise ValueError(f"Expected probability={probability} in (0, 1].")
        if probability == 1.0:
            return np.ones(size, dtype=np.int64)
        gaps = np.floor(np.log1p(-self.uniform(size)) / math.log1p(-probability)) + 1.0
        return np.minimum(gaps, 2.0**62).astype(np.int64)

    def lattice_gaussian(self, values: np.ndarray, scale: float) -> np.ndarray:
        """Adds exact discrete Gaussian noise of the given scale to int64 values (OpenDP's sampler)."""
        import opendp.prelude as dp

        dp.enable_features("contrib")
        space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
        mechanism = dp.m.make_gaussian(*space, scale=float(scale))
        return np.asarray(mechanism(values.ravel().tolist()), dtype=np.int64).reshape(values.shape)

    def noisy_max(self, scores: np.ndarray, scale: float) -> int:
        """Draws an index with probability proportional to exp(score / scale), exactly (OpenDP's sampler)."""
        import opendp.prelude as dp

        dp.enable_features("contrib")
        space = dp.vector_domain(dp.atom_domain(T="f64", nan=False)), dp.linf_distance(T="f64")
        mechanism = dp.m.make_noisy_max(*space, dp.zero_concentrated_divergence(), scale=float(scale))
        return int(mechanism(np.asarray(scores, dtype=np.float64).tolist()))

    def __reduce__(self):
        raise GuaranteeVoid("Noise sources are never pickled or checkpointed. Make one in each process.")


class AesEntropy(Entropy):
    """AES-128 counter mode keyed from `os.urandom`; the default."""

    name = "AES-128 counter mode keyed by the operating system; OpenDP discrete Gaussian for measurements"

    def __init__(self):
        self._pid = -1
        self._rekey()

    def _rekey(self) -> None:
        from randomgen import AESCounter

        self._pid = os.getpid()
        self._generator = np.random.Generator(AESCounter(key=int.from_bytes(os.urandom(16), "little")))
        self._normals = NormalStream()

    @property
    def _stream(self) -> np.random.Generator:
        if self._pid != os.getpid():
            self._rekey()
        return self._generator

    def normal_(self, out: torch.Tensor, stddev: float) -> torch.Tensor:
        if stddev == 0.0:
            return out.zero_()
        stream = self._stream
        if out.dtype == torch.float32 and out.is_contiguous():
            if out.device.type == "cpu":
                self._normals.fill_(out.view(-1))
            else:
                out.view(-1).copy_(self._normals.fill_(torch.empty(out.numel())))
            return out if stddev == 1.0 else out.mul_(stddev)
        draws = stream.standard_normal(out.numel())
        draws *= stddev
        return out.copy_(torch.from_numpy(draws).reshape(out.shape))

    def uniform(self, num: int) -> np.ndarray:
        return self._stream.random(num)

    def binomial(self, num: int, probability: float) -> int:
        return int(self._stream.binomial(num, probability))

    def choice(self, num: int, size: int) -> np.ndarray:
        return self._stream.choice(num, size, replace=False, shuffle=False)


class TorchEntropy(Entropy):
    """Torch's generator, seeded once with 64 bits from the operating system. Not cryptographic.

    Args:
      device: where noise is drawn, "cpu" or a CUDA device; coins are always drawn on the CPU.
    """

    name = "torch generator with a 64-bit seed from the operating system (not cryptographic)"

    def __init__(self, device: str = "cpu"):
        self._device = device
        self._pid = -1
        self._rekey()

    def _rekey(self) -> None:
        self._pid = os.getpid()
        self._noise = torch.Generator(self._device)
        self._noise.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        self._coins = np.random.Generator(np.random.MT19937(list(os.urandom(64))))

    def normal_(self, out: torch.Tensor, stddev: float) -> torch.Tensor:
        if self._pid != os.getpid():
            self._rekey()
        if stddev == 0.0:
            return out.zero_()
        if out.device.type == torch.device(self._device).type:
            return out.normal_(0.0, stddev, generator=self._noise)
        draws = torch.empty(out.shape, dtype=out.dtype, device=self._device)
        return out.copy_(draws.normal_(0.0, stddev, generator=self._noise))

    def uniform(self, num: int) -> np.ndarray:
        return self._stream.random(num)

    def binomial(self, num: int, probability: float) -> int:
        return int(self._stream.binomial(num, probability))

    def choice(self, num: int, size: int) -> np.ndarray:
        return self._stream.choice(num, size, replace=False, shuffle=False)

    @property
    def _stream(self) -> np.random.Generator:
        if self._pid != os.getpid():
            self._rekey()
        return self._coins


class FixedEntropy(Entropy):
    """Repeats the same draws in every run. For tests only: voids the ledger.

    Each kind of draw has its own stream and each measurement restarts its stream at a fixed point, so that a
    change in one place does not shift the noise in another.
    """

    name = "FIXED, FOR TESTS: no privacy"
    voids = True

    def __init__(self, seed: int = 0):
        self._seed = seed
        self._noise = np.random.default_rng([seed, 1])
        self._coins = np.random.default_rng([seed, 2])

    def normal_(self, out: torch.Tensor, stddev: float) -> torch.Tensor:
        draws = self._noise.standard_normal(out.numel()) * stddev
        return out.copy_(torch.from_numpy(draws).reshape(out.shape))

    def uniform(self, num: int) -> np.ndarray:
        return self._coins.random(num)

    def binomial(self, num: int, probability: float) -> int:
        return int(self._coins.binomial(num, probability))

    def choice(self, num: int, size: int) -> np.ndarray:
        return self._coins.choice(num, size, replace=False, shuffle=False)

    def lattice_gaussian(self, values: np.ndarray, scale: float) -> np.ndarray:
        noise = np.random.default_rng([self._seed, 3]).standard_normal(values.shape) * scale
        return values + np.rint(noise).astype(np.int64)

    def noisy_max(self, scores: np.ndarray, scale: float) -> int:
        return int(
            np.argmax(scores / scale + np.random.default_rng([self._seed, 4]).gumbel(size=len(scores)))
        )


def make_entropy(noise: str, device: str = "cpu") -> Entropy:
    """Builds the source named in the configuration: "aes" or "torch"; never the fixed one."""
    if noise == "aes":
        return AesEntropy()
    if noise == "torch":
        return TorchEntropy(device)
    raise ValueError(f'Expected noise="{noise}" to be "aes" or "torch".')


def source_name(noise: str) -> str:
    """The name that a certificate gives to a configured source."""
    return {"aes": AesEntropy.name, "torch": TorchEntropy.name}[noise]
