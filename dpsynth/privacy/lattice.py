"""The discrete Gaussian, drawn exactly and for whole arrays at once.

OpenDP's sampler, the oracle of the tests, takes a quarter of a millisecond per draw; joint histograms have
millions of cells.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

Uniform = Callable[[int], np.ndarray]  # draws of the 53-bit lattice on [0, 1), as float64

_BITS = 53
_SLACK = 2.0**-44  # relative error allowed to exp(-x) in float64 for x <= 64; the true one is below 2**-45


def discrete_gaussian(size: int, scale: float, uniform: Uniform) -> np.ndarray:
    """Draws int64 values with P(y) proportional to exp(-y**2 / (2 * scale**2)).

    Formal guarantee: exact in law, given uniform bits: every decision compares a uniform number, of as many
    bits as it takes, with a probability whose float64 value decides only where its error cannot matter.

    Args:
      size: number of draws.
      scale: in lattice steps, at least 1 and at most 2**40.
    Source: Canonne, Kamath & Steinke (2020), The discrete Gaussian for differential privacy, Algorithms 1-3,
      with their Bernoulli(exp(-x)) decided by lazily drawn bits.
    """
    if not 1.0 <= scale <= 2.0**40:
        raise ValueError(f"Expected scale={scale} in [1, 2**40].")
    width, kept = math.floor(scale) + 1, [np.empty(0, dtype=np.int64)]
    missing = size
    while missing > 0:
        proposed = _discrete_laplace(2 * missing + 64, width, uniform)
        centre = scale**2 / width
        exponents = (np.abs(proposed) - centre) ** 2 / (2.0 * scale**2)

        def exact(index: int, proposed: np.ndarray = proposed) -> Fraction:
            square = Fraction(scale) ** 2
            return (abs(int(proposed[index])) - square / width) ** 2 / (2 * square)

        accepted = proposed[_coins(exponents, uniform, exact)][:missing]
        kept.append(accepted)
        missing -= len(accepted)
    return np.concatenate(kept)


def _discrete_laplace(tries: int, width: int, uniform: Uniform) -> np.ndarray:
    """Draws with P(y) proportional to exp(-|y| / width): as many as `tries` proposals yield."""
    bits = max((width - 1).bit_length(), 1)
    offsets = (uniform(2 * tries) * 2.0**_BITS).astype(np.int64) & ((1 << bits) - 1)
    offsets = offsets[offsets < width]
    offsets = offsets[_coins(offsets / width, uniform, lambda i: Fraction(int(offsets[i]), width))]
    values, running = offsets.copy(), np.arange(len(offsets))
    while len(running):
        running = running[_coins(np.ones(len(running)), uniform, lambda _: Fraction(1))]
        values[running] += width
    negative = uniform(len(values)) < 0.5
    values = np.where(negative, -values, values)
    return values[~(negative & (values == 0))]


def _coins(exponents: np.ndarray, uniform: Uniform, exact: Callable[[int], Fraction]) -> np.ndarray:
    """Flips a coin of probability exp(-exponent) for each exponent, exactly.

    Args:
      exponents: float64, within a relative error of 2**-50.
      exact: the exact exponent by index, asked for where float64 cannot decide.
    """
    draws = uniform(len(exponents))
    chances = np.exp(-exponents)
    slack = chances * (_SLACK * np.maximum(exponents / 64.0, 1.0))
    heads = draws + 2.0**-_BITS <= chances - slack
    for index in np.nonzero(~heads & (draws < chances + slack))[0]:
        heads[index] = _below(Fraction(float(draws[index])), exact(int(index)), uniform)
    return heads


def _below(draw: Fraction, exponent: Fraction, uniform: Uniform) -> bool:
    """Says whether a uniform number that begins with `draw` is below exp(-exponent), bit by bit."""
    width, digits = Fraction(1, 2**_BITS), 40
    while True:
        digits += 20
        with decimal.localcontext(decimal.Context(prec=digits)):
            power = decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator)
            chance = Fraction((-power).exp())
        error = chance * (1 + exponent) * Fraction(1, 10 ** (digits - 3))
        if draw + width <= chance - error:
            return True
        if draw >= chance + error:
            return False
        draw += width * Fraction(float(uniform(1)[0]))
        width /= 2**_BITS
