"""Mixed-type rows as points, and blocked nearest neighbours among them.

The map is fitted on the synthetic table only: what is public to the attacker. Numbers become
arcsinh((x - median) / spread), which keeps outliers apart without letting them rule; each category is a
corner of a simplex with edges of length 1, so that a mismatch counts like one spread. Missing is a category.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dpsynth.audit.attacks.model import ReleasedModel

_WIDE = 48  # categories beyond this many are hashed to random signs, at equal expected distances
_BLOCK = 1 << 24  # entries of a distance block: 64 MB of float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """How columns turn into coordinates."""

    numeric: dict[str, tuple[float, float]]  # median, spread
    categories: dict[str, dict[str, int]]

    @classmethod
    def fit(cls, synthetic: pd.DataFrame) -> Space:
        """Reads medians, spreads and categories off the synthetic table."""
        numeric, categories = {}, {}
        for name in synthetic.columns:
            values = synthetic[name]
            if is_numeric(values):
                numbers = as_float(values)
                known = numbers[~np.isnan(numbers)]
                if len(known) == 0:
                    numeric[name] = (0.0, 1.0)
                    continue
                low, middle, high = np.quantile(known, [0.1, 0.5, 0.9])
                spread = max((high - low) / 2.563, known.std() / 10)  # of a normal, unless heaped
                numeric[name] = (float(middle), float(spread) if spread > 0 else 1.0)
            else:
                categories[name] = {v: i for i, v in enumerate(sorted(as_text(values).unique()))}
        return cls(numeric=numeric, categories=categories)

    def embed(self, table: pd.DataFrame) -> np.ndarray:
        """Returns one float32 point per row; values unseen in the synthetic table lie apart from all seen."""
        parts = []
        for name, (middle, spread) in self.numeric.items():
            z = np.arcsinh((as_float(table[name]) - middle) / spread)
            missing = np.isnan(z)
            parts.append(np.where(missing, 0.0, z)[:, None])
            parts.append(missing.astype(float)[:, None])
        for name, known in self.categories.items():
            codes = as_text(table[name]).map(known).fillna(len(known)).to_numpy(dtype=int)
            parts.append(_corners(len(known) + 1)[codes])
        return np.concatenate(parts, axis=1).astype(np.float32)


def is_numeric(values: pd.Series) -> bool:
    """Numbers and datetimes are numeric; booleans and texts are categories."""
    return values.dtype.kind in "iufM" or str(values.dtype).startswith(("Int", "Float", "datetime"))


def as_text(values: pd.Series) -> pd.Series:
    """Returns texts; missing ones become an empty text, a category of its own."""
    import pandas as pd

    codes, seen = pd.factorize(values)  # each category is turned to text once
    texts = np.array([*(str(value) for value in seen), ""], dtype=object)
    return pd.Series(texts[codes], index=values.index, dtype=object)


def as_float(values: pd.Series) -> np.ndarray:
    """Returns float64 with NaN for missing or unreadable; datetimes in seconds."""
    import pandas as pd

    if values.dtype.kind == "M" or str(values.dtype).startswith("datetime"):
        return np.where(values.isna(), np.nan, values.astype("int64").to_numpy(float) / 1e9)
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def _corners(size: int) -> np.ndarray:
    if size <= _WIDE:
        return np.eye(size) / np.sqrt(2)
    signs = np.random.default_rng(size).choice([-1.0, 1.0], (size, _WIDE))
    return signs / np.sqrt(2 * _WIDE)


def squared_distances(queries: np.ndarray, base: np.ndarray, base_norms: np.ndarray) -> np.ndarray:
    """Returns [query, base] squared distances, never negative."""
    d = queries @ base.T
    d *= -2
    d += base_norms
    d += (queries**2).sum(axis=1, keepdims=True)
    return np.maximum(d, 0.0, out=d)


def blocks(num_queries: int, num_base: int) -> list[slice]:
    """Cuts queries so that one block of distances fits in the cache budget."""
    rows = max(1, _BLOCK // max(1, num_base))
    return [slice(i, min(i + rows, num_queries)) for i in range(0, num_queries, rows)]


def nearest(queries: np.ndarray, base: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (distances, indices) of the `k` nearest base points of each query, nearest first."""
    k, norms = min(k, len(base)), (base**2).sum(axis=1)
    distances, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    for block in blocks(len(queries), len(base)):
        d = squared_distances(queries[block], base, norms)
        near = (
            np.argpartition(d, k - 1, axis=1)[:, :k] if k < len(base) else np.tile(np.arange(k), (len(d), 1))
        )
        # Recomputed without cancellation, so that an exact copy lies at distance 0.
        exact = ((queries[block][:, None, :] - base[near]) ** 2).sum(axis=2)
        order = np.argsort(exact, axis=1)
        distances[block] = np.sqrt(np.take_along_axis(exact, order, axis=1))
        indices[block] = np.take_along_axis(near, order, axis=1)
    return distances, indices


def log_density(queries: np.ndarray, base: np.ndarray, bandwidth: float) -> np.ndarray:
    """Returns the log of the mean Gaussian kernel over the base; no normalisation (it cancels in ratios)."""
    out, norms = np.empty(len(queries)), (base**2).sum(axis=1)
    for block in blocks(len(queries), len(base)):
        d = squared_distances(queries[block], base, norms)
        d *= -0.5 / bandwidth**2
        top = d.max(axis=1, keepdims=True)
        out[block] = top[:, 0] + np.log(np.exp(d - top).mean(axis=1))
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """What an attacker sees, as points; expensive parts are computed once and shared by the attacks.

    Args:
      targets, synthetic, reference: points; `reference` is None without a sample of the population.
      tables: the same three as tables, for attacks that want them.
      model: the released generator, or None.
    """

    targets: np.ndarray
    synthetic: np.ndarray
    reference: np.ndarray | None
    tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame | None]
    model: ReleasedModel | None = None

    K = 50

    @classmethod
    def of(
        cls,
        targets: pd.DataFrame,
        synthetic: pd.DataFrame,
        reference: pd.DataFrame | None = None,
        model: ReleasedModel | None = None,
    ) -> World:
        """Embeds all tables in the space of the synthetic one, on its columns."""
        columns = list(synthetic.columns)
        space = Space.fit(synthetic)
        tables = (targets[columns], synthetic, None if reference is None else reference[columns])
        points = [None if t is None else space.embed(t) for t in tables]
        return cls(targets=points[0], synthetic=points[1], reference=points[2], tables=tables, model=model)

    @cached_property
    def to_synthetic(self) -> tuple[np.ndarray, np.ndarray]:
        return nearest(self.targets, self.synthetic, self.K)

    @cached_property
    def to_reference(self) -> tuple[np.ndarray, np.ndarray]:
        return nearest(self.targets, self.reference, self.K)

    @cached_property
    def bandwidth(self) -> float:
        """Median distance of synthetic rows to their 10th neighbour: local enough for copies, never 0."""
        rows = self.synthetic[:: max(1, len(self.synthetic) // 500)]
        near = nearest(rows, self.synthetic, 11)[0][:, -1]
        return float(max(np.median(near), 1e-3))

    @cached_property
    def synthetic_density(self) -> np.ndarray:
        return log_density(self.targets, self.synthetic, self.bandwidth)

    @cached_property
    def reference_density(self) -> np.ndarray:
        """0 without a reference: scores then go uncalibrated."""
        if self.reference is None:
            return np.zeros(len(self.targets))
        return log_density(self.targets, self.reference, self.bandwidth)

    @cached_property
    def seen_by_model(self) -> tuple[np.ndarray, Tensor, Tensor]:
        return self.model.look(self.tables[0])

    @cached_property
    def columns(self) -> list[str]:
        return list(self.tables[1].columns)

    def codes(self, which: int) -> np.ndarray:
        """Returns table `which` as numbers for trees: a category by its rank in the synthetic table."""
        synthetic, table = self.tables[1], self.tables[which]
        parts = []
        for name in self.columns:
            if is_numeric(synthetic[name]):
                parts.append(as_float(table[name]))
            else:
                # Ties by name: in order of appearance they would tell where in the table a row stood.
                counts = as_text(synthetic[name]).value_counts().sort_index()
                known = {v: i for i, v in enumerate(counts.sort_values(kind="stable").index)}
                parts.append(as_text(table[name]).map(known).fillna(-1).to_numpy(float))
        return np.stack(parts, axis=1)
