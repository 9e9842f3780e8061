"""Who is attacked: members and non-members in strata, balanced and thinned by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dpsynth.audit.configs import ReleaseConfig
from dpsynth.audit.inputs import MIN_TARGETS
from dpsynth.audit.vulnerability import most_vulnerable

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Rows to attack, with what is known about each.

    Args:
      table: the rows.
      included: whether the release was trained on them.
      ids: of the rows in the tables that they come from.
      strata: masks by name; `random` speaks of everybody, the others of those most at risk.
    """

    table: pd.DataFrame
    included: np.ndarray
    ids: np.ndarray
    strata: Mapping[str, np.ndarray]

    @property
    def random(self) -> np.ndarray:
        """Marks targets drawn from everybody by chance alone."""
        return self.strata["random"]

    @property
    def stratum(self) -> np.ndarray:
        """The last stratum of each target: the one that says most."""
        found = np.full(len(self.ids), "random", dtype=object)
        for name, mask in self.strata.items():
            found[mask] = name
        return found

    @property
    def tested(self) -> dict[str, np.ndarray]:
        """Strata with two targets or more on each side."""
        sides = (self.included, ~self.included)
        return {n: mask for n, mask in self.strata.items() if min(sum(mask & s) for s in sides) > 1}


def choose(
    members: pd.DataFrame,
    nonmembers: pd.DataFrame,
    labels: np.ndarray | None,
    config: ReleaseConfig,
    rng: np.random.Generator,
) -> Targets:
    """Chooses at most `config.max_targets` natural targets by chance, and all that a plan labels otherwise.

    Args:
      labels: of members, then of non-members: `random`, `vulnerable` or `constructed`, as a canary plan has
        it. The most isolated of the chosen targets are the vulnerable ones where no label says so.
    """
    import pandas as pd

    num = len(members) + len(nonmembers)
    labels = np.full(num, "random") if labels is None else np.asarray(labels)
    if len(labels) != num:
        raise ValueError(f"Expected a stratum for each of {num} targets, got {len(labels)}.")
    included, made_up = np.arange(num) < len(members), labels == "constructed"
    chosen = np.zeros(num, bool)
    for side in (included, ~included):
        pool = np.flatnonzero(side & ~made_up)
        chosen[rng.permutation(pool)[: config.max_targets // 2]] = True
    keep = chosen | (labels != "random")
    table = pd.concat([members, nonmembers], ignore_index=True)[keep].reset_index(drop=True)
    chosen, labels = chosen[keep], labels[keep]
    isolated = labels == "vulnerable"
    if not isolated.any():
        isolated[chosen] = most_vulnerable(table[chosen], share=config.vulnerable_share)
    strata = {"random": chosen}
    if isolated.sum() >= MIN_TARGETS:
        strata["vulnerable"] = isolated
    if made_up.any():
        strata["constructed"] = labels == "constructed"
    ids = np.concatenate([members.index, nonmembers.index])[keep]
    return Targets(table=table, included=included[keep], ids=ids, strata=strata)
