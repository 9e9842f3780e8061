"""The file of single scores that `audit.scores=FILE` asks for: of every target, and whether it is a member.

Off unless asked for: it names private units one by one. It is readable by its owner alone, marked internal,
and kept out of every folder that is released or copied to a tracker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import Problem

if TYPE_CHECKING:
    from dpsynth.audit.types import AuditResult

MARK = {b"dpsynth.visibility": b"internal", b"dpsynth.holds": b"scores and membership of single units"}


def problems(parts: Mapping[str, Mapping[str, Any]], release: Path, folder: Path) -> Iterator[Problem]:
    """Checks where scores are to go, before anything is read.

    Args:
      parts: settings by kind of audit.
      release: folder or table that is audited.
      folder: where the audit writes what it also hands to the tracker.
    """
    asked = {kind: str(v["scores"]) for kind, v in parts.items() if v.get("scores")}
    for kind, file in asked.items():
        key = "audit.scores" if len(parts) == 1 else f"audit.{kind}.scores"
        path = Path(file).resolve()
        if not file.endswith(".parquet"):
            yield Problem(key, f"{file!r} does not end in .parquet.", "Name a Parquet file.")
        if release.is_dir() and path.is_relative_to(release.resolve()):
            rule = "Lies inside the release, which is to be published; scores name private units."
            yield Problem(key, rule, "Name a file elsewhere.")
        elif path.is_relative_to(folder.resolve()):
            rule = f"Lies inside {folder}, which is copied to the tracker; scores name private units."
            yield Problem(key, rule, "Name a file elsewhere.")
        elif not path.parent.is_dir():
            yield Problem(key, f"There is no folder {str(path.parent)!r}.", "Make it.")
    if len(set(asked.values())) < len(asked):
        yield Problem("audit.scores", "Several audits write to one file.", "Name one file for each.")


def write(results: Sequence[AuditResult], files: Mapping[str, str]) -> list[Path]:
    """Writes id, stratum, attack, score and membership of every target that was scored; returns the paths.

    Args:
      files: kind of audit -> path.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    written = []
    for result in results:
        if result.kind not in files or result.scores is None:
            continue
        table = pa.Table.from_pandas(result.scores, preserve_index=False)
        sink = pa.BufferOutputStream()
        parquet.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **MARK}), sink)
        path = Path(files[result.kind])
        path.unlink(missing_ok=True)  # an older file may be open to others
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(sink.getvalue())
        written.append(path)
    return written
