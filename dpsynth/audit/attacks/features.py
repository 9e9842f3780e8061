"""A released table as numbers, in several ways, for the distinguisher of the game.

Different leaks show in different summaries: a bound in the ends, a frequency in the histogram, a row in
queries about it. All maps have a fixed length; what they measure against is the auditor's own pair of tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dpsynth.audit.attacks.space import as_float, as_text, is_numeric

if TYPE_CHECKING:
    import pandas as pd

_CELLS = 8  # of equal width over a column's range in the auditor's table
_QUERIES = 32


def feature_maps(synthetic: pd.DataFrame, target: pd.DataFrame, known: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns every map of a released table, by name; `all` joins them.

    Args:
      target: the differing unit.
      known: the auditor's table; its ranges and categories make the cells.
    """
    codes = {name: _cells(synthetic[name], known[name]) for name in known.columns}
    mine = {name: _cells(target[name], known[name])[0] for name in known.columns}
    maps = {
        "near": near_target(synthetic, target),
        "naive": naive(synthetic, codes),
        "histogram": histogram(codes, known),
        "correlation": correlation(synthetic, codes),
        "queries": queries(codes, mine),
    }
    maps = {name: values for name, values in maps.items() if values.size}  # one column has no pairs
    return maps | {"all": np.concatenate(list(maps.values()))}


def near_target(synthetic: pd.DataFrame, target: pd.DataFrame) -> np.ndarray:
    """Size, moments and ends of columns, rows near the target in each and in all of them."""
    facts = [float(len(synthetic))]
    near = np.ones(len(synthetic), bool)
    for name in target.columns:
        if is_numeric(target[name]):
            values, mine = as_float(synthetic[name]), float(as_float(target[name])[0])
            known = values[~np.isnan(values)]
            if len(known) == 0:
                facts += [0.0] * 7
                continue
            facts += [known.mean(), known.std(), known.min(), known.max(), float(np.median(known))]
            spread = max(abs(mine), 1e-9) / 2
            close = np.abs(values - mine) <= spread
            facts += [float(close.mean()), float((values == mine).sum())]
        else:
            close = (as_text(synthetic[name]) == str(target[name].iloc[0])).to_numpy()
            facts += [float(close.mean()), float(synthetic[name].nunique())]
        near &= close
    return np.array([*facts, float(near.sum())])


def naive(synthetic: pd.DataFrame, codes: dict[str, np.ndarray]) -> np.ndarray:
    """Mean, median and variance of numbers; number of categories, the most and the least frequent.

    Source: Stadler, Oprisanu and Troncoso (2022), Synthetic data: anonymisation groundhog day, F_naive.
    """
    facts: list[float] = []
    for name, code in codes.items():
        if is_numeric(synthetic[name]):
            values = as_float(synthetic[name])
            values = values[~np.isnan(values)] if not np.isnan(values).all() else np.zeros(1)
            facts += [values.mean(), float(np.median(values)), values.var()]
        else:
            seen, times = np.unique(code, return_counts=True)
            facts += [float(len(seen)), float(seen[times.argmax()]), float(seen[times.argmin()])]
    return np.array(facts)


def histogram(codes: dict[str, np.ndarray], known: pd.DataFrame) -> np.ndarray:
    """Share of rows in every cell of every column (Stadler et al. 2022, F_hist)."""
    parts = []
    for name, code in codes.items():
        size = _CELLS + 3 if is_numeric(known[name]) else known[name].nunique() + 2
        parts.append(np.bincount(code, minlength=size)[:size] / max(len(code), 1))
    return np.concatenate(parts)


def correlation(synthetic: pd.DataFrame, codes: dict[str, np.ndarray]) -> np.ndarray:
    """Correlation of every pair of columns, categories by their code (Stadler et al. 2022, F_corr)."""
    columns = []
    for name, code in codes.items():
        values = as_float(synthetic[name]) if is_numeric(synthetic[name]) else code.astype(float)
        columns.append(np.nan_to_num(values))
    centred = np.stack([c - c.mean() for c in columns])
    norms = np.sqrt((centred**2).sum(axis=1))
    joint = centred @ centred.T / np.maximum(np.outer(norms, norms), 1e-12)
    return joint[np.triu_indices(len(columns), 1)]


def queries(codes: dict[str, np.ndarray], mine: dict[str, np.ndarray]) -> np.ndarray:
    """Rows that lie in the target's cells, for random subsets of columns, the same in every run.

    Source: Houssiau et al. (2022), TAPAS: a framework to evaluate privacy attacks, query features.
    """
    rng, names = np.random.default_rng(0), list(codes)
    agree = np.stack([codes[name] == mine[name] for name in names])
    subsets = rng.random((_QUERIES, len(names))) < rng.random((_QUERIES, 1))
    subsets[0] = True
    subsets[~subsets.any(axis=1), 0] = True
    return np.array([float(agree[subset].all(axis=0).sum()) for subset in subsets])


def _cells(values: pd.Series, known: pd.Series) -> np.ndarray:
    """Cell of each value: 0 is missing; then below the known range, in it, above it; or categories."""
    if not is_numeric(known):
        places = {v: 1 + i for i, v in enumerate(sorted(as_text(known).unique()))}
        return as_text(values).map(places).fillna(0).to_numpy().astype(int)
    numbers, own = as_float(values), as_float(known)
    low, high = np.nanmin(own), np.nanmax(own)
    width = (high - low) / _CELLS or 1.0
    with np.errstate(invalid="ignore"):
        place = np.where(numbers == high, _CELLS - 1, np.floor((numbers - low) / width)).clip(-1, _CELLS)
    return np.where(np.isnan(numbers), 0, place + 2).astype(int)
