"""The holdout of a run: which units it is, is kept beside the run, and nobody else knows.

All points of a sweep share one secret, so that their figures are on the same rows. Each run keeps a copy,
with a keyed digest of the table that the coins were flipped for, and goes on with no other table.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema

    Sides = tuple[pd.DataFrame, pd.DataFrame]

FILE, _SECRET = "holdout.json", "holdout.secret"


def set_aside(frame: pd.DataFrame, schema: Schema, share: float, folder: Path, shared: Path) -> Sides:
    """Returns (train, holdout) rows of a run; the same again for an interrupted one.

    Args:
      frame: private.
      share: public.
      folder: of the run.
      shared: the folder where the points of a sweep keep what they share. Internal.
    Raises:
      InvalidInput: the run has begun, and its coins are lost or were flipped for another table.
    """
    from dpsynth.data.tables.salt import local_salt

    path = folder / FILE
    if share and not path.exists():
        if (folder / "ledger.jsonl").exists():
            fix = "Restore the file, or start a new run: what this one paid for belongs to its own split."
            raise InvalidInput(str(folder), [Problem(FILE, "The coins of the begun run are lost.", fix)])
        secret = local_salt(shared / _SECRET)
        _keep(path, {"secret": secret.hex(), "table": _digest(frame, secret)})
    return same_again(frame, schema, share, folder)


def same_again(frame: pd.DataFrame, schema: Schema, share: float, folder: Path) -> Sides:
    """Returns (train, holdout) rows of the run in a folder.

    Raises:
      InvalidInput: its coins are not there, or were flipped for another table.
    """
    from dpsynth.data.tables.split import split

    if not share:
        return split(frame, schema, share, b"")
    path = folder / FILE
    if not path.is_file():
        rule = "The coins that set this run's holdout aside are not there."
        raise InvalidInput(str(folder), [Problem(FILE, rule, "Bring the file, or name the rows by files.")])
    kept = json.loads(path.read_text(encoding="utf-8"))
    secret = bytes.fromhex(kept["secret"])
    if not hmac.compare_digest(kept["table"], _digest(frame, secret)):
        rule = "The table is not the one whose units were set aside: rows or their order changed."
        raise InvalidInput(str(folder), [Problem("data", rule, "Give that table, or start a new run.")])
    return split(frame, schema, share, secret)


def copy(folder: Path, to: Path) -> None:
    """Keeps a run's coins beside another release of it as well; a run without a holdout has none."""
    if (folder / FILE).exists():
        _keep(to / FILE, json.loads((folder / FILE).read_text(encoding="utf-8")))


def _keep(path: Path, body: dict[str, str]) -> None:
    """Writes a file that its owner alone reads, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(body, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _digest(frame: pd.DataFrame, secret: bytes) -> str:
    """Names the rows in their order, for who has the secret."""
    import pandas as pd

    rows = pd.util.hash_pandas_object(frame, index=False).to_numpy(dtype="<u8")
    return hmac.new(secret, b"table\0" + rows.tobytes(), hashlib.sha256).hexdigest()
