"""What all runs on a table have spent together, over days; refuses to overdraw a lifetime budget.

One SQLite file, of its owner alone, holds a random salt and one line per run. Tables are told apart by a name
that the user gave, or by salted digests of their columns. It is internal: it never leaves with a release, the
salt is never logged.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.data.wording import up
from dpsynth.errors import BudgetExceeded, GuaranteeVoid
from dpsynth.privacy.many_runs.costs import Cost, Spent, total

if TYPE_CHECKING:
    from dpsynth.data.tables.table import PrivateTable

_PATIENCE = 60.0  # seconds to wait for another process's charge, which takes milliseconds
_VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS salt (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS charges (
  dataset TEXT NOT NULL, run TEXT NOT NULL, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, cost TEXT NOT NULL,
  PRIMARY KEY (dataset, run)
);
CREATE TABLE IF NOT EXISTS columns (dataset TEXT NOT NULL, digests TEXT NOT NULL, UNIQUE (dataset, digests));
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, dataset TEXT NOT NULL UNIQUE);
"""


def default_path() -> Path:
    """Returns the user's own file: `$XDG_DATA_HOME/dpsynth/spent.sqlite`."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "dpsynth" / "spent.sqlite"


class DatasetLedger:
    """The file of what was spent.

    Formal guarantee: `charge` returns after the charge is on disk, and only if the total of all charges on
    that table, this one included, is within the lifetime budget. Charges of parallel processes are put in
    order by SQLite's write lock. A run is charged once, however often it is resumed. A store that lost a
    charge is refused, as far as its list of runs (beside it) or the runs that `charge` is told of know.
    """

    def __init__(self, path: str | Path | None = None):
        self.path = (Path(path) if path is not None else default_path()).absolute()

    def key(self, table: PrivateTable, name: str | None = None) -> str:
        """Returns the account of a table: of its name, or of a table with which it shares most columns.

        Two tables are one here when more than half of the columns of the narrower one hold the same values as
        columns of the other, whatever they are called and in which order rows and columns stand. So kinds,
        clipping, dropped, renamed and added columns do not give a fresh budget.
        Edge cases: rows that are added, left out or changed make another table: then a name is what keeps the
        account. Tables of different people match if most of their columns happen to hold the same values.

        Args:
          name: the user's own, public; equal names are one account, whatever the tables hold.
        Raises:
          GuaranteeVoid: the table is known by another name.
        """
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            (salt,) = database.execute("SELECT value FROM salt").fetchone()
            digests = [hmac.new(salt, d.encode(), hashlib.sha256).hexdigest() for d in table.columns()]
            known = database.execute("SELECT dataset, digests FROM columns ORDER BY rowid").fetchall()
            names = dict(database.execute("SELECT name, dataset FROM names"))
            alike = dict.fromkeys(d for d, kept in known if _one_table(digests, json.loads(kept)))
            named = {dataset: kept for kept, dataset in names.items() if dataset in alike or kept == name}
            if called := sorted({*named.values()} - {name}, key=str):
                if name is not None or len(called) > 1:
                    raise GuaranteeVoid(
                        f"This table was charged as privacy.dataset={called[0]!r} before. Call it so: "
                        "another name would give it a fresh budget."
                    )
            alike = {**dict.fromkeys(named), **alike}
            account = next(iter(alike), secrets.token_hex(16))
            for other in list(alike)[1:]:  # they turn out to be one table
                for kind in ("charges", "columns"):
                    database.execute(
                        f"UPDATE OR IGNORE {kind} SET dataset = ? WHERE dataset = ?", (account, other)
                    )
            row = (account, json.dumps(sorted(digests)))
            database.execute("INSERT OR IGNORE INTO columns VALUES (?, ?)", row)
            if name is not None:
                database.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (name, account))
            database.execute("COMMIT")
        return account

    def charge(
        self,
        key: str,
        run: str,
        cost: Cost,
        *,
        delta: float,
        lifetime_epsilon: float | None = None,
        witnesses: Iterable[str] = (),
    ) -> Spent:
        """Charges a run to a table, once.

        Args:
          key: of the table.
          run: a name that stays the same when the run is resumed.
          delta: at which the total is stated and held against the lifetime budget.
          witnesses: runs that were charged here, as they say themselves.
        Raises:
          BudgetExceeded: the total would be above the lifetime budget; nothing was charged.
          GuaranteeVoid: the run was charged with another cost, or the store lost what it was charged.
        """
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")  # from here on no other process charges
            self._refuse_lost(database, witnesses, limited=lifetime_epsilon is not None)
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
                        f"With this run, epsilon={up(spent.epsilon, 4)} at delta={up(delta)} would be spent "
                        f"on this table, of privacy.lifetime_epsilon={limit:g}; {up(before.epsilon, 4)} is "
                        "spent already. Lower privacy.epsilon. Nothing was read."
                    )
                row = (key, run, cost.dump())
                database.execute("INSERT INTO charges (dataset, run, cost) VALUES (?, ?, ?)", row)
            database.execute("COMMIT")
            if known is None:
                self._note(run)
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

    @property
    def _list(self) -> Path:
        return self.path.with_name(f"{self.path.name}.runs")

    def _note(self, run: str) -> None:
        """Adds a run to the list beside the store; a crash before this makes the list a weaker witness."""
        file = os.open(self._list, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{run}\n".encode())
            os.fsync(file)
        finally:
            os.close(file)

    def _refuse_lost(self, database: sqlite3.Connection, witnesses: Iterable[str], *, limited: bool) -> None:
        there = {run for (run,) in database.execute("SELECT run FROM charges")}
        told = {
            *witnesses,
            *(self._list.read_text(encoding="utf-8").splitlines() if self._list.exists() else ()),
        }
        if told - there:
            raise GuaranteeVoid(
                f"{self.path} lost what {len(told - there)} runs charged to it: it was emptied, replaced or "
                "cut. Restore it; or name another file as privacy.dataset_ledger, and add up by hand."
            )
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if limited and there and version != _VERSION:
            raise GuaranteeVoid(
                f"{self.path} was kept by an earlier dpsynth, which told tables apart otherwise. Name "
                "another file as privacy.dataset_ledger, and lower the lifetime budget by what was spent."
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = FULL")
                if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
                    database.execute(f"PRAGMA user_version = {_VERSION}")
                database.executescript(_TABLES)
                database.execute("INSERT OR IGNORE INTO salt VALUES (1, ?)", (secrets.token_bytes(32),))
                yield database
        except OSError as error:
            raise GuaranteeVoid(f"{self.path} cannot keep what is spent: {error.strerror}.") from None
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            rule = "is in use" if "locked" in str(error) else "is damaged, or no file of this kind"
            raise GuaranteeVoid(f"The dataset ledger {self.path} {rule}. Restore it.") from None


def _one_table(one: list[str], other: list[str]) -> bool:
    """Says whether more than half of the columns of the narrower table are columns of the other."""
    return 2 * len({*one} & {*other}) > min(len({*one}), len({*other}))
