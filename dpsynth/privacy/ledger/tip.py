"""The tip of a ledger: place and hash of its last line, kept beside it, so that a cut ledger shows.

A chain of hashes holds each line to the one before it, but any beginning of it is a chain as well. The tip is
written after its line: a crash between the two leaves it one line behind, which is no fault.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpsynth.errors import GuaranteeVoid
from dpsynth.files import write_whole
from dpsynth.privacy.ledger.lines import check_chain

_ENDING = ".tip"


def write_tip(ledger: Path, record: Mapping[str, Any]) -> None:
    """Notes the last line of a ledger."""
    write_whole(_place(ledger), f"{record['index']} {record['hash']}\n", private=True)


def tip_faults(ledger: Path, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Says what the tip knows against the lines of a ledger; only a new ledger may be without one."""
    try:
        words = _place(ledger).read_text(encoding="ascii").split()
        index, last = int(words[0]), words[1]
    except FileNotFoundError:
        return [] if len(records) == 1 else [f"{_place(ledger).name} beside it is gone."]
    except (OSError, ValueError, IndexError):
        return [f"{_place(ledger).name} beside it was changed."]
    if index >= len(records):
        return [f"It has {len(records)} lines and had {index + 1}: it was cut."]
    return [] if records[index].get("hash") == last else [f"Line {index} was written anew."]


def read_intact(ledger: Path) -> list[dict[str, Any]]:
    """Reads a ledger that nobody need have open, and holds it against its chain and its tip.

    Edge cases: a last line that a crash cut off was never charged.

    Raises:
      GuaranteeVoid: it is gone, empty, changed or cut.
    """
    try:
        lines = ledger.read_bytes().rpartition(b"\n")[0].splitlines()
        records = [json.loads(line) for line in lines]
        faults = check_chain(records) + tip_faults(ledger, records)
    except OSError as error:
        raise GuaranteeVoid(f"The ledger at {ledger} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        faults = ["A line is none that a ledger has."]
    if faults:
        raise GuaranteeVoid(f"The ledger at {ledger} is not intact: {' '.join(faults)} Restore it.")
    return records


def _place(ledger: Path) -> Path:
    return ledger.with_name(ledger.name + _ENDING)
