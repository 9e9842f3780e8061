"""Every file that a run leaves to others, to be compared byte for byte."""

from __future__ import annotations

import re
from pathlib import Path

from dpsynth.privacy.release import run_folder


def leftovers(folder: Path) -> dict[str, bytes]:
    """Every file, without a ledger's random name and the hashes that follow from it.

    The owner's record, by which a folder knows its own run and table, and a ledger's tip never leave.
    """
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [path for path in found if path.name != run_folder.FILE and path.suffix != ".tip"]
    return {str(path.relative_to(folder)): _anonymous(path.read_bytes()) for path in found}


def _anonymous(content: bytes) -> bytes:
    for key in (b"ledger", b"hash", b"previous", b"ledger.json"):
        content = re.sub(rb'"%s":\s*"[0-9a-f]{32,64}"' % re.escape(key), b'"%s": "-"' % key, content)
    return content
