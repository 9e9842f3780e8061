"""Files that are whole or absent: written aside, synced, renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: str | Path, *, private: bool = False) -> Iterator[Path]:
    """Yields a draft beside `path`, with its ending; it becomes the file when the block ends well.

    Formal guarantee: a reader, a crash or a full disk sees the old file or the new one, never a part of it.

    Args:
      private: readable by its owner alone.
    """
    path = Path(path)
    draft = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    draft.touch(mode=0o600 if private else 0o666)
    try:
        yield draft
        sync(draft)
        os.replace(draft, path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes, *, private: bool = False) -> None:
    """Writes text (UTF-8) or bytes as `whole` does."""
    with whole(path, private=private) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: str | Path) -> None:
    """Returns when a file's content, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
