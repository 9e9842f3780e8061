"""A table as model inputs: arithmetic on the schema and on the rows that a model is fitted on."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dpsynth.data.schema import Boolean, Categorical, Column
from dpsynth.data.schema.axis import is_numeric
from dpsynth.evaluation.binning import as_numbers

MAX_NATIVE_CATEGORIES = 250  # scikit-learn's histogram trees take at most 255 codes of a categorical
MAX_DESIGN_WIDTH = 300


def category_codes(series: pd.Series, column: Column, values: Sequence) -> np.ndarray:
    """Returns float64 codes by position in `values`; nan for missing and for values not listed."""
    positions = {value: float(code) for code, value in enumerate(values)}
    codes, uniques = pd.factorize(series)
    lookup = np.array([positions.get(value, np.nan) for value in uniques] + [np.nan])
    return lookup[codes]


def listed_values(column: Column, tables: Sequence[pd.DataFrame]) -> tuple:
    """Declared categories; where none are declared, those of the tables."""
    if isinstance(column, Boolean):
        return (False, True)
    if isinstance(column, Categorical) and column.values is not None:
        return tuple(column.values)
    return tuple(sorted({v for t in tables for v in pd.unique(t[column.name].dropna())}, key=str))


@dataclass(frozen=True, kw_only=True)
class Features:
    """Two tables as float64 [row, feature] with nan for missing: what tree models read.

    Args:
      categorical: which features are unordered codes.
    """

    fit: np.ndarray
    test: np.ndarray
    names: tuple[str, ...]
    categorical: np.ndarray


def tree_features(columns: Sequence[Column], fit: pd.DataFrame, test: pd.DataFrame) -> Features:
    """Numbers as they are, categories as codes; columns constant or unknown in `fit` carry on as they are."""
    arrays: list[list[np.ndarray]] = [[], []]
    categorical = []
    for column in columns:
        if is_numeric(column):
            categorical.append(False)
            for side, table in zip(arrays, (fit, test)):
                side.append(as_numbers(table[column.name], column))
        else:
            values = listed_values(column, (fit, test))
            ordered = isinstance(column, Categorical) and column.ordered
            categorical.append(not ordered and 2 < len(values) <= MAX_NATIVE_CATEGORIES)
            for side, table in zip(arrays, (fit, test)):
                side.append(category_codes(table[column.name], column, values))
    stacked = [
        np.stack(side, axis=1) if side else np.zeros((len(table), 0))
        for side, table in zip(arrays, (fit, test))
    ]
    return Features(
        fit=stacked[0],
        test=stacked[1],
        names=tuple(column.name for column in columns),
        categorical=np.array(categorical, dtype=bool),
    )


def linear_design(
    features: Features, categories: np.ndarray, *, min_count: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """One-hot and standardised columns with indicators of missing, for linear models: (fit, test).

    The scale, the frequent categories (at most `MAX_DESIGN_WIDTH` over all columns) and which indicators
    exist come from `features.fit`.

    Args:
      categories: bool [feature]: which features are codes, ordered or not.
      min_count: rows of `fit` that an indicator needs on either side to be kept.
    """
    width = max(2, MAX_DESIGN_WIDTH // max(1, len(features.names)))
    fit_parts, test_parts = [], []

    def add_indicator(fit: np.ndarray, test: np.ndarray) -> None:
        if min(fit.sum(), (~fit).sum()) >= min_count:
            fit_parts.append(fit.astype(np.float64))
            test_parts.append(test.astype(np.float64))

    for position in range(len(features.names)):
        fit, test = features.fit[:, position], features.test[:, position]
        known = ~np.isnan(fit)
        add_indicator(~known, np.isnan(test))
        if not known.any():
            continue
        if categories[position]:
            found, counts = np.unique(fit[known], return_counts=True)
            kept = found[np.argsort(-counts, kind="stable")[:width]]
            complete = len(kept) == len(found) and counts.sum() == len(fit)
            for code in kept[int(complete) :]:  # one category is the baseline when they add up to one
                add_indicator(fit == code, test == code)
        else:
            mean, deviation = fit[known].mean(), fit[known].std()
            if deviation > 0:
                fit_parts.append((np.where(known, fit, mean) - mean) / deviation)
                test_parts.append((np.where(np.isnan(test), mean, test) - mean) / deviation)
    empty = (np.zeros((len(features.fit), 0)), np.zeros((len(features.test), 0)))
    if not fit_parts:
        return empty
    return np.stack(fit_parts, axis=1), np.stack(test_parts, axis=1)


def code_like(columns: Sequence[Column]) -> np.ndarray:
    """bool [column]: which columns `tree_features` turns into codes."""
    return np.array([not is_numeric(column) for column in columns], dtype=bool)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps scikit-learn's warnings back: tables that separate perfectly, or hold next to nothing, are cases
    that an evaluation has to score, not mistakes of its caller."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def subsample(table: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """Returns the table, or `most` rows drawn without replacement, in their order."""
    if len(table) <= most:
        return table
    rows = np.sort(np.random.default_rng(seed).choice(len(table), most, replace=False))
    return table.iloc[rows]
