"""Standard normals from a cryptographic bit stream, vectorised; as fast as torch's own generator."""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor

_CHUNK = 1 << 17  # normals made at once; their scratch memory stays in the second-level cache


class NormalStream:
    """AES-128 in counter mode under a fresh key from the operating system, turned into standard normals.

    A pair of normals takes 62 bits for its radius and 32 for its angle (Box & Muller, 1958). Radii reach 9.3,
    and the exact law goes beyond that with probability 1e-19; float32 uniforms would end the tail at 5.8.
    """

    def __init__(self):
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._cipher = Cipher(algorithms.AES(os.urandom(16)), modes.CTR(bytes(16))).encryptor()
        half = _CHUNK // 2
        self._zeros = bytes(12 * half)
        self._bytes = bytearray(12 * half + 15)  # the cipher asks for room for one more block
        self._words = torch.frombuffer(self._bytes, dtype=torch.int32, count=3 * half)
        self._radius, self._angle, self._part = torch.empty(3, half).unbind()

    def fill_(self, out: Tensor) -> Tensor:
        """Fills a flat float32 CPU tensor with independent standard normals."""
        for piece in out.split(_CHUNK) if out.numel() else ():
            half = (piece.numel() + 1) // 2
            self._cipher.update_into(memoryview(self._zeros)[: 12 * half], self._bytes)
            self._box_muller_(piece, half)
        return out

    def _box_muller_(self, out: Tensor, half: int) -> None:
        high, low, turn = self._words[: 3 * half].split(half)
        radius, angle, part = self._radius[:half], self._angle[:half], self._part[:half]
        # u = (high + (low + 1/2) / 2**31) / 2**31 in (0, 1], with full relative precision near 0.
        radius.copy_(high.bitwise_and_(0x7FFFFFFF))
        part.copy_(low.bitwise_and_(0x7FFFFFFF)).add_(0.5).mul_(2.0**-31)
        radius.add_(part).mul_(2.0**-31).log_().mul_(-2.0).sqrt_()
        angle.copy_(turn).mul_(math.pi * 2.0**-31)
        num = out.numel()
        torch.mul(radius, torch.cos(angle, out=part), out=out[:half])
        torch.mul(radius[: num - half], angle.sin_()[: num - half], out=out[half:])
