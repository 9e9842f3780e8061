"""Standard normals from a cryptographic bit stream, vectorised; as fast as torch's own generator."""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from torch import Tensor

_CHUNK = 1 << 17  # normals made at once; their scratch memory stays in the second-level cache
_REFINED = 2.0**-15  # uniforms below it get 32 bits more


class NormalStream:
    """AES-128 in counter mode under a fresh key from the operating system, turned into standard normals.

    A pair of normals takes one word for its radius and one for its angle (Box & Muller, 1958). Where the
    radius' uniform is small another word refines it, so that 63 bits make it up in the tail: radii reach 9.4,
    and the exact law goes beyond that with probability 1e-19; float32 uniforms would end the tail at 5.8.
    """

    def __init__(self):
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._cipher = Cipher(algorithms.AES(os.urandom(16)), modes.CTR(bytes(16))).encryptor()
        self._bytes = bytearray(4 * _CHUNK + 15)  # the cipher asks for room for one more block
        self._words = torch.frombuffer(self._bytes, dtype=torch.int32, count=_CHUNK)
        self._radius = torch.empty(_CHUNK // 2)
        self._least = torch.tensor(2.0**-64)

    def fill_(self, out: Tensor) -> Tensor:
        """Fills a flat float32 CPU tensor with independent standard normals."""
        even = out.numel() // 2 * 2
        for piece in out[:even].split(_CHUNK) if even else ():
            # In place: fresh key stream added to words that were used is uniform, and independent of them.
            used = memoryview(self._bytes)
            self._cipher.update_into(used[: 4 * piece.numel()], used)
            self._box_muller_(piece)
        if even < out.numel():
            out[even:] = self.fill_(torch.empty(2))[:1]
        return out

    def _box_muller_(self, out: Tensor) -> None:
        half = out.numel() // 2
        lot, turn = self._words[: 2 * half].split(half)
        radius, (cosine, sine) = self._radius[:half], out.split(half)
        # |lot| is uniform on 0 … 2**31 but for its ends, which have half the mass: |lot| / 2**31 rounds a
        # uniform u on [0, 1] to the nearest 2**-31. The radius is sqrt(-log u**2).
        radius.copy_(lot).mul_(2.0**-31)
        torch.addcmul(self._least, radius, radius, out=radius).log_().neg_()
        self._refine_(radius, lot)
        radius.sqrt_()
        sine.copy_(turn).mul_(math.pi * 2.0**-31)
        torch.cos(sine, out=cosine).mul_(radius)
        sine.sin_().mul_(radius)

    def _refine_(self, squares: Tensor, lot: Tensor) -> None:
        """Spreads small uniforms over the interval that was rounded to them, by 32 bits more."""
        # A few rows among thousands: numpy finds and changes them with less ado than torch.
        found = squares.numpy()
        rows = np.flatnonzero(found > -2.0 * math.log(_REFINED))
        if rows.size == 0:
            return
        low = np.frombuffer(self._cipher.update(bytes(4 * rows.size)), dtype=np.int32)
        within = (low + 0.5) * 2.0**-32  # in (-1/2, 1/2)
        uniforms = np.abs(np.abs(lot.numpy()[rows].astype(np.float64)) + within) * 2.0**-31
        found[rows] = -2.0 * np.log(uniforms)
