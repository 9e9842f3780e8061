"""Canaries: units whose membership is decided by a fair coin each, before training.

Independent coins are what makes every later test exact: members and non-members then differ in nothing
but membership. Splitting a table into a training and a test part afterwards comes close, and is not the
same: the number of members is fixed, and the parts may differ in time or source.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema

STRATA = ("random", "vulnerable", "constructed")


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryPlan:
    """Which canaries there are and which of them are trained on. Secret; kept apart from the run.

    Args:
      ids: of the canaries, distinct.
      included: the coins.
      stratum: where each canary comes from: `random`, `vulnerable` or `constructed`.
      salt: makes the commitment hide the coins.
    """

    ids: np.ndarray
    included: np.ndarray
    stratum: np.ndarray
    salt: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.included) == len(self.stratum):
            raise ValueError("Expected ids, included and stratum of equal length.")
        if len(np.unique(self.ids)) != len(self.ids):
            raise ValueError("Expected distinct canary ids.")

    @classmethod
    def draw(
        cls, ids: Sequence, num: int, *, rng: np.random.Generator, stratum: Sequence | None = None
    ) -> CanaryPlan:
        """Picks `num` of `ids` without replacement and flips an independent fair coin for each.

        Args:
          rng: decides the audit, never the noise; whoever trains must not know it.
          stratum: of every id; `random` when not given.
        """
        ids = np.asarray(ids)
        if num > len(ids):
            raise InvalidInput(
                "the canary plan",
                [Problem("audit.m", f"Asks for {num} canaries of {len(ids)} units.", "Lower audit.m.")],
            )
        strata = np.full(len(ids), "random") if stratum is None else np.asarray(stratum)
        chosen = rng.choice(len(ids), num, replace=False)
        return cls(ids=ids[chosen], included=rng.random(num) < 0.5, stratum=strata[chosen])

    @classmethod
    def flip(
        cls, num_units: int, share: float, *, rng: np.random.Generator, constructed: int = 0
    ) -> CanaryPlan:
        """Makes each of the units 0, 1, ... a canary with probability `share`, and flips a fair coin for it.

        Formal guarantee: what happens to one unit does not depend on the others, nor on how many there are.

        Args:
          constructed: made-up units beside them, with the ids -1, -2, ... and a fair coin each.
        """
        extra = rng.random(constructed) < 0.5
        draws = rng.random((num_units, 2))
        chosen = np.flatnonzero(draws[:, 0] < share)
        coins = draws[chosen, 1] < 0.5
        return cls(
            ids=np.concatenate([chosen, -1 - np.arange(constructed)]),
            included=np.concatenate([coins, extra]),
            stratum=np.repeat(["random", "constructed"], [len(chosen), constructed]),
        )

    def with_vulnerable(self, score: np.ndarray, share: float = 0.2) -> CanaryPlan:
        """Returns a plan in which the `share` of natural canaries of the highest score are `vulnerable`.

        Formal guarantee: ids and coins stay as they are. The stratum is for the audit alone; whom to flip a
        coin for must not follow such a ranking, since one unit more would change it for others.

        Args:
          score: of the natural canaries, in the order of the plan; private. NaN is never vulnerable.
        """
        natural = np.flatnonzero(self.stratum != "constructed")
        stratum = self.stratum.astype("<U11")
        if np.isfinite(score).any():
            stratum[natural[score > np.nanquantile(score, 1 - share)]] = "vulnerable"
        return replace(self, stratum=stratum)

    def made_up(self, schema: Schema, like: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
        """Returns (the constructed rows, their coins), the same whenever the plan is read again.

        Args:
          like: private; only its columns and dtypes are read.
        """
        from dpsynth.audit.constructed import made_up

        coins = self.included[self.stratum == "constructed"]
        seed = int.from_bytes(hashlib.sha256(f"constructed {self.salt}".encode()).digest())
        return made_up(schema, len(coins), like, rng=np.random.default_rng(seed)), coins

    @property
    def digest(self) -> str:
        """SHA-256 that commits to ids and coins and reveals neither; goes into the ledger."""
        body = json.dumps(
            [self.salt, [str(i) for i in self.ids], self.included.astype(int).tolist(), self.stratum.tolist()]
        )
        return hashlib.sha256(body.encode()).hexdigest()

    def split(
        self, table: pd.DataFrame, units: np.ndarray | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Returns (rows to train on, rows held out): what is no canary is trained on.

        Args:
          units: the unit of each row; the index of `table` when None.
        """
        out = np.isin(np.asarray(table.index if units is None else units), self.ids[~self.included])
        return table[~out], table[out]

    def targets(
        self, table: pd.DataFrame, units: np.ndarray | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Returns (canaries trained on, canaries held out)."""
        key = np.asarray(table.index if units is None else units)
        return table[np.isin(key, self.ids[self.included])], table[np.isin(key, self.ids[~self.included])]

    def dump(self, path: str | Path) -> None:
        """Writes the plan as JSON; keep it where no attacker and no training job reads it."""
        body = {
            "ids": self.ids.tolist(),
            "included": self.included.astype(int).tolist(),
            "stratum": self.stratum.tolist(),
            "salt": self.salt,
        }
        Path(path).write_text(json.dumps(body), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> CanaryPlan:
        """Reads what `dump` wrote."""
        body = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(
            ids=np.asarray(body["ids"]),
            included=np.asarray(body["included"], bool),
            stratum=np.asarray(body["stratum"]),
            salt=body["salt"],
        )


def row_hashes(table: pd.DataFrame, columns: Sequence[str] | None = None) -> np.ndarray:
    """Returns a 64-bit hash per row, the same for equal rows of any dtype; missing values are equal.

    1, 1.0 and "1" agree: a file that went through CSV must match the one that did not.
    """
    table = table if columns is None else table[list(columns)]
    total = np.zeros(len(table), dtype=np.uint64)
    for _, column in table.items():
        total = total * np.uint64(0x9E3779B97F4A7C15) + _cell_hashes(column)  # modulo 2**64
        total ^= total >> np.uint64(29)
    return total


def _cell_hashes(column: pd.Series) -> np.ndarray:
    """Hashes numbers, and texts that are numbers, by value to nine decimals; everything else as text."""
    import pandas as pd

    if column.dtype.kind in "iuf" or str(column.dtype).startswith(("Int", "Float")):
        numbers = column.to_numpy(dtype=float, na_value=np.nan)
    elif column.dtype.kind in "bM" or str(column.dtype).startswith(("datetime", "category")):
        numbers = np.full(len(column), np.nan)
    else:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    known = ~np.isnan(numbers)
    hashes = np.empty(len(column), dtype=np.uint64)
    hashes[known] = pd.util.hash_array(np.round(numbers[known], 9) + 0.0)  # no negative zero
    rest = column[~known].astype(object)
    texts = rest.where(rest.notna(), "").map(str).to_numpy(dtype=object)
    hashes[~known] = pd.util.hash_array(texts)
    return hashes
