"""Distances between rows: kernel discrepancy, precision and recall, and nearest training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.data.schema.axis import is_numeric
from dpsynth.evaluation.binning import as_numbers
from dpsynth.evaluation.features import category_codes, listed_values, subsample
from dpsynth.evaluation.types import EvaluationConfig, Metric

NEIGHBOURS = 5
_FEWEST_ROWS = 20
_BLOCK = 4_000_000  # distances held at a time


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Rows as points: numbers in deviations of the training rows, categories one-hot at distance 1.

    Args:
      points: one float64 [row, axis] per table, in the order given.
    """

    points: tuple[np.ndarray, ...]


def embed(tables: tuple[pd.DataFrame, ...], scale: pd.DataFrame, schema: Schema) -> Embedding:
    """Places the rows of several tables in one space.

    A missing number is at the mean, and one away on an axis of its own; a missing or undeclared category is
    one away from all others.

    Args:
      scale: rows whose mean and deviation set the scale of numbers.
    """
    parts: list[list[np.ndarray]] = [[] for _ in tables]
    for column in schema.modelled:
        if column.name not in scale.columns:
            continue
        if is_numeric(column):
            numbers = as_numbers(scale[column.name], column)
            known = numbers[np.isfinite(numbers)]
            mean, deviation = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
            for side, table in zip(parts, tables):
                values = as_numbers(table[column.name], column)
                unknown = np.isnan(values)
                scaled = (np.where(unknown, mean, values) - mean) / (deviation or 1.0)
                side.append(np.stack([scaled, unknown.astype(float)], axis=1))
        else:
            values = listed_values(column, (scale,))
            for side, table in zip(parts, tables):
                codes = category_codes(table[column.name], column, values)
                codes = np.where(np.isnan(codes), len(values), codes).astype(int)
                side.append(np.eye(len(values) + 1)[codes] / np.sqrt(2.0))
    return Embedding(points=tuple(np.concatenate(side, axis=1) for side in parts))


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances, squared: [first, second]."""
    cross = first @ second.T
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None, :]
    return np.maximum(0.0, squares - 2.0 * cross)


def nearest_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distance of each row of `first` to the nearest row of `second`, in blocks of rows."""
    block = max(1, _BLOCK // max(1, len(second)))
    parts = [squared_distances(first[i : i + block], second).min(axis=1) for i in range(0, len(first), block)]
    return np.sqrt(np.concatenate(parts)) if parts else np.zeros(0)


def maximum_mean_discrepancy(first: np.ndarray, second: np.ndarray) -> float:
    """Unbiased estimate of the squared MMD with a Gaussian kernel of the median distance; about 0 if equal.

    Source: Gretton, Borgwardt, Rasch, Schölkopf & Smola (2012), lemma 6.
    """
    within = [squared_distances(side, side) for side in (first, second)]
    across = squared_distances(first, second)
    width = np.median(across[across > 0]) if (across > 0).any() else 1.0
    means = []
    for distances in within:
        kernel = np.exp(-distances / width)
        count = len(kernel)
        means.append((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))
    return float(sum(means) - 2.0 * np.exp(-across / width).mean())


def precision_recall(real: np.ndarray, synthetic: np.ndarray, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision and recall, density and coverage with k nearest neighbours.

    Source: Kynkäänniemi et al. (2019), equations 1 and 2; Naeem et al. (2020), equations 3 and 4.
    """
    to_real = squared_distances(real, real)
    radius_real = np.partition(to_real, k, axis=1)[:, k]  # position 0 is the row itself
    radius_synthetic = np.partition(squared_distances(synthetic, synthetic), k, axis=1)[:, k]
    across = squared_distances(real, synthetic)
    inside = across <= radius_real[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((across <= radius_synthetic[None, :]).any(axis=1).mean()),
        "density": float(inside.sum() / (k * across.shape[1])),
        "coverage": float(inside.any(axis=1).mean()),
    }


def copied_share(table: pd.DataFrame, train: pd.DataFrame, schema: Schema) -> float:
    """Share of rows that equal a training row in every modelled column; what is missing equals missing."""
    names = [column.name for column in schema.modelled if column.name in train.columns]
    words = [side[names].astype(object).where(side[names].notna(), None) for side in (table, train)]
    known = set(words[1].itertuples(index=False, name=None))
    return float(np.mean([row in known for row in words[0].itertuples(index=False, name=None)]))


def distances_between_rows(
    synthetic: pd.DataFrame,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    schema: Schema,
    config: EvaluationConfig,
    seed: int,
) -> list[Metric]:
    """MMD, precision, recall, density and coverage against holdout rows; nearest training rows.

    Everything named `…_baseline` is the same figure for training rows in place of synthetic ones (or, for
    distances to training rows, holdout rows in their place): what a perfect generator would reach.
    `closer_to_train_share` is the share of synthetic rows nearer to a training row than to any of equally
    many holdout rows: 0.5 for a generator that does not remember.
    Edge cases: fewer than 20 rows in a table -> nan, said in `computed_on`.
    """
    count = min(config.max_distance_rows, len(synthetic), len(train), len(holdout))
    names = ["mmd", "precision", "recall", "density", "coverage"]
    if count < _FEWEST_ROWS:
        note = f"not computed: fewer than {_FEWEST_ROWS} rows in a table"
        return [Metric(name=n, value=np.nan, computed_on=note) for n in [*names, "closer_to_train_share"]]
    tables = tuple(subsample(table, count, seed) for table in (synthetic, train, holdout))
    fake, known, fresh = embed(tables, train, schema).points
    note = f"equally many rows, at most {config.max_distance_rows}, numbers standardised, categories one-hot"
    metrics = []
    for points, suffix, who in ((fake, "", "synthetic"), (known, "_baseline", "train")):
        found = {"mmd": maximum_mean_discrepancy(points, fresh), **precision_recall(fresh, points)}
        metrics += [
            Metric(name=f"{name}{suffix}", value=value, computed_on=f"{who} against holdout rows; {note}")
            for name, value in found.items()
        ]
    to_train, to_fresh = nearest_distances(fake, known), nearest_distances(fake, fresh)
    closer = float((to_train < to_fresh).mean() + 0.5 * (to_train == to_fresh).mean())
    spread = 1.96 * np.sqrt(max(closer * (1 - closer), 0.25 / count) / count)
    metrics.append(
        Metric(
            name="closer_to_train_share",
            value=closer,
            lower=max(0.0, closer - spread),
            upper=min(1.0, closer + spread),
            computed_on=f"synthetic rows, nearest train against nearest holdout row, ties half; {note}",
        )
    )
    sides = (
        ("", "synthetic", to_train, synthetic),
        ("_baseline", "holdout", nearest_distances(fresh, known), holdout),
    )
    for suffix, who, distances, table in sides:
        where = f"{who} rows to their nearest train row; {note}"
        value = float(np.median(distances))
        metrics.append(Metric(name=f"nearest_train_median{suffix}", value=value, computed_on=where))
        where = f"share of {who} rows that equal a train row in every column"
        value = copied_share(table, train, schema)
        metrics.append(Metric(name=f"copied_share{suffix}", value=value, computed_on=where))
    return metrics
