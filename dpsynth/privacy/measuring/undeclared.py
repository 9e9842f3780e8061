"""Bounds and values that a schema leaves open, bought instead of read off the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize, special

from dpsynth.data.schema import Column
from dpsynth.data.schema.axis import resolution, to_axis
from dpsynth.data.schema.dtype_limits import dtype_range
from dpsynth.privacy.measuring.answers import Shop
from dpsynth.privacy.noise.entropy import Entropy
from dpsynth.privacy.noise.mechanisms import exact_gaussian

_NARROW_CELLS = 64  # a power of two
_EXPONENTS = (-30, 62)  # powers of two that bracket an undeclared number
_FALSE_ALARM = 0.01  # chance that noise alone widens a column's bounds


def undeclared_bounds(shop: Shop) -> dict[str, tuple[float, float]]:
    """Buys bounds of numbers and dates whose schema leaves them open, in two rounds.

    First a histogram over signed powers of two, the same for every table; then one over equal cells of what
    the first found, which are also looked at in blocks of 2, 4, 8, …: thin tails show in wide blocks alone.
    Bounds are the outermost cells or blocks whose noisy count is above what empty ones reach with probability
    0.01, and one cell more on either side; values beyond them will be clipped.

    Formal guarantee: per round, one histogram per column; a unit changes each by at most max_rows (L2).
    """
    columns = [shop.schema.column(name) for name, kind in shop.schema.undeclared if kind == "bounds"]
    grids = [_powers_of_two(column) for column in columns]
    for name, find in (("columns/range", _occupied), ("columns/narrow", _occupied_blocks)):
        noisy = shop.noisy(name, lambda frame, g=grids: _numeric_counts(frame, columns, g))
        stddev = shop.plan.event(name).noise_stddev
        parts = np.split(noisy, np.cumsum([len(grid) - 1 for grid in grids])[:-1])
        found = [
            _with_declared_side(column, grid[first], grid[last + 1])
            for column, grid, (first, last) in zip(columns, grids, [find(part, stddev) for part in parts])
        ]
        grids = [np.linspace(low, high, _NARROW_CELLS + 1) for low, high in found]
    return {column.name: pair for column, pair in zip(columns, found)}


def _powers_of_two(column: Column) -> np.ndarray:
    step = resolution(column)
    first = _EXPONENTS[0] if step == 0.0 else math.floor(math.log2(step))
    powers = 2.0 ** np.arange(first, _EXPONENTS[1] + 1)
    return np.concatenate([-powers[::-1], [0.0], powers])


def _numeric_counts(
    frame: pd.DataFrame, columns: Sequence[Column], grids: Sequence[np.ndarray]
) -> np.ndarray:
    counts = []
    for column, grid in zip(columns, grids):
        places = to_axis(column, frame[column.name])
        cells = np.searchsorted(grid, places[~np.isnan(places)], side="right") - 1
        cells = np.clip(cells, 0, len(grid) - 2)
        counts.append(np.bincount(cells, minlength=len(grid) - 1))
    return np.concatenate(counts)


def _occupied(noisy: np.ndarray, stddev: float) -> tuple[int, int]:
    """First and last cell whose count stands out of the noise; the largest one where none does."""
    cells = np.flatnonzero(noisy > _standing_out(stddev, len(noisy)))
    if len(cells) == 0:
        cells = np.array([int(np.argmax(noisy))])
    return int(cells[0]), int(cells[-1])


def _occupied_blocks(noisy: np.ndarray, stddev: float) -> tuple[int, int]:
    """First and last cell of the blocks that stand out while neither of their halves does."""
    first, last = len(noisy), -1
    below = np.zeros(len(noisy), dtype=bool)  # whether part of this block stood out by itself
    sums, width = noisy, 1
    while True:
        out = sums > _standing_out(stddev * math.sqrt(width), 2 * len(noisy))
        if (fresh := np.flatnonzero(out & ~below)).size:
            first, last = min(first, fresh[0] * width), max(last, (fresh[-1] + 1) * width - 1)
        if len(sums) == 1:
            break
        below = (out | below).reshape(-1, 2).any(axis=1)
        sums, width = sums.reshape(-1, 2).sum(axis=1), 2 * width
    if last < 0:
        return 0, len(noisy) - 1
    return max(int(first) - 1, 0), min(int(last) + 1, len(noisy) - 1)


def _standing_out(stddev: float, num: int) -> float:
    return max(0.5, stddev * float(-special.ndtri(_FALSE_ALARM / num)))


def _with_declared_side(column: Column, low: float, high: float) -> tuple[float, float]:
    if column.min is not None:
        low = float(to_axis(column, pd.Series([column.min]))[0])
    if column.max is not None:
        high = float(to_axis(column, pd.Series([column.max]))[0])
    least, most = dtype_range(column.dtype or "float64")
    return float(max(min(low, high), least)), float(min(max(low, high), most))


def undeclared_values(shop: Shop) -> dict[str, tuple]:
    """Buys the values of categories whose schema leaves them open: those that enough units share.

    Formal guarantee: for neighbours, the values that both tables hold get Gaussian noise (the Gaussian
    event); a value that only the one unit holds passes the threshold with probability at most the failure
    event's delta, over all columns together (`selection_threshold`). Values come in sorted order.
    """
    names = [name for name, kind in shop.schema.undeclared if kind == "values"]
    failure = shop.plan.event("columns/values").failure / len(names)
    rows = shop.units.max_rows

    def find(frame: pd.DataFrame, stddev: float, entropy: Entropy) -> dict[str, list]:
        threshold = selection_threshold(stddev, failure, rows) if shop.plan.private else 0.5
        return {name: _frequent(frame[name], stddev, threshold, entropy) for name in names}

    found = shop.select("columns/values", find)
    return {name: tuple(values) for name, values in found.items()}


def value_counts(series: pd.Series) -> pd.Series:
    """Counts the rows of each value that occurs; missing ones are left out. Private."""
    counts = series.dropna().value_counts(sort=False)
    return counts[counts > 0]


def _frequent(series: pd.Series, stddev: float, threshold: float, entropy: Entropy) -> list:
    counts = series.dropna().value_counts(sort=False)
    counts = counts[counts > 0].sort_index()  # by value, not by who comes first
    noisy = exact_gaussian(counts.to_numpy(dtype=np.int64), stddev, entropy=entropy)
    values = [value.item() if hasattr(value, "item") else value for value in counts.index[noisy > threshold]]
    return sorted(values, key=lambda value: (str(type(value)), value))


def selection_failure(threshold: float, stddev: float, max_rows: int) -> float:
    """The probability that some value held by one unit alone passes the threshold, at worst.

    The unit has at most `max_rows` rows. With c of them at one value, that value passes with probability
    Q((threshold - c) / stddev), convex in c below the threshold; so the sum over the unit's values is largest
    when k - 1 values have one row and one has the rest, for some k.
    """
    if threshold <= max_rows:
        return 1.0
    k = np.arange(1, max_rows + 1)
    most = special.ndtr((max_rows - k + 1 - threshold) / stddev)
    ones = special.ndtr((1 - threshold) / stddev)
    return float(min(1.0, (most + (k - 1) * ones).max()))


def selection_threshold(stddev: float, delta: float, max_rows: int) -> float:
    """The least threshold (rounded up) at which `selection_failure` is at most delta.

    Source: Desfontaines, Voss, Gipson & Mandayam (2022), Differentially private partition selection, for the
    task; Gaussian noise as in Swanberg, Desfontaines & Haney (2023).
    """
    target = delta * (1.0 - 1e-6)  # covers the lattice of exact noise

    def excess(threshold: float) -> float:
        return math.log(max(selection_failure(threshold, stddev, max_rows), 1e-300)) - math.log(target)

    low = max_rows * (1.0 + 1e-12)
    if excess(low) <= 0.0:
        return low
    high = max_rows + stddev * 40.0
    found = optimize.brentq(excess, low, high, xtol=1e-9 * high)
    return found * (1.0 + 1e-8)
