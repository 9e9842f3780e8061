"""How much noise a budget asks for, and how many steps it allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dp_accounting import dp_event
from scipy import optimize, special

from dpsynth.privacy.accounting.accountants import (
    GRID,
    SLACK,
    Ingredients,
    checked_delta,
    compose,
    grid_for,
    pld_epsilon,
    round_up,
    step_pld,
)

_COARSE, _LARGE = 5 * GRID, 5.0  # grid while searching the noise of training, from which epsilon on
TIGHTNESS = 0.005  # a solved budget is met from below within this fraction


def gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """The exact delta of one Gaussian mechanism.

    Source: Balle & Wang (2018), Improving the Gaussian mechanism, Theorem 8.
    """
    shift = 0.5 / noise_multiplier
    upper = special.ndtr(shift - epsilon * noise_multiplier)
    lower = math.exp(epsilon + special.log_ndtr(-shift - epsilon * noise_multiplier))
    return float(upper - lower)


def gaussian_noise_multiplier(epsilon: float, delta: float) -> float:
    """The noise multiplier at which one Gaussian mechanism is exactly (epsilon, delta)-DP."""

    def excess(log_noise: float) -> float:
        return gaussian_delta(math.exp(log_noise), epsilon) - delta

    return math.exp(optimize.brentq(excess, math.log(1e-3), math.log(1e7), xtol=1e-12))


def _noise_up(log_noise: float) -> float:
    """The noise multiplier, rounded up to five significant digits."""
    noise = math.exp(log_noise)
    digits = 4 - math.floor(math.log10(noise))
    return math.ceil(noise * 10.0**digits) / 10.0**digits


def solve_noise(
    cost: Callable[[float], float], target: float, guess: float, *, tightness: float = TIGHTNESS
) -> float:
    """Finds a noise multiplier whose cost lies in [(1 - tightness) * target, target].

    Regula falsi (Illinois) on log cost over log noise, where both are nearly straight: three to six calls.
    Only answers whose computed cost is at most the target are returned.

    Args:
      cost: epsilon of a noise multiplier; falls as the noise rises.
      target: public.
      guess: where to look first.
    Raises:
      ValueError: no noise multiplier up to 1e6 meets the target.
    """
    aim = math.log(target * (1.0 - tightness / 4))

    def height(log_noise: float) -> float:
        return math.log(max(cost(_noise_up(log_noise)), 1e-300)) - aim

    def good(found: float) -> bool:
        return math.log1p(-tightness) <= found + aim - math.log(target) <= 0.0

    x0 = math.log(guess)
    y0 = height(x0)
    if good(y0):
        return _noise_up(x0)
    x1 = x0 + (math.copysign(0.05, y0) + y0 if abs(y0) < 1.0 else math.copysign(1.0, y0))
    y1 = height(x1)
    while y0 * y1 > 0.0:  # walk on until the target lies between
        if good(y1):
            return _noise_up(x1)
        if abs(x1) > math.log(1e6):
            raise ValueError(f"No noise multiplier up to 1e6 meets epsilon={target:g}.")
        x0, y0, x1 = x1, y1, x1 + math.copysign(1.0, y1)
        y1 = height(x1)
    side = 0
    for _ in range(60):
        if good(y1):
            return _noise_up(x1)
        x2 = (x0 * y1 - x1 * y0) / (y1 - y0)
        y2 = height(x2)
        if good(y2):
            return _noise_up(x2)
        if y2 * y1 > 0.0:
            x1, y1 = x2, y2
            y0 = y0 / 2 if side == 1 else y0
            side = 1
        else:
            x0, y0 = x2, y2
            y1 = y1 / 2 if side == -1 else y1
            side = -1
    raise ValueError(f"No noise multiplier found for epsilon={target:g}.")


def training_noise_multiplier(
    others: Sequence[dp_event.DpEvent], *, sample_rate: float, steps: int, epsilon: float, delta: float
) -> float:
    """The noise multiplier of training that, composed with the other events, meets epsilon from below.

    Raises:
      ValueError: the other events leave nothing.
    """
    fixed = Ingredients.of(others)
    left = checked_delta(fixed, delta)
    if fixed.infinite or left <= 0.0 or pld_epsilon(fixed, delta) >= epsilon * (1.0 - TIGHTNESS):
        raise ValueError(f"The other events leave nothing of epsilon={epsilon:g} at delta={delta:g}.")
    # A coarse grid is as pessimistic as a fine one is, and off by less than 1e-4 of a large epsilon.
    grid = _COARSE if epsilon >= _LARGE else grid_for(epsilon)
    rest = compose(fixed, grid)

    def cost(noise_multiplier: float) -> float:
        pld = step_pld(sample_rate, noise_multiplier, grid).self_compose(steps)
        pld = pld if rest is None else pld.compose(rest)
        return round_up(pld.get_epsilon_for_delta(left) + SLACK)

    total = gaussian_noise_multiplier(epsilon, left) ** -2
    strength = max(total - fixed.gaussian, 0.01 * total) / (steps * sample_rate**2)
    return solve_noise(cost, epsilon, max(math.log1p(strength) ** -0.5, 0.3))


def largest_steps(
    others: Sequence[dp_event.DpEvent],
    *,
    sample_rate: float,
    noise_multiplier: float,
    max_steps: int,
    epsilon: float,
    delta: float,
) -> int:
    """The most steps, at most `max_steps`, whose composition with the other events stays within epsilon."""
    fixed = Ingredients.of(others)
    left = checked_delta(fixed, delta)
    if fixed.infinite or left <= 0.0 or pld_epsilon(fixed, delta) > epsilon:
        return 0
    rest, step = compose(fixed, GRID), step_pld(sample_rate, noise_multiplier, GRID)

    def fits(steps: int) -> bool:
        pld = step.self_compose(steps)
        pld = pld if rest is None else pld.compose(rest)
        return round_up(pld.get_epsilon_for_delta(left) + SLACK) <= epsilon

    if fits(max_steps):
        return max_steps
    low, high = 0, max_steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def epsilon_curve(
    others: Sequence[dp_event.DpEvent],
    *,
    sample_rate: float,
    noise_multiplier: float,
    steps: Sequence[int],
    delta: float,
) -> list[float]:
    """Epsilon spent after each of the given numbers of steps, beside the other events (for progress logs)."""
    fixed = Ingredients.of(others)
    left = checked_delta(fixed, delta)
    if fixed.infinite or left <= 0.0 or noise_multiplier == 0.0:
        return [math.inf for _ in steps]
    rest, step = compose(fixed, GRID), step_pld(sample_rate, noise_multiplier, GRID)
    curve = []
    for count in steps:
        pld = rest if count == 0 else step.self_compose(count)
        pld = pld if rest is None or count == 0 else pld.compose(rest)
        curve.append(0.0 if pld is None else round_up(pld.get_epsilon_for_delta(left) + SLACK))
    return curve
