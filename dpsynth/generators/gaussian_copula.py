"""A Gaussian copula: histograms of single columns tied together by correlations, bought or declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import special

from dpsynth.data.bought.denoising import denoised
from dpsynth.data.bought.grid import Cells, coarsen
from dpsynth.data.bought.statistics import GROUPS, Marginal, Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Schema
from dpsynth.data.units.encoder import Encoder, OfRows
from dpsynth.errors import InvalidInput, Problem
from dpsynth.generators.base import check_settings, collect_rows
from dpsynth.generators.parts.networkless import Untrained

if TYPE_CHECKING:
    from torch import Tensor


_LEAST = 1e-6  # eigenvalue of a correlation matrix


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the copula.

    Args:
      declared: take `marginals` and `correlations` as they stand and buy neither: a simulator at epsilon 0.
      marginals: of declared columns, by name: mean and standard deviation of a number (a normal, cut off at
        the column's bounds), or the shares of a category's values, the missing one last. Columns without are
        uniform.
      correlations: of the normals behind two columns, by name and name. Pairs without are independent.
      sampling_batch_size: rows made at once.
    """

    fits: ClassVar[type[Encoder]] = OfRows
    declared: bool = False
    marginals: dict[str, tuple[float, ...]] = field(default_factory=dict)
    correlations: dict[str, dict[str, float]] = field(default_factory=dict)
    sampling_batch_size: int = 50_000

    def __post_init__(self) -> None:
        values = [value for row in self.correlations.values() for value in row.values()]
        given = bool(self.marginals or self.correlations)
        check_settings(
            (self.sampling_batch_size > 0, "Expected sampling_batch_size above 0."),
            (all(-1 <= value <= 1 for value in values), "Expected correlations in [-1, 1]."),
            (self.declared or not given, "Expected declared=true beside marginals or correlations."),
        )


class Generator(Untrained):
    """Draws correlated normals and reads each column off its histogram at their ranks.

    Formal guarantee: post-processing of bought statistics; reads no private unit. With `declared`, uses the
    schema and the configuration alone, so it spends nothing but what the schema leaves open.
    Source: Sklar (1959); Li, Xiong & Jiang (2014), Differentially private synthesization of multi-dimensional
      data using copula functions (DPCopula). Deviations: correlations come from noisy joint histograms by
      their normal scores, corrected for the cells; categories without order are ranked by the target where
      it was bought beside them, else as declared.
    """

    name: ClassVar[str] = "gaussian_copula"
    encoder_type: ClassVar[type[TableEncoder]] = TableEncoder
    refines: ClassVar[bool] = False

    @classmethod
    def measures_with(cls, config: Config) -> bool:
        """Whether histograms of single columns are bought."""
        return not config.declared

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        if not config.declared:
            return TableEncoder(schema, statistics)
        return TableEncoder(schema, declared_statistics(config, statistics), declared=True)

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[Question, ...]:
        names = [column.name for column in schema.modelled]
        if config.declared:
            return ()
        return tuple(Question(columns=(GROUPS + a, GROUPS + b)) for a, b in combinations(names, 2))

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        import torch

        self.config, self.encoder = config, encoder
        statistics = encoder.statistics if config.declared else statistics
        self._names = [segment.column for segment in encoder.layout.segments]
        self._ladders, self._orders = [], []
        for name in self._names:
            order = _order(statistics, name)
            self._orders.append(order)
            self._ladders.append(np.cumsum(statistics.probabilities(name)[order]))
        self._correlations = torch.from_numpy(self._wanted(statistics))

    def _wanted(self, statistics: Statistics) -> np.ndarray:
        places = {name: i for i, name in enumerate(self._names)}
        matrix = np.eye(len(self._names))
        for first, row in self.config.correlations.items():
            for second, value in row.items():
                matrix[places[first], places[second]] = matrix[places[second], places[first]] = value
        for marginal, _ in denoised(statistics) if statistics.marginals else ():
            first, second = (places[name.removeprefix(GROUPS)] for name in marginal.columns[:2])
            if first != second and all(name.startswith(GROUPS) for name in marginal.columns):
                value = _correlation(statistics, marginal)
                matrix[first, second] = matrix[second, first] = value
        return nearest_correlation(matrix)

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        random = np.random.default_rng(seed)
        values, vectors = np.linalg.eigh(self._correlations.numpy())
        root = vectors * np.sqrt(np.maximum(values, 0.0))

        def batch(size: int) -> np.ndarray:
            ranks = special.ndtr(random.standard_normal((size, len(root))) @ root.T)
            rows = np.empty((size, len(root)), dtype=np.float32)
            for index, (ladder, order) in enumerate(zip(self._ladders, self._orders)):
                at = np.searchsorted(ladder, ranks[:, index] * ladder[-1], side="right")
                rows[:, index] = order[np.minimum(at, len(ladder) - 1)]
            return rows

        return collect_rows(
            num,
            batch,
            width=self.encoder.layout.packed_width,
            batch_size=self.config.sampling_batch_size,
            codes=self.encoder.condition_codes(conditions or {}),
        )

    def state(self) -> dict[str, Tensor]:
        return {"correlations": self._correlations.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._correlations = state["correlations"].clone()


def _order(statistics: Statistics, name: str) -> np.ndarray:
    """Cells of a column from low to high; the missing cell is the highest."""
    cells = statistics.domain[name]
    ordered = cells.edges is not None or getattr(cells.column, "ordered", False)
    if ordered or name not in statistics.crossed:
        return np.arange(cells.size)
    crossed = statistics.crossed[name]
    target = np.arange(crossed.counts.shape[1])
    counts = np.zeros((cells.size, len(target)))
    np.add.at(counts, cells.group_map, np.maximum(crossed.counts, 0.0))
    total = counts.sum(1)
    prior = counts.sum(0) / max(total.sum(), 1.0)
    means = ((counts + 10.0 * prior) @ target) / (total + 10.0)
    if cells.missing:
        means[-1] = np.inf
    return np.argsort(means, kind="stable")


def _scores(statistics: Statistics, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the normal behind a column within each code of an axis, and the code's share."""
    name, codes = statistics.axis(axis)
    order = _order(statistics, name)
    shares = statistics.probabilities(name)[order]
    edges = special.ndtri(np.clip(np.concatenate([[0.0], np.cumsum(shares)]), 0.0, 1.0))
    density = np.exp(-0.5 * np.minimum(edges**2, 1e4)) / np.sqrt(2 * np.pi)
    mass = np.bincount(codes[order], weights=shares, minlength=int(codes.max()) + 1)
    sums = np.bincount(codes[order], weights=density[:-1] - density[1:], minlength=len(mass))
    return sums / np.maximum(mass, 1e-12), mass


def _correlation(statistics: Statistics, marginal: Marginal) -> float:
    """Correlation of the normals behind two columns, to first order in it, from their joint histogram.

    Scores s, t of cells have E[s t] = rho var(s) var(t) + O(rho**2), as the first Hermite coefficient of the
    mean of a normal within its cell is its variance.
    """
    (s, p), (t, q) = (_scores(statistics, axis) for axis in marginal.columns)
    shares = marginal.counts / max(statistics.num_rows, 1.0)
    spread = float((p * s**2).sum() * (q * t**2).sum())
    return float(np.clip(s @ shares @ t / max(spread, 1e-6), -0.99, 0.99))


def nearest_correlation(matrix: np.ndarray, rounds: int = 100) -> np.ndarray:
    """The correlation matrix that is nearest to a symmetric one (Frobenius).

    Source: Higham (2002), Computing the nearest correlation matrix, algorithm 3.3 (alternating projections
      with Dykstra's correction); then scaled to an exact unit diagonal.
    """
    found, correction = matrix.copy(), np.zeros_like(matrix)
    for _ in range(rounds):
        values, vectors = np.linalg.eigh(found - correction)
        projected = (vectors * np.maximum(values, _LEAST)) @ vectors.T
        correction = projected - (found - correction)
        before, found = found, projected.copy()
        np.fill_diagonal(found, 1.0)
        if np.abs(found - before).max() < 1e-9:
            break
    values, vectors = np.linalg.eigh(found)
    found = (vectors * np.maximum(values, _LEAST)) @ vectors.T
    scale = 1.0 / np.sqrt(np.diag(found))
    return found * scale[:, None] * scale


def declared_statistics(config: Config, statistics: Statistics) -> Statistics:
    """Statistics of declared marginals; their counts were never bought and follow no data.

    Raises:
      InvalidInput: lists every name and value that does not fit the schema.
    """
    names = statistics.domain.names
    asked = {
        *config.marginals,
        *config.correlations,
        *(n for row in config.correlations.values() for n in row),
    }
    problems = [
        Problem(f"generator: {name}", "is not a modelled column.", f"Choose one of {', '.join(names)}.")
        for name in sorted(asked - set(names))
    ]
    fine = {}
    for cells in statistics.domain.fine.cells:
        name = cells.column.name
        try:
            shares = _declared_shares(cells, config.marginals.get(name))
        except ValueError as error:
            problems.append(Problem(f"generator.marginals.{name}", str(error), "Correct it."))
            continue
        counts = shares * statistics.num_rows
        fine[name] = Marginal(columns=(name,), counts=counts, noise_stddev=0.0)
    if problems:
        raise InvalidInput("the configuration", problems)
    coarse = coarsen(statistics.domain.fine, fine, 256, num_rows=statistics.num_rows)
    return replace(statistics, domain=coarse, fine=fine)


def _declared_shares(cells: Cells, given: tuple[float, ...] | None) -> np.ndarray:
    """Shares of a column's fine cells; without a declaration uniform, with nothing missing."""
    shares = np.zeros(cells.fine_size)
    if cells.edges is None:
        if given is None:
            given = (1.0,) * cells.num_present
        if len(given) not in (cells.num_present, cells.fine_size) or min(given) < 0 or sum(given) <= 0:
            raise ValueError(f"Expected {cells.num_present} shares, none of them negative.")
        shares[: len(given)] = given
        return shares / shares.sum()
    if given is None:
        shares[: cells.num_present] = np.diff(cells.edges)
        return shares / max(shares.sum(), 1e-300)
    if len(given) != 2 or given[1] <= 0:
        raise ValueError("Expected a mean and a standard deviation above 0.")
    mass = np.diff(special.ndtr((cells.edges - given[0]) / given[1]))
    if mass.sum() <= 0:
        raise ValueError("has no mass within the column's bounds.")
    shares[: cells.num_present] = mass / mass.sum()
    return shares
