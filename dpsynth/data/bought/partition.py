"""Partitions of rows: a tree over coarse cells of columns, in which every row lies in exactly one leaf."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dpsynth.data.bought.grid import Domain

Codes = Callable[[str], np.ndarray]  # name of a column -> coarse cell of each row, integers


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Boxes over a few columns: groups of the cells of each. Public, or made of bought answers.

    Args:
      columns: names.
      groups: for each column, the group of each of its coarse cells; groups are numbered from 0.
    """

    columns: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(max(groups) + 1 for groups in self.groups)

    @cached_property
    def size(self) -> int:
        """Number of boxes."""
        return math.prod(self.shape)

    @cached_property
    def _tables(self) -> tuple[np.ndarray, ...]:
        return tuple(np.array(groups, dtype=np.int64) for groups in self.groups)

    def boxes(self, codes: Codes, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The box of each row, int64 [row]; a function of that row alone."""
        flat = np.int64(0)
        for name, table, size in zip(self.columns, self._tables, self.shape):
            flat = flat * size + table[codes(name)[rows]]
        return flat

    def to_dict(self) -> dict[str, Any]:
        return {"columns": list(self.columns), "groups": [list(groups) for groups in self.groups]}

    @classmethod
    def from_dict(cls, payload: Mapping[str, Any]) -> Grid:
        groups = tuple(tuple(map(int, groups)) for groups in payload["groups"])
        return cls(columns=tuple(payload["columns"]), groups=groups)


@dataclass(frozen=True)
class Partition:
    """A tree of grids. Without levels it has one leaf, with everyone in it.

    Formal guarantee: a row lies in exactly one leaf, which follows from that row's cells alone. So a row adds
    1 to one leaf of its histogram, as to any histogram.

    Args:
      levels: each divides every leaf of the level before by a grid, or (None) leaves it whole.
    """

    levels: tuple[tuple[Grid | None, ...], ...] = ()

    def __post_init__(self) -> None:
        for level, wanted in zip(self.levels, [1, *self._sizes]):
            if len(level) != wanted:
                raise ValueError(f"Expected a level of {wanted} grids, one for each leaf; got {len(level)}.")

    @cached_property
    def _sizes(self) -> list[int]:
        return [sum(1 if grid is None else grid.size for grid in level) for level in self.levels]

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._sizes[-1] if self.levels else 1

    def leaves(self, codes: Codes, num: int) -> np.ndarray:
        """The leaf of each of `num` rows, int64 [row]."""
        leaf = np.zeros(num, dtype=np.int64)
        for level in self.levels:
            order = np.argsort(leaf, kind="stable")
            ends = np.searchsorted(leaf[order], np.arange(len(level)), side="right")
            first, begin = 0, 0
            for grid, end in zip(level, ends):
                rows = order[begin:end]
                leaf[rows] = first if grid is None else first + grid.boxes(codes, rows)
                first, begin = first + (1 if grid is None else grid.size), end
        return leaf

    def fits(self, domain: Domain) -> bool:
        """Whether every grid groups the cells of columns of this domain."""
        return all(
            len(grid.columns) == len(set(grid.columns)) == len(grid.groups) > 0
            and all(name in domain.names for name in grid.columns)
            and all(len(g) == domain[name].size for name, g in zip(grid.columns, grid.groups))
            and all(min(groups) == 0 for groups in grid.groups)
            for level in self.levels
            for grid in level
            if grid is not None
        )

    def divided(self, grids: Sequence[Grid | None]) -> Partition:
        """One level more."""
        return Partition((*self.levels, tuple(grids)))

    def to_dict(self) -> list[list[dict[str, Any] | None]]:
        return [[None if grid is None else grid.to_dict() for grid in level] for level in self.levels]

    @classmethod
    def from_dict(cls, payload: Sequence[Sequence[Mapping[str, Any] | None]]) -> Partition:
        levels = [
            tuple(None if grid is None else Grid.from_dict(grid) for grid in level) for level in payload
        ]
        return cls(tuple(levels))
