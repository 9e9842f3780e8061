"""Values that were bought: all that a generator may know about the private table before training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from dpsynth.data.bought.grid import Cells, Domain, coarsen, fine_domain, project_to_simplex
from dpsynth.data.bought.merging import merge_alike, merge_neighbours, merge_rare
from dpsynth.data.bought.partition import Codes, Partition
from dpsynth.data.bought.smoothing import smoothed
from dpsynth.data.schema import Schema

STRATA = "\0@"  # before a column's name: the axis of its strata
GROUPS = "\0~"  # before a column's name: the axis of groups of its cells
MAX_STRATA = 6  # cells of a target that are strata themselves
_NUMERIC_STRATA = 4


@dataclass(frozen=True, kw_only=True)
class Question:
    """Asks for the joint histogram of rows over the coarse cells of one or more columns. Public.

    Args:
      columns: names of columns, or `@name` for the strata of a column, or `~name` for groups of its cells.
      partition: its leaves are the first axis, before those of the columns.
    """

    columns: tuple[str, ...]
    partition: Partition | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Marginal:
    """A bought histogram over the cells of one or more columns.

    Args:
      columns: names, in the order of the axes of `counts`.
      counts: float64, noisy; may be negative, sums to the noisy number of rows.
      noise_stddev: standard deviation of the noise in each count; 0 where none was added.
      event: of the ledger, which paid for it; empty where nothing was bought.
      partition: its leaves are the first axis, before those of the columns.
    """

    columns: tuple[str, ...]
    counts: np.ndarray
    noise_stddev: float
    event: str = ""
    partition: Partition | None = None

    def to_dict(self) -> dict[str, Any]:
        divided = {} if self.partition is None else {"partition": self.partition.to_dict()}
        return divided | {
            "columns": list(self.columns),
            "shape": list(self.counts.shape),
            "counts": self.counts.ravel().tolist(),
            "noise_stddev": self.noise_stddev,
            "event": self.event,
        }

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> Marginal:
        counts = np.array(payload["counts"], dtype=np.float64).reshape(payload["shape"])
        return cls(
            columns=tuple(payload["columns"]),
            counts=counts,
            noise_stddev=payload["noise_stddev"],
            event=payload.get("event", ""),
            partition=Partition.from_dict(payload["partition"]) if "partition" in payload else None,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """The bought facts about a table; released with it.

    Args:
      num_units: noisy or declared number of privacy units.
      num_rows: noisy or declared number of rows; equals `num_units` where the row is the unit.
      domain: coarse cells of the modelled columns: what models use.
      fine: 1-way histogram of each modelled column over its fine cells.
      marginals: further histograms, over the cells of `domain`.
      crossed: histogram of a column's fine cells by the target's cells, where they were bought.
      max_groups: groups of cells on an axis `~column`, as many as the noise of joint histograms allows.
    """

    num_units: float
    num_rows: float
    domain: Domain
    fine: Mapping[str, Marginal]
    marginals: tuple[Marginal, ...] = field(default=())
    crossed: Mapping[str, Marginal] = field(default_factory=dict)
    max_groups: int = 32

    def fine_probabilities(self, column: str) -> np.ndarray:
        """The bought 1-way of a column over its fine cells: a number's smoothed, else on the simplex."""
        if column not in self._fine:
            self._fine[column] = self._fine_shares(column)
        return self._fine[column]

    @cached_property
    def _fine(self) -> dict[str, np.ndarray]:
        return {}

    def _fine_shares(self, column: str) -> np.ndarray:
        total, cells, bought = max(self.num_rows, 1.0), self.domain[column], self.fine[column]
        shares = project_to_simplex(bought.counts, total) / total
        if cells.edges is None or bought.noise_stddev == 0.0:
            return shares
        num = cells.num_present
        missing = float(bought.counts[num:].sum().clip(0.0, total))
        present = smoothed(bought.counts[:num], np.diff(cells.edges), bought.noise_stddev, total - missing)
        return np.append(present, np.full(len(shares) - num, missing)) / total

    def probabilities(self, column: str) -> np.ndarray:
        """The bought 1-way of a column over its coarse cells: sums of the fine probabilities."""
        cells = self.domain[column]
        return np.bincount(cells.group_map, weights=self.fine_probabilities(column), minlength=cells.size)

    def axis(self, name: str) -> tuple[str, np.ndarray]:
        """The column behind an axis of a histogram, and the code on that axis of each of its coarse cells.

        An axis STRATA + column counts strata: the column's cells where they are few, else groups of
        neighbours alike in mass. An axis GROUPS + column counts at most `max_groups` groups of cells (twice
        as many where cells have no order, since their rarest alone can be merged).
        """
        if name not in self._axes:
            self._axes[name] = self._make_axis(name)
        return self._axes[name]

    def shape(self, asked: Question | Marginal) -> tuple[int, ...]:
        """Cells of each axis of the answer to a question; public."""
        leaves = () if asked.partition is None else (asked.partition.size,)
        return (*leaves, *(int(self.axis(name)[1].max()) + 1 for name in asked.columns))

    def places(self, asked: Question | Marginal, codes: Codes, num: int) -> np.ndarray:
        """The cell of each of `num` rows in the answer to a question, counted through, int64 [row]."""
        leaves = np.zeros(num, np.int64) if asked.partition is None else asked.partition.leaves(codes, num)
        flat = leaves
        for name, size in zip(asked.columns, self.shape(asked)[asked.partition is not None :]):
            column, groups = self.axis(name)
            flat = flat * size + groups[codes(column)]
        return flat

    @cached_property
    def _axes(self) -> dict[str, tuple[str, np.ndarray]]:
        return {}

    def _make_axis(self, name: str) -> tuple[str, np.ndarray]:
        kind = next((mark for mark in (STRATA, GROUPS) if name.startswith(mark)), "")  # no name has a NUL
        name = name.removeprefix(kind)
        cells = self.domain[name]
        ordered = cells.edges is not None or getattr(cells.column, "ordered", False)
        most = {STRATA: MAX_STRATA, GROUPS: self.max_groups * (1 if ordered else 2)}.get(kind, cells.size)
        if cells.size <= most:
            return name, np.arange(cells.size)
        present = cells.size - cells.missing
        shares = self.probabilities(name)[:present]
        if kind == STRATA:
            codes = merge_neighbours(shares, _NUMERIC_STRATA, 0.0)
        elif not ordered:
            codes = merge_rare(shares, most, 0.0)
        elif name in self.crossed:
            codes = self._alike(cells, most)
        else:
            codes = merge_neighbours(shares, most, 0.0)
        return name, np.append(codes, [codes.max() + 1] if cells.missing else []).astype(np.int64)

    def _alike(self, cells: Cells, most: int) -> np.ndarray:
        """Groups of an ordered column's cells that differ in density or target."""
        fine, group = self.crossed[cells.column.name], cells.group_map[: cells.num_present]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        widths = np.ones(len(group)) if cells.edges is None else np.diff(cells.edges)
        return merge_alike(
            np.add.reduceat(fine.counts[: len(group)], starts, axis=0),
            np.add.reduceat(widths, starts),
            fine.noise_stddev,
            most,
            np.diff(starts, append=len(group)),
        )

    @classmethod
    def made_up(cls, schema: Schema, *, max_cells: int = 32) -> Statistics:
        """Statistics of no table, every cell equally full: shapes to price a model before anything is bought.

        Bounds and values that the schema leaves open are made up as well.
        """
        open_bounds = {name: (0.0, 1.0) for name, kind in schema.undeclared if kind == "bounds"}
        open_values = {
            name: tuple(map(str, range(8))) for name, kind in schema.undeclared if kind == "values"
        }
        domain = fine_domain(schema, open_bounds, open_values)
        fine = {
            cells.column.name: Marginal(
                columns=(cells.column.name,), counts=np.full(cells.fine_size, 1e6), noise_stddev=0.0
            )
            for cells in domain.cells
        }
        coarse = coarsen(domain, fine, max_cells, num_rows=1e6 * max(len(domain.cells), 1))
        return cls(num_units=1e6, num_rows=1e6, domain=coarse, fine=fine)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form for `release.json`; the schema is stored beside it."""
        return {
            "num_units": self.num_units,
            "num_rows": self.num_rows,
            "domain": self.domain.to_dict(),
            "fine": {name: marginal.to_dict() for name, marginal in self.fine.items()},
            "marginals": [marginal.to_dict() for marginal in self.marginals],
            "crossed": {name: marginal.to_dict() for name, marginal in self.crossed.items()},
            "max_groups": self.max_groups,
        }

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any], schema: Schema) -> Statistics:
        return cls(
            num_units=payload["num_units"],
            num_rows=payload["num_rows"],
            domain=Domain.from_dict(payload["domain"], schema),
            fine={name: Marginal.from_dict(item) for name, item in payload["fine"].items()},
            marginals=tuple(Marginal.from_dict(item) for item in payload["marginals"]),
            crossed={name: Marginal.from_dict(item) for name, item in payload.get("crossed", {}).items()},
            max_groups=payload.get("max_groups", 32),
        )
