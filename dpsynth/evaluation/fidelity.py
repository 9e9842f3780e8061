"""Total variation between the marginals of two tables: one column, two columns, two and the target."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.evaluation.binning import Binning
from dpsynth.evaluation.types import EvaluationConfig, Metric


def total_variation(first: np.ndarray, second: np.ndarray, size: int) -> float:
    """Returns half the L1 distance between the frequencies of two code vectors in [0, size).

    Edge cases: an empty vector against a full one -> 1; two empty ones -> 0.
    """
    if len(first) == 0 or len(second) == 0:
        return float(len(first) != len(second))
    if size > 4 * (len(first) + len(second)):  # more cells than rows: renumber the cells that occur
        cells, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
        first, second, size = codes[: len(first)], codes[len(first) :], len(cells)
    difference = np.bincount(first, minlength=size) / len(first)
    difference -= np.bincount(second, minlength=size) / len(second)
    return 0.5 * float(np.abs(difference).sum())


def marginal_distances(
    first: np.ndarray, second: np.ndarray, sizes: Iterable[int], marginals: Iterable[tuple[int, ...]]
) -> np.ndarray:
    """Total variation of each marginal.

    Args:
      first, second: int64 [column, row] codes of the two tables.
      sizes: cells per column.
      marginals: positions of the columns of each marginal, of any order.
    """
    sizes = tuple(sizes)
    prefix: tuple[int, ...] | None = None  # combinations come sorted, so their prefix is worth keeping
    distances = []
    for marginal in marginals:
        if marginal[:-1] != prefix:
            prefix = marginal[:-1]
            heads = [combined_codes(table, sizes, prefix) for table in (first, second)]
            cells = int(np.prod([sizes[i] for i in prefix], dtype=object))
        last = marginal[-1]
        codes = [h * sizes[last] + table[last] for h, table in zip(heads, (first, second))]
        distances.append(total_variation(*codes, cells * sizes[last]))
    return np.array(distances)


def combined_codes(table: np.ndarray, sizes: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
    """Codes of a marginal of several columns, int64 [row]."""
    """Codes of a marginal of several columns, int64 [row]."""
    code = np.zeros(table.shape[1], dtype=np.int64)
    for column in columns:
        code = code * sizes[column] + table[column]
    return code


def pairs(binning: Binning, max_pairs: int, seed: int) -> list[tuple[int, ...]]:
    """All pairs of columns, or `max_pairs` of them drawn by the seed."""
    return _limited(list(combinations(range(len(binning.names)), 2)), max_pairs, seed)


def triples_with(target: str, binning: Binning, max_pairs: int, seed: int) -> list[tuple[int, ...]]:
    """All (target, i, j), or `max_pairs` of them drawn by the seed."""
    t = binning.names.index(target)
    others = [i for i in range(len(binning.names)) if i != t]
    return _limited([(t, i, j) for i, j in combinations(others, 2)], max_pairs, seed)


def _limited(marginals: list[tuple[int, ...]], most: int, seed: int) -> list[tuple[int, ...]]:
    if len(marginals) <= most:
        return marginals
    chosen = np.random.default_rng(seed).choice(len(marginals), most, replace=False)
    return [marginals[i] for i in np.sort(chosen)]


def fidelity(
    synthetic: pd.DataFrame,
    real: pd.DataFrame,
    binning: Binning,
    schema: Schema,
    config: EvaluationConfig,
    seed: int,
    *,
    against: str = "synthetic against train",
    suffix: str = "",
) -> list[Metric]:
    """Mean and largest total variation over 1-way and 2-way marginals, and 3-way ones with the target.

    Edge cases: one column -> no 2-way metrics; no target, or fewer than three columns -> no 3-way ones.

    Args:
      against: what is compared with what, for `computed_on`.
      suffix: appended to every name, for instance `_holdout`.
    """
    first, second = binning.codes(synthetic), binning.codes(real)
    cut = f"numbers in {config.num_bins} equal-width bins and a missing cell, categories as declared"
    metrics: list[Metric] = []

    def add(name: str, marginals: list[tuple[int, ...]], total: int, what: str) -> None:
        if not marginals:
            return
        distances = marginal_distances(first, second, binning.sizes, marginals)
        share = what if len(marginals) == total else f"{len(marginals)} of {total} {what}, drawn by the seed"
        where = f"{share}; {against} rows; {cut}"
        mean, largest = float(distances.mean()), float(distances.max())
        metrics.append(Metric(name=f"{name}{suffix}", value=mean, computed_on=f"mean over {where}"))
        worst = "+".join(binning.names[i] for i in marginals[int(distances.argmax())])
        note = f"{worst}, worst of {where}"
        metrics.append(Metric(name=f"{name}_max{suffix}", value=largest, computed_on=note))

    count = len(binning.names)
    add("tv_1way", [(i,) for i in range(count)], count, "columns")
    add("tv_2way", pairs(binning, config.max_pairs, seed), count * (count - 1) // 2, "pairs")
    if schema.target in binning.names:
        triples = triples_with(schema.target, binning, config.max_pairs, seed)
        add("tv_3way_target", triples, (count - 1) * (count - 2) // 2, "pairs with the target")
    return metrics


def column_distances(synthetic: pd.DataFrame, real: pd.DataFrame, binning: Binning) -> pd.Series:
    """Total variation of each column by name, the worst first."""
    first, second = binning.codes(synthetic), binning.codes(real)
    ones = [(i,) for i in range(len(binning.names))]
    distances = marginal_distances(first, second, binning.sizes, ones)
    return pd.Series(distances, index=list(binning.names), name="total variation").sort_values(
        ascending=False
    )


def pair_distances(synthetic: pd.DataFrame, real: pd.DataFrame, binning: Binning) -> pd.DataFrame:
    """Symmetric matrix [column, column] of 2-way total variation; the diagonal holds the 1-way ones."""
    first, second = binning.codes(synthetic), binning.codes(real)
    count = len(binning.names)
    matrix = np.zeros((count, count))
    both = list(combinations(range(count), 2))
    if both:
        rows, columns = np.array(both).T
        matrix[rows, columns] = marginal_distances(first, second, binning.sizes, both)
    matrix += matrix.T
    np.fill_diagonal(matrix, marginal_distances(first, second, binning.sizes, [(i,) for i in range(count)]))
    return pd.DataFrame(matrix, index=list(binning.names), columns=list(binning.names))
