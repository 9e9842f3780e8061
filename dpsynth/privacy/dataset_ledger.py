"""What all runs on a table have spent together, over days; refuses to overdraw a lifetime budget.

One SQLite file, of its owner alone, holds a random salt and one line per run. Tables are told apart by a
salted fingerprint of their rows. It is internal: it never leaves with a release, the salt is never logged.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import BudgetExceeded, GuaranteeVoid

if TYPE_CHECKING:
    from dpsynth.data.table import PrivateTable

_PATIENCE = 60.0  # seconds to wait for another process's charge, which takes milliseconds
_TABLES = """
CREATE TABLE IF NOT EXISTS salt (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS charges (
  dataset TEXT NOT NULL, run TEXT NOT NULL, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, cost TEXT NOT NULL,
  PRIMARY KEY (dataset, run)
);
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run costs, in forms that add up. Public.

    Args:
      epsilon, delta: the run's claim; epsilon None for a run without privacy.
      curve: its Renyi curve at `selection.ORDERS`, inf where it has none.
      failure: probability of its failure events.
    """

    epsilon: float | None
    delta: float
    curve: tuple[float, ...] = ()
    failure: float = 0.0

    def dump(self) -> str:
        curve = [value if math.isfinite(value) else None for value in self.curve]
        return json.dumps({**vars(self), "curve": curve}, sort_keys=True)

    @classmethod
    def load(cls, text: str) -> Cost:
        plain = json.loads(text)
        curve = tuple(math.inf if value is None else value for value in plain.pop("curve"))
        return cls(curve=curve, **plain)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was spent on one table.

    Args:
      epsilon: of publishing everything that private runs made, at `delta`.
      num_runs: private runs (a selection counts as one).
      num_open: runs without privacy, of which nothing may leave; they are in no sum.
    """

    epsilon: float
    delta: float
    num_runs: int
    num_open: int

    def text(self) -> str:
        more = f" Nothing of {self.num_open} runs without privacy may leave." if self.num_open else ""
        return (
            f"Spent on this table so far: epsilon={self.epsilon:.4g} at delta={self.delta:g}, "
            f"over {self.num_runs} {'run' if self.num_runs == 1 else 'runs'}.{more}"
        )


def default_path() -> Path:
    """Returns the user's own file: `$XDG_DATA_HOME/dpsynth/spent.sqlite`."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "dpsynth" / "spent.sqlite"


def total(costs: Sequence[Cost], delta: float) -> float:
    """Composes the costs of runs on one table.

    Formal guarantee: an upper bound on the epsilon, at `delta`, of publishing all of them, where each may
    depend on the results of those before it. The smaller of two bounds: the sum of their epsilons, if their
    deltas add up to at most `delta`; their Renyi curves, added.
    Edge cases: no runs -> 0; deltas that leave nothing -> infinity.
    Source: Dwork & Roth (2014), Theorem 3.16; Mironov (2017), Proposition 1.
    """
    from opacus.accountants.analysis import rdp

    from dpsynth.privacy.accounting import SLACK, round_up
    from dpsynth.privacy.selection import ORDERS

    if not costs:
        return 0.0
    basic = sum(cost.epsilon for cost in costs)
    if sum(cost.delta for cost in costs) > delta * (1 + 1e-9):
        basic = math.inf
    left = delta - sum(cost.failure for cost in costs)
    if left <= 0.0:
        return basic
    curve = [sum(values) for values in zip(*(cost.curve for cost in costs))]
    usable = [(order, value) for order, value in zip(ORDERS, curve) if math.isfinite(value)]
    if not usable:
        return basic
    orders, values = zip(*usable)
    found = rdp.get_privacy_spent(orders=list(orders), rdp=list(values), delta=left)[0]
    return min(basic, round_up(float(found) + SLACK))


class DatasetLedger:
    """The file of what was spent.

    Formal guarantee: `charge` returns after the charge is on disk, and only if the total of all charges on
    that table, this one included, is within the lifetime budget. Charges of parallel processes are put in
    order by SQLite's write lock. A run is charged once, however often it is resumed.
    Edge cases: a table that differs by one value or row is another table here; whoever changes the table must
    add up by hand. The order of rows does not matter.
    """

    def __init__(self, path: str | Path | None = None):
        self.path = Path(path) if path is not None else default_path()

    def key(self, table: PrivateTable) -> str:
        """Returns the table's salted fingerprint."""
        with self._open() as database:
            (salt,) = database.execute("SELECT value FROM salt").fetchone()
        return table.fingerprint(salt)

    def charge(
        self, key: str, run: str, cost: Cost, *, delta: float, lifetime_epsilon: float | None = None
    ) -> Spent:
        """Charges a run to a table, once.

        Args:
          key: of the table.
          run: a name that stays the same when the run is resumed.
          delta: at which the total is stated and held against the lifetime budget.
        Raises:
          BudgetExceeded: the total would be above the lifetime budget; nothing was charged.
          GuaranteeVoid: the run was charged with another cost.
        """
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")  # from here on no other process charges
            charged = self._costs(database, key)
            known = charged.get(run)
            if known is None:
                before, charged = self._spent(charged, delta), {**charged, run: cost}
            elif known.dump() != cost.dump():
                raise GuaranteeVoid(f"Run {run} was charged with another cost. Start a run of its own.")
            spent = self._spent(charged, delta)
            if known is None:
                limit = lifetime_epsilon if lifetime_epsilon is not None else math.inf
                if cost.epsilon is not None and spent.epsilon > limit:
                    raise BudgetExceeded(
                        f"With this run, epsilon={spent.epsilon:.4g} at delta={delta:g} would be spent on "
                        f"this table, of privacy.lifetime_epsilon={limit:g}; {before.epsilon:.4g} is spent "
                        "already. Lower privacy.epsilon. Nothing was read."
                    )
                row = (key, run, cost.dump())
                database.execute("INSERT INTO charges (dataset, run, cost) VALUES (?, ?, ?)", row)
            database.execute("COMMIT")
            return spent

    def spent(self, key: str, delta: float) -> Spent:
        """Returns what was spent on a table."""
        with self._open() as database:
            return self._spent(self._costs(database, key), delta)

    @staticmethod
    def _costs(database: sqlite3.Connection, key: str) -> dict[str, Cost]:
        rows = database.execute("SELECT run, cost FROM charges WHERE dataset = ? ORDER BY rowid", (key,))
        return {run: Cost.load(cost) for run, cost in rows}

    @staticmethod
    def _spent(charged: Mapping[str, Cost], delta: float) -> Spent:
        private = [cost for cost in charged.values() if cost.epsilon is not None]
        epsilon = total(private, delta)
        return Spent(
            epsilon=epsilon, delta=delta, num_runs=len(private), num_open=len(charged) - len(private)
        )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_TABLES)
            database.execute("INSERT OR IGNORE INTO salt VALUES (1, ?)", (secrets.token_bytes(32),))
            yield database


def run_cost(events: Sequence[Any], epsilon: float | None, delta: float) -> Cost:
    """Returns what a run with these planned events costs.

    Args:
      epsilon: the run's claim; None without privacy.
    """
    from dpsynth.privacy.accounting import Ingredients
    from dpsynth.privacy.selection import ORDERS, renyi_curve

    if epsilon is None:
        return Cost(epsilon=None, delta=0.0)
    parts = Ingredients.of(events)
    curve = tuple(float(value) for value in renyi_curve(parts, ORDERS))
    return Cost(epsilon=epsilon, delta=delta, curve=curve, failure=parts.failure)
