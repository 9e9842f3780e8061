"""The ledger: nothing private is read before its charge is on disk, and nothing is charged beyond the plan.

A file of JSON lines, append-only. The first line is the plan; then come charges, in the order of the reads
that they pay for. Every line carries the hash of the line before it, so that a changed or dropped line shows.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.tables.table import PrivateTable, Receipt
from dpsynth.errors import BudgetExceeded, GuaranteeVoid
from dpsynth.files import sync
from dpsynth.privacy.ledger.lines import START, canonical, check_chain, line_hash, mechanism, spent
from dpsynth.privacy.ledger.tip import tip_faults, write_tip

if TYPE_CHECKING:
    from dpsynth.privacy.accounting.accountants import Accounts
    from dpsynth.privacy.plan.plan import Plan


class Ledger:
    """Pays for reads of private data, once each, within one plan.

    Formal guarantee: `charge` returns a receipt only after the charge is on disk (fsync); each planned event
    is charged at most once, and all planned events compose to at most the declared epsilon (recomputed here,
    not taken from the plan). An event is open from its charge until `finish`. After a crash, `resume` lets an
    open event continue without paying again (its answer was lost with the process, nobody saw it); a finished
    event can never be read for again. A file lock keeps a second process from continuing the same event.
    Edge cases: a last line cut off by a crash is dropped: its charge never returned, so nothing was read.

    Make one by `create` or `resume`; it belongs to one process and is not pickled.
    """

    def __init__(self, path: Path, records: list[dict[str, Any]], file: int):
        self._path, self._records, self._file = path, records, file
        self._resumed = len(records)  # what was open before this process came may be continued by it
        self._continued: set[str] = set()
        self._issued: set[Receipt] = set()
        self._table: PrivateTable | None = None  # the one that this process reads against its receipts

    @classmethod
    def create(cls, path: str | Path, plan: Plan, recipe: Mapping[str, Any] | None = None) -> Ledger:
        """Starts a ledger for a plan.

        Args:
          recipe: public: what the plan was made for, so that `verify` can make it again.

        Raises:
          BudgetExceeded: the plan's events compose to more than its guarantee.
          GuaranteeVoid: the file exists already.
        """
        _refuse_overspent(plan)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(
            f"{path.name}.{uuid.uuid4().hex}.draft"
        )  # a kill leaves no ledger without a head
        ledger = cls(path, [], os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600))
        try:
            ledger._lock()
            head = {"kind": "plan", "ledger": uuid.uuid4().hex, "plan": plan.to_dict(), "recipe": recipe}
            ledger._append(head, tip=False)
            os.link(draft, path)
        except FileExistsError:
            ledger.close()
            raise GuaranteeVoid(
                f"A ledger exists at {path}; writing over it would forget what was spent. Resume it, or take "
                "another folder."
            ) from None
        finally:
            draft.unlink()
        sync(path.parent)
        write_tip(path, ledger._records[0])
        return ledger

    @classmethod
    def resume(cls, path: str | Path, plan: Plan | None = None) -> Ledger:
        """Opens the ledger of an interrupted run.

        Raises:
          GuaranteeVoid: another process has it open, a line was changed or lost, or `plan` is another plan.
        """
        path = Path(path)
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            raise GuaranteeVoid(
                f"The ledger at {path} is gone. Restore it: it holds what was spent."
            ) from None
        ledger = cls(path, [], file)
        ledger._lock()
        ledger._records = ledger._read()
        ledger._resumed = len(ledger._records)
        if faults := check_chain(ledger._records) + tip_faults(path, ledger._records):
            ledger.close()
            raise GuaranteeVoid(f"The ledger at {path} is not intact: {' '.join(faults)}")
        if plan is not None and canonical(mechanism(plan.to_dict())) != canonical(mechanism(ledger.plan)):
            ledger.close()
            raise GuaranteeVoid(
                f"The ledger at {path} was opened for another plan. Restore that configuration, or start a "
                "new run, which spends anew."
            )
        return ledger

    @property
    def id(self) -> str:
        return self._records[0]["ledger"]

    @property
    def plan(self) -> dict[str, Any]:
        """The plan as written in the first line."""
        return self._records[0]["plan"]

    @property
    def records(self) -> list[dict[str, Any]]:
        """All lines, in order."""
        return [dict(record) for record in self._records]

    @property
    def void_reasons(self) -> tuple[str, ...]:
        """Why the guarantee does not hold; empty when it does."""
        return tuple(record["reason"] for record in self._records if record["kind"] == "void")

    def charge(self, name: str) -> Receipt:
        """Pays for one planned event and returns the receipt that lets a private table be read.

        In a resumed ledger an event that is still open is continued: same receipt, no second payment.

        Raises:
          BudgetExceeded: the event is not in the plan, or was charged before. Nothing was read.
        """
        planned = [event["name"] for event in self.plan["events"]]
        if name not in planned:
            raise BudgetExceeded(f"The plan has no event {name!r}; it pays for {', '.join(planned)}.")
        index = self._charged(name)
        if index is not None:
            if index >= self._resumed or name in self._continued or self.is_finished(name):
                raise BudgetExceeded(
                    f"{name!r} has been charged and read already. What remains of the plan: "
                    f"{', '.join(n for n in planned if self._charged(n) is None) or 'nothing'}."
                )
            self._append({"kind": "continue", "event": name})
            self._continued.add(name)
            return self._receipt(index, name)
        later = [other for other in planned[planned.index(name) + 1 :] if self._charged(other) is not None]
        if later:
            raise BudgetExceeded(
                f"{name!r} comes before {later[0]!r} in the plan, which was charged already."
            )
        return self._receipt(self._append({"kind": "charge", "event": name}), name)

    def redeem(self, receipt: Receipt, table: PrivateTable) -> None:
        """Takes a receipt back: one charge pays for one read of one table.

        Raises:
          GuaranteeVoid: it is not one of this ledger's, was read against before, or the ledger is closed.
        """
        if receipt not in self._issued:
            raise GuaranteeVoid(
                f"The receipt for {receipt.label!r} is none that this ledger issued and nobody read against. "
                "Charge the ledger for each read."
            )
        if self._table is not None and self._table is not table:
            raise GuaranteeVoid("This ledger pays for reads of another table. Open one for each table.")
        self._table = table
        self._issued.remove(receipt)

    def finish(self, name: str, digest: str | None = None) -> None:
        """Closes an event: its answer is kept, so it must not be read for again.

        Args:
          digest: of the stored answer, which `resume` can check.
        """
        if self._charged(name) is None or self.is_finished(name):
            raise GuaranteeVoid(f"{name!r} is not open, so it cannot be finished.")
        self._append({"kind": "finish", "event": name, "digest": digest})

    def finish_if_open(self, name: str) -> None:
        """Closes an event whose answers need not be kept, if it was charged and is still open."""
        if self._charged(name) is not None and not self.is_finished(name):
            self.finish(name)

    def is_charged(self, name: str) -> bool:
        return self._charged(name) is not None

    def is_finished(self, name: str) -> bool:
        return any(r["kind"] == "finish" and r["event"] == name for r in self._records)

    def digest(self, name: str) -> str | None:
        """The digest that was given when the event was finished."""
        return next(
            (r["digest"] for r in self._records if r["kind"] == "finish" and r["event"] == name), None
        )

    def void(self, reason: str) -> None:
        """Stamps the ledger: the guarantee does not hold, for good."""
        if reason not in self.void_reasons:
            self._append({"kind": "void", "reason": reason})

    def spent(self) -> Accounts:
        """What the charged events cost so far, by every accountant."""
        return spent(self._records)

    def _receipt(self, index: int, name: str) -> Receipt:
        receipt = Receipt(self.id, index, name, self)
        self._issued.add(receipt)
        return receipt

    def close(self) -> None:
        self._issued.clear()  # another process may continue what is open
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def __del__(self):
        self.close()

    def __reduce__(self):
        raise GuaranteeVoid("A ledger belongs to one process. Resume it from its file instead.")

    def _charged(self, name: str) -> int | None:
        for index, record in enumerate(self._records):
            if record["kind"] == "charge" and record["event"] == name:
                return index
        return None

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise GuaranteeVoid(
                f"Another process uses the ledger at {self._path}. One event must not be continued twice."
            ) from None

    def _append(self, body: dict[str, Any], *, tip: bool = True) -> int:
        if self._file < 0:
            raise GuaranteeVoid(f"The ledger at {self._path} is closed.")
        index = len(self._records)
        previous = self._records[-1]["hash"] if self._records else START
        body = {"index": index, "previous": previous, **body}
        record = {**body, "hash": line_hash(body)}
        line = (canonical(record) + "\n").encode()
        if os.write(self._file, line) != len(line):
            raise GuaranteeVoid(f"The ledger at {self._path} could not be written. Is the disk full?")
        os.fsync(self._file)
        self._records.append(record)
        if tip:
            write_tip(self._path, record)
        return index

    def _read(self) -> list[dict[str, Any]]:
        content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        whole, newline, rest = content.rpartition(b"\n")
        if rest:  # cut off by a crash before its fsync returned
            os.ftruncate(self._file, len(whole) + len(newline))
            os.fsync(self._file)
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError:
            self.close()
            raise GuaranteeVoid(f"The ledger at {self._path} is not intact: a line is not JSON.") from None


def _refuse_overspent(plan: Plan) -> None:
    if not plan.private:
        return
    from dpsynth.privacy.accounting import accountants

    parts = accountants.Ingredients.of(event.event for event in plan.events)
    needed = accountants.pld_epsilon(parts, plan.guarantee.delta)
    if needed > plan.guarantee.epsilon:
        raise BudgetExceeded(
            f"The plan needs epsilon={needed:.4g} but {plan.guarantee.epsilon:g} is declared. "
            "Lower training.steps or raise privacy.epsilon."
        )
