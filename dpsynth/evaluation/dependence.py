"""How strongly columns hang together: Pearson, Cramér's V, PhiK, mutual information; and what is lost."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from dpsynth.data.schema import Boolean, Schema
from dpsynth.data.schema.axis import is_numeric
from dpsynth.evaluation.binning import Binning, as_numbers
from dpsynth.evaluation.fidelity import pairs
from dpsynth.evaluation.types import EvaluationConfig, Metric


def joint_counts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the table of counts over the codes that occur, [first code, second code]."""
    if not len(first):
        return np.zeros((0, 0), dtype=np.int64)
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    if rows * columns > 4 * len(first) + 10_000:
        first, second = (np.unique(codes, return_inverse=True)[1] for codes in (first, second))
        rows, columns = int(first.max()) + 1, int(second.max()) + 1
    counts = np.bincount(first * columns + second, minlength=rows * columns).reshape(rows, columns)
    return counts[counts.any(axis=1)][:, counts.any(axis=0)]


def mutual_information(counts: np.ndarray) -> float:
    """Plug-in mutual information of a table of counts, in bits; at least 0."""
    total = counts.sum()
    if not total:
        return 0.0
    joint = counts / total
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    held = joint > 0
    return max(0.0, float((joint[held] * np.log2(joint[held] / product[held])).sum()))


def cramers_v(counts: np.ndarray) -> float:
    """Cramér's V with Bergsma's correction, in [0, 1]; nan where a column is constant.

    Source: Bergsma (2013), "A bias-correction for Cramér's V and Tschuprow's T", section 3.
    """
    rows, columns = counts.shape
    total = counts.sum()
    if min(rows, columns) < 2 or total < 2:
        return np.nan
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / total
    phi = ((counts - expected) ** 2 / expected).sum() / total
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (total - 1))
    shrunk = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    return float(min(1.0, np.sqrt(phi / shrunk))) if shrunk > 0 else np.nan


def phi_k(counts: np.ndarray) -> float:
    """PhiK of a table of counts, in [0, 1]; nan where a column is constant.

    Source: Baak, Koopman, Snoek & Klous (2020), through the library `phik`.
    """
    if min(counts.shape) < 2:
        return np.nan
    from phik.phik import phik_from_hist2d

    return float(phik_from_hist2d(counts.astype(float)))


def association_matrix(table: pd.DataFrame, binning: Binning, measure) -> pd.DataFrame:
    """Symmetric [column, column] of `measure` over tables of counts, 1 on the diagonal.

    Args:
      measure: `cramers_v`, `phi_k` or `mutual_information`.
    """
    codes = binning.codes(table)
    count = len(binning.names)
    matrix = np.eye(count)
    for i, j in combinations(range(count), 2):
        matrix[i, j] = matrix[j, i] = measure(joint_counts(codes[i], codes[j]))
    return pd.DataFrame(matrix, index=list(binning.names), columns=list(binning.names))


def pearson_matrix(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Pearson's r of numbers, dates and booleans over the rows that know both; nan for constants."""
    numbers = {}
    for column in schema.modelled:
        if column.name not in table.columns:
            continue
        if is_numeric(column):
            numbers[column.name] = as_numbers(table[column.name], column)
        elif isinstance(column, Boolean):
            series = table[column.name].astype(object)
            numbers[column.name] = pd.to_numeric(series, errors="coerce").to_numpy(float, na_value=np.nan)
    return pd.DataFrame(numbers).corr(min_periods=3)


def dependence(
    synthetic: pd.DataFrame,
    train: pd.DataFrame,
    binning: Binning,
    schema: Schema,
    config: EvaluationConfig,
    seed: int,
) -> list[Metric]:
    """Mean absolute gap between synthetic and training rows, over pairs, of each measure of dependence.

    `mi_target_gap` is label preservation: the mean over columns of the gap in mutual information with the
    target, in bits; `mi_2way_gap` is over all pairs.
    Edge cases: pairs that are constant in either table are left out; no pair left -> no metric.
    """
    metrics: list[Metric] = []

    def add(name: str, gaps: np.ndarray, what: str) -> None:
        gaps = gaps[np.isfinite(gaps)]
        if len(gaps):
            note = f"mean absolute gap over {len(gaps)} {what}, synthetic against train rows"
            metrics.append(Metric(name=name, value=float(gaps.mean()), computed_on=note))

    pearson = [pearson_matrix(table, schema).to_numpy() for table in (synthetic, train)]
    add("pearson_gap", _upper(np.abs(pearson[0] - pearson[1])), "pairs of numeric columns, Pearson's r")
    codes = [binning.codes(table) for table in (synthetic, train)]
    chosen = pairs(binning, config.max_pairs, seed)
    tables = [[joint_counts(side[i], side[j]) for i, j in chosen] for side in codes]
    for name, measure, what in (
        ("cramer_gap", cramers_v, "pairs, Cramér's V of binned columns"),
        ("mi_2way_gap", mutual_information, "pairs, mutual information of binned columns, bits"),
    ):
        values = [np.array([measure(counts) for counts in side]) for side in tables]
        add(name, np.abs(values[0] - values[1]), what)
    if schema.target in binning.names:
        t = binning.names.index(schema.target)
        others = [i for i in range(len(binning.names)) if i != t]
        values = [
            np.array([mutual_information(joint_counts(side[i], side[t])) for i in others]) for side in codes
        ]
        add(
            "mi_target_gap",
            np.abs(values[0] - values[1]),
            "columns, mutual information with the target, bits",
        )
    return metrics


def _upper(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.triu_indices(len(matrix), 1)]
