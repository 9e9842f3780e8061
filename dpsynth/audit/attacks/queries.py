"""Counting queries: how many synthetic rows share random subsets of a target's attributes.

Numbers are cut at quantiles of the synthetic table, so that `shares` means `lies in the same cell`. Columns
and cuts of a query are drawn once and asked about every target; an answer is a hash, a sort and a search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dpsynth.audit.attacks.space import as_float, as_text, is_numeric

if TYPE_CHECKING:
    import pandas as pd

NUM_QUERIES = 200
_FINEST = 32
_CUTS = (8, 16, _FINEST)  # cells per number: coarse ones are never empty, fine ones tell rows apart
MISSING, UNSEEN, CATEGORY = _FINEST, _FINEST + 1, _FINEST + 2  # cells that no number has
_FEWEST, _MOST = 2, 8  # columns in a query


@dataclass(frozen=True, kw_only=True)
class Query:
    """One subset of columns, with the number of cells that their numbers are cut into."""

    cuts: int
    columns: tuple[int, ...]
    factors: tuple[int, ...]  # odd, of the hash that joins the columns' cells


def draw_queries(num_columns: int, rng: np.random.Generator, num: int = NUM_QUERIES) -> list[Query]:
    """Draws queries; a table of one column gets queries of one."""
    queries = []
    for i in range(num):
        most = min(_MOST, num_columns)
        size = int(rng.integers(min(_FEWEST, most), most + 1))
        columns = rng.choice(num_columns, size, replace=False)
        factors = rng.integers(1, 1 << 62, size) * 2 + 1
        cuts = _CUTS[i % len(_CUTS)]
        queries.append(Query(cuts=cuts, columns=tuple(columns.tolist()), factors=tuple(factors.tolist())))
    return queries


def cells(tables: list[pd.DataFrame], cutter: pd.DataFrame, cuts: int) -> list[np.ndarray]:
    """Returns each table as cells, uint64 [column, row]; missing, and categories unseen, are cells too.

    Args:
      cutter: the table whose quantiles and categories make the cells.
      cuts: cells per number; those of a divisor of it are unions of these.
    """
    parts: list[list[np.ndarray]] = [[] for _ in tables]
    for name in cutter.columns:
        seen = cutter[name]
        if is_numeric(seen):
            known = as_float(seen)
            known = known[~np.isnan(known)]
            edges = np.quantile(known, np.arange(1, cuts) / cuts) if len(known) else np.zeros(0)
            values = [as_float(table[name]) for table in tables]
            codes = [np.where(np.isnan(v), MISSING, np.searchsorted(edges, v)) for v in values]
        else:
            places = {v: CATEGORY + i for i, v in enumerate(sorted(as_text(seen).unique()))}
            codes = [as_text(table[name]).map(places).fillna(UNSEEN).to_numpy() for table in tables]
        for part, code in zip(parts, codes):
            part.append(np.asarray(code).astype(np.uint64))
    return [np.stack(part) for part in parts]


def coarser(codes: np.ndarray, factor: int) -> np.ndarray:
    """Joins every `factor` neighbouring cells of a number."""
    return np.where(codes < MISSING, codes // np.uint64(factor), codes)


def answers(
    targets: pd.DataFrame, tables: list[pd.DataFrame], cutter: pd.DataFrame, queries: list[Query]
) -> list[np.ndarray]:
    """Returns for each table the rows that agree with each target in each query, int64 [query, target]."""
    finest = cells([targets, *tables], cutter, _FINEST)
    coded = {cuts: [coarser(c, _FINEST // cuts) for c in finest] for cuts in {q.cuts for q in queries}}
    found = [np.empty((len(queries), len(targets)), np.int64) for _ in tables]
    for i, query in enumerate(queries):
        factors, columns = np.array(query.factors, np.uint64)[:, None], list(query.columns)
        mine, *theirs = ((c[columns] * factors).sum(axis=0) for c in coded[query.cuts])
        for counts, hashes in zip(found, theirs):
            seen, times = np.unique(hashes, return_counts=True)
            at = np.minimum(np.searchsorted(seen, mine), len(seen) - 1)
            counts[i] = np.where(seen[at] == mine, times[at], 0)
    return found
