"""The private table: it can be held and passed around, and shows nothing until a read is paid for.

Axis 0 of what `read` returns is rows; `units_of(schema).owners` says to which unit each of them belongs.
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.data.tables.files import twice_problems
from dpsynth.data.tables.fingerprint import column_digests
from dpsynth.data.units.units import units_of
from dpsynth.errors import GuaranteeVoid, InvalidInput, Problem

_LOG = logging.getLogger(__name__)
_SALT_BYTES = 16
_PLACES = 5  # that a message names


class Issuer(Protocol):
    """The ledger, as a receipt knows it."""

    def redeem(self, receipt: Receipt, table: PrivateTable) -> None:
        """Takes a receipt back against one read of one table.

        Raises:
          GuaranteeVoid: this ledger did not issue it, took it back before, or pays for another table.
        """


@dataclass(frozen=True, eq=False)
class Receipt:
    """Proof that a read was charged, good for one read. The ledger makes it, after the charge is on disk.

    Args:
      ledger_id: the ledger that was charged.
      event_index: place of the paid event in that ledger.
      label: what was bought.
      issuer: the open ledger itself, which knows its receipts by identity: a copy is none.
    """

    ledger_id: str
    event_index: int
    label: str
    issuer: Issuer | None = field(default=None, repr=False)


class PrivateTable:
    """Holds the rows of a table and gives them out against a receipt.

    The cap of rows per unit is enforced here, before anything else can see a row: of each unit the first
    `schema.unit.max_rows` rows in file order stay. What stays of one unit depends on that unit alone, so
    adding or removing a unit changes nothing else.

    Formal guarantee: none by itself; `repr`, attributes and errors say nothing about the rows, and length,
    iteration, pickling and copying are refused. `reveal` is the one way around the ledger, and is logged.
    Edge cases: any number of rows, none included, since the number of rows is private.

    Args:
      frame: private; validated by `io.read_table`. Columns declared `Drop` are thrown away.
      schema: public.
    Raises:
      InvalidInput: columns are missing from `frame`, not declared, or named twice.
    """

    __slots__ = ("schema", "_frame", "_source")

    def __init__(self, frame: pd.DataFrame, schema: Schema):
        if problems := name_problems(frame.columns, schema):
            raise InvalidInput("the table", problems)
        self.schema = schema
        self._source = frame  # as it was given, for `columns`
        kept = frame[[name for name in frame.columns if name in schema.names]]
        self._frame = units_of(schema).capped(kept).reset_index(drop=True)

    def read(self, receipt: Receipt) -> pd.DataFrame:
        """Returns the capped rows against a receipt, once; only `dpsynth.privacy` reads.

        Raises:
          GuaranteeVoid: what was handed in is no receipt, or no ledger takes it back.
        """
        if not isinstance(receipt, Receipt) or receipt.issuer is None:
            raise GuaranteeVoid(
                "A private table is read against a ledger's Receipt. Charge the ledger first."
            )
        receipt.issuer.redeem(receipt, self)
        return self._frame.copy()

    def reveal(self, reason: str) -> pd.DataFrame:
        """Returns the capped rows for internal figures (evaluation, audit), and logs why.

        What is computed from them is internal: it must not reach a release, a plan or a message.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise GuaranteeVoid("Revealing a private table needs a reason. Say what the rows are used for.")
        _LOG.info("Private rows revealed without a charge; results are internal. Reason: %s", reason)
        return self._frame.copy()

    def fingerprint(self, salt: bytes) -> str:
        """Returns an HMAC-SHA256 of the rows, in hex, to recognise the same table in another run.

        The order of rows and columns does not matter, nor what the schema declares beside the columns' names.

        Formal guarantee: none. It is internal; who knows `salt` can test guesses of the table against it.

        Args:
          salt: at least 16 secret bytes.
        """
        if len(salt) < _SALT_BYTES:
            raise GuaranteeVoid(f"Expected a salt of at least {_SALT_BYTES} bytes, got {len(salt)}.")
        frame = self._frame[sorted(self._frame.columns)]
        rows = pd.util.hash_pandas_object(frame, index=False).to_numpy(dtype="<u8")
        digest = hmac.new(salt, "\x1f".join(map(str, frame.columns)).encode(), hashlib.sha256)
        digest.update(np.sort(rows).tobytes())
        return digest.hexdigest()

    def columns(self) -> tuple[str, ...]:
        """Returns digests of all columns as they were read, to recognise the table under another schema.

        Formal guarantee: none. They are private: a digest of a short column can be tested against guesses.
        """
        return column_digests(self._source)

    def __repr__(self) -> str:
        return f"PrivateTable(schema={self.schema.digest[:12]}, rows=private)"

    def __reduce__(self):
        raise GuaranteeVoid("A private table is not pickled or copied: its rows would leave unpaid.")

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise AttributeError(f"{name} of a private table cannot be replaced.")
        object.__setattr__(self, name, value)


def name_problems(names: Sequence[object], schema: Schema) -> list[Problem]:
    """Lists what is wrong with the names of a table's columns.

    Declared names are public. Others are told by place: in a file without a header they are the values of its
    first row.
    """
    names = list(names)
    declared = [column.name for column in schema.columns]
    extra = [name for name in dict.fromkeys(names) if name not in declared]
    problems = [
        Problem(f"column {name!r}", "Is declared but not in the table.", _fix(extra), _near(name, extra))
        for name in schema.names
        if name not in names
    ]
    if extra:
        places = [str(place) for place, name in enumerate(names, 1) if name in extra]
        where = f"column{'s' if len(places) > 1 else ''} {', '.join(places[:_PLACES])}"
        where += f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
        fix = "Declare it; kind: drop leaves it out. Does the file have a header?"
        seen = ", ".join(repr(name) for name in extra[:_PLACES])
        problems.append(Problem(where, "Is not declared.", fix, seen))
    return problems + twice_problems(names, declared)


def _fix(extra: list[object]) -> str:
    return "Correct its name." if extra else "Take it out of the schema."


def _near(name: str, extra: list[object]) -> str:
    """Returns what the table has in place of a name, for the terminal alone."""
    close = difflib.get_close_matches(name, [other for other in extra if isinstance(other, str)], n=1)
    return repr(close[0]) if close else ""
