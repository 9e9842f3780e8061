"""Reads files that a stranger made: plain files alone, of bounded size, refused with a sentence.

A link, a pipe or a device could stand for a file without end; text could write lines of its own on a
terminal; a few bytes of JSON or Parquet could unpack to gigabytes. Such files are refused by what they are.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from dpsynth.errors import GuaranteeVoid

CHECKED = (
    "Checked: the release's files are those that its certificate names. Whether its claim holds, and who "
    "made it, is for experiments.verify."
)
MB = 2**20
MOST_BYTES = {
    "synthetic.parquet": 4096 * MB,
    "generator.safetensors": 1024 * MB,
    "release.json": 256 * MB,
    "ledger.json": 32 * MB,
    "certificate.json": 32 * MB,
    "signature.json": MB,
}
MOST_COLUMNS = 2_000
MOST_CELLS = 50_000_000  # of a table: rows times columns
_MOST_FILES = 100
_MOST_MEMORY = 600 * MB  # of what JSON unpacks to
_WEIGHTS = {b"[": 64, b"{": 240, b",": 32, b":": 120}  # bytes of memory behind each of these


class Untrusted(GuaranteeVoid):
    """A file of a release is not what a run writes; nothing of it was used."""


def shown(text: Any, most: int = 300) -> str:
    """Returns text that stays on its line and moves no cursor: what cannot be printed is escaped."""
    text = str(text)
    cut = text if len(text) <= most else text[:most] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def file_names(folder: str | Path) -> list[str]:
    """Returns the names in a folder, sorted; of a folder with very many, the first ones."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > _MOST_FILES:
                break
    return sorted(names)


def open_plain(path: str | Path) -> BinaryIO:
    """Opens a plain file of bounded size.

    Raises:
      Untrusted: it is missing, a link, a pipe, a device or a folder, or larger than any release's.
    """
    path = Path(path)
    most = MOST_BYTES.get(path.name, 32 * MB)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = (
            "is a link; copy the file itself" if path.is_symlink() else (error.strerror or "cannot be read")
        )
        raise Untrusted(f"{shown(path.name)}: {reason}.") from None
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > most:
        os.close(handle)
        rule = "is no plain file" if not stat.S_ISREG(facts.st_mode) else f"is larger than {most // MB} MB"
        raise Untrusted(f"{shown(path.name)}: {rule}.")
    return os.fdopen(handle, "rb")


def digest(path: str | Path) -> str:
    """SHA-256 of a plain file, in hex."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | Path) -> Any:
    """Reads JSON as a run writes it: no key twice, every number finite.

    Raises:
      Untrusted: it is anything else, nested deeply, or would fill the memory.
    """
    with open_plain(path) as file:
        content = file.read()
    if len(content) + sum(content.count(sign) * weight for sign, weight in _WEIGHTS.items()) > _MOST_MEMORY:
        raise Untrusted(f"{Path(path).name}: holds more than any release does.")
    try:
        return json.loads(
            content,
            object_pairs_hook=_once,
            parse_float=_finite,
            parse_constant=_no_constant,
            parse_int=_whole,
        )
    except RecursionError:
        raise Untrusted(f"{Path(path).name}: is nested too deeply.") from None
    except ValueError as error:
        raise Untrusted(f"{Path(path).name}: is not JSON of a release: {shown(error)}.") from None


def read_object(path: str | Path) -> dict[str, Any]:
    """Reads JSON whose outermost value is an object."""
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise Untrusted(f"{Path(path).name}: is no JSON object.")
    return dict(content)


def read_facts(path: str | Path) -> dict[str, Any]:
    """Reads `release.json`, after counting the columns that its schema declares."""
    content = read_object(path)
    schema = content.get("schema")
    columns = schema.get("columns") if isinstance(schema, Mapping) else None
    if not isinstance(columns, list) or len(columns) > MOST_COLUMNS:
        raise Untrusted(f"{Path(path).name}: declares no columns, or more than {MOST_COLUMNS:,}.")
    return content


def check_parquet(path: str | Path, most_cells: int = MOST_CELLS) -> None:
    """Refuses a Parquet file that unpacks to more than its size lets expect, by its footer alone.

    Args:
      most_cells: rows times columns.
    Raises:
      Untrusted: it is no Parquet file, too large, or carries notes besides pandas' own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = Path(path).name
    with open_plain(path) as file:
        try:
            found = pq.read_metadata(file)
            notes = set(found.metadata or {}) - {b"pandas", b"ARROW:schema"}
            groups = [found.row_group(number) for number in range(min(found.num_row_groups, 10_000))]
            size = sum(group.total_byte_size for group in groups)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Untrusted(f"{name}: is no Parquet file: {type(error).__name__}.") from None
    cells = found.num_rows * found.num_columns
    if cells > most_cells or found.num_columns > 10_000 or found.num_row_groups > 10_000:
        rule = f"has {cells:,} cells, more than {most_cells:,}; give most_cells=N to read it all the same"
        raise Untrusted(f"{name}: {rule}.")
    if size > 64 * cells + 16 * MB:
        raise Untrusted(f"{name}: {size // MB} MB in {cells:,} cells, more than rows of a release take.")
    if notes:
        raise Untrusted(f"{name}: carries notes that no run writes: {shown(sorted(notes)[:3])}.")


def check_safetensors(path: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Reads names, dtypes and shapes of weights, without the weights.

    Raises:
      Untrusted: the header is not a run's, or the file is longer or shorter than it says.
    """
    name = Path(path).name
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, 16 * MB):
            raise Untrusted(f"{name}: its header does not fit in it.")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_once)
            notes = header.pop("__metadata__", {"format": "pt"})
            found = {
                key: (item["dtype"], tuple(item["shape"]), item["data_offsets"])
                for key, item in header.items()
            }
            shapes = {key: (kind, shape) for key, (kind, shape, _) in found.items()}
            spans = sorted(tuple(offsets) for _, _, offsets in found.values())
            ends = [0, *(end for _, end in spans)]
            sizes = [math.prod(shape) * _BYTES[kind] for kind, shape in shapes.values()]
        except (RecursionError, ValueError, KeyError, TypeError, AttributeError):
            raise Untrusted(f"{name}: its header is not one that a run writes.") from None
    whole = ends[-1] == size - 8 - length and [start for start, _ in spans] == ends[:-1]
    if notes != {"format": "pt"} or not whole or sum(sizes) != ends[-1]:
        raise Untrusted(f"{name}: holds something beside its weights.")
    return shapes


def check_folder(
    folder: str | Path, names: Sequence[str], certificate: str, most_cells: int = MOST_CELLS
) -> Any:
    """Returns the content of a release's certificate, after the files that it names were found unchanged.

    Args:
      names: of the files besides, whose hashes the certificate has.
      most_cells: of a Parquet file: rows times columns.
    Raises:
      Untrusted: a file is missing, changed, no plain file or too large.
    """
    folder = Path(folder)
    missing = [name for name in (*names, certificate) if not os.path.lexists(folder / name)]
    if missing:
        raise Untrusted(f"{folder} is not a release: {', '.join(missing)} is missing.")
    content = read_object(folder / certificate)
    stated = content.get("files")
    hashes = stated if isinstance(stated, Mapping) else {}
    changed = [name for name in names if hashes.get(name) != digest(folder / name)]
    if changed:
        raise Untrusted(f"{', '.join(changed)} in {folder} was changed after it was certified.")
    for name in names:
        if name.endswith(".parquet"):
            check_parquet(folder / name, most_cells)
        elif name.endswith(".safetensors"):
            check_safetensors(folder / name)
    claim = content.get("claim")
    if not (isinstance(claim, str) and _CLAIM.fullmatch(claim)):
        raise Untrusted(f"The certificate in {folder} states no claim that a run makes: {shown(claim, 80)}.")
    return content


_CLAIM = re.compile(r"NON-PRIVATE|VOID|epsilon=[0-9.e+-]{1,24}, delta=[0-9.e+-]{1,24}")
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


def _whole(text: str) -> int:
    if len(text) > 40:
        raise ValueError("a number has more than 40 digits")
    return int(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
