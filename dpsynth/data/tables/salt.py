"""Local secrets that keep fingerprints of a table from being tested against guesses of it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dpsynth.errors import GuaranteeVoid

NUM_BYTES = 32


def local_salt(path: str | Path) -> bytes:
    """Returns the salt kept in a file, which is made on first use, readable by its owner alone.

    Formal guarantee: the salt comes from the operating system's entropy and is never logged; without it a
    digest of a table says nothing about the table. Two files hold different salts.
    Edge cases: processes that start at the same moment get the same salt.

    Raises:
      GuaranteeVoid: the file holds something else.
    """
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        draft.touch(mode=0o600)
        draft.write_bytes(secrets.token_bytes(NUM_BYTES))
        try:
            os.link(draft, path)  # whole or not at all, and only for the first of several processes
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    salt = path.read_bytes()
    if len(salt) != NUM_BYTES:
        raise GuaranteeVoid(f"{path} is not a salt. Move it away; a new one is made.")
    return salt
