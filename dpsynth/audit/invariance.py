"""What a run leaves behind: nothing in it may follow one unit, unless it was paid for.

Two checks on everything beyond the trust boundary (release, logs, tracking store, checkpoints):

- *taint*: run twice on neighbouring tables with all noise held equal; every artefact that no paid event
  explains must be equal, bit by bit;
- *search*: look for stored units (their values side by side, in any file), for seeds of the noise, for exact
  extremes, rare categories and the exact number of units.

Both are certain rather than statistical, and take milliseconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit.attacks.space import as_float, as_text, is_numeric
from dpsynth.audit.types import Leak

if TYPE_CHECKING:
    import pandas as pd

# Names under which a file may not hold a seed or a state of the noise.
_NOISE = re.compile(
    r"(noise|poisson|coin|privacy|entropy)[\w./-]*(seed|generator_state|rng_state|key)\b", re.I
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def check_invariance(
    artefacts: Callable[[pd.DataFrame], Mapping[str, Any]],
    table: pd.DataFrame,
    neighbours: Iterable[pd.DataFrame],
    *,
    paid: Iterable[str] = (),
) -> list[Leak]:
    """Builds artefacts from a table and from its neighbours and lists those that differ without being paid.

    Args:
      artefacts: table -> everything that leaves, by name, with all randomness fixed by the caller (a test
        entropy). Values may be nested mappings, sequences, arrays, tables, bytes or paths.
      neighbours: each with one unit more or less; see `worst_neighbours`.
      paid: prefixes of names that an event of the ledger pays for; they may differ.
    """
    reference, leaks = flatten(artefacts(table)), {}
    for neighbour in neighbours:
        other = flatten(artefacts(neighbour))
        for name in sorted(reference.keys() | other.keys()):
            if any(name == p or name.startswith((f"{p}/", f"{p}.")) for p in paid):
                continue
            if name not in reference or name not in other:
                leaks[name] = Leak(where=name, rule="Exists or not depending on one unit.")
            elif reference[name] != other[name]:
                leaks[name] = Leak(
                    where=name, rule="Differs between neighbouring tables and is not paid for."
                )
    return list(leaks.values())


def worst_neighbours(table: pd.DataFrame, unit: str | None = None) -> list[pd.DataFrame]:
    """Returns neighbours that tend to show leaks: an outlier in every number, a new category, a unit removed.

    Args:
      unit: names the privacy unit; the row when None.
    """
    import pandas as pd

    outlier = table.iloc[:1].copy()
    for name in table.columns:
        if name == unit:
            outlier[name] = table[name].max() + 1 if is_numeric(table[name]) else "somebody new"
        elif is_numeric(table[name]) and table[name].dtype.kind in "iuf":
            top = float(np.nanmax(as_float(table[name])))
            outlier[name] = np.asarray([top + 10 * (abs(top) + 1)]).astype(table[name].dtype)
        elif table[name].dtype.kind not in "bM" and not str(table[name].dtype).startswith("datetime"):
            outlier[name] = pd.Series(["a value seen nowhere else"], index=outlier.index, dtype=object)
    more = pd.concat([table, outlier], ignore_index=True)
    first = table.index[:1] if unit is None else table.index[table[unit] == table[unit].iloc[0]]
    return [more, table.drop(first).reset_index(drop=True)]


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Returns nested artefacts as comparable leaves by path; arrays and tables as bytes."""
    if isinstance(value, Mapping):
        leaves: dict[str, Any] = {f"{name}.#": len(value)} if not value else {}
        for key, part in value.items():
            leaves |= flatten(part, f"{name}.{key}" if name else str(key))
        return leaves
    if isinstance(value, (list, tuple)) and not all(
        isinstance(v, (int, float, str, bool, type(None))) for v in value
    ):
        return flatten(dict(enumerate(value)), name)
    if isinstance(value, Path):
        files = sorted(p for p in value.rglob("*") if p.is_file()) if value.is_dir() else [value]
        return {f"{name}/{p.relative_to(value) if p != value else p.name}": p.read_bytes() for p in files}
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if hasattr(value, "to_csv"):
        return {name: value.to_csv(index=False)}
    if isinstance(value, np.ndarray):
        return {name: (value.shape, str(value.dtype), value.tobytes())}
    return {name: repr(value)}


def scan(
    folder: str | Path,
    table: pd.DataFrame,
    *,
    unit: str | None = None,
    allow: Iterable[str] = (),
    count: bool = True,
    max_units: int = 500,
) -> list[Leak]:
    """Searches every file under `folder` for traces of the private table.

    Finds, in JSON, text, safetensors, numpy and torch files: a unit's numbers next to each other; in Parquet
    and CSV: equal rows; in text: the exact number of units, and seeds of the noise.
    Edge cases: a row counts when it has 3 distinctive numbers (three decimals, or beyond 1000); others
    cannot be told from chance. A synthetic table of a coarse schema meets private rows by chance: name its
    file in `allow` and leave it to the release audit, which has controls.

    Args:
      allow: file names (not paths) that may hold rows, for example a synthetic table of a categorical schema.
      count: search for the exact number of units; switch it off where a public constant may equal it.
    """
    folder, leaks = Path(folder), []
    rows = _needles(table.drop(columns=[unit] if unit else []), max_units)
    num_units = table[unit].nunique() if unit else len(table)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.name in allow:
            continue
        leaks += _search(path, name, rows, table)
        if path.suffix in (".json", ".yaml", ".yml", ".txt", ".log", ".html", ".md", ".csv", ""):
            text = path.read_text(encoding="utf-8", errors="ignore")
            if count and path.suffix != ".csv" and num_units >= 50:
                if re.search(rf"(?<![\d.]){num_units}(?![\d.])", text):
                    leaks.append(Leak(where=name, rule="Holds the exact number of units."))
            if _NOISE.search(text) and not _harmless(text):
                leaks.append(Leak(where=name, rule="Names a seed or state of the noise."))
    return leaks


def _harmless(text: str) -> bool:
    """A name may be spoken of as long as no value stands behind it."""
    return not any(re.match(r'["\']?\s*[:=]\s*["\']?[\w\[]', text[m.end() :]) for m in _NOISE.finditer(text))


def _needles(table: pd.DataFrame, most: int) -> list[np.ndarray]:
    """Returns the distinctive numbers of each row: edges of histograms hold all the round ones."""
    numbers = np.stack(
        [as_float(table[c]) for c in table.columns if is_numeric(table[c])] or [np.empty(len(table))], 1
    )
    rows = []
    for row in numbers[:most]:
        known = row[~np.isnan(row)]
        special = known[(np.abs(known) > 1000) | (np.abs(known - np.round(known, 2)) > 1e-9)]
        if len(np.unique(special)) >= 3:
            rows.append(special)
    return rows


def _search(path: Path, name: str, rows: list[np.ndarray], table: pd.DataFrame) -> list[Leak]:
    import pandas as pd

    from dpsynth.audit.canaries import row_hashes

    rule = "Holds rows of the private table."
    if path.suffix in (".parquet", ".csv"):
        other = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        shared = [c for c in table.columns if c in other.columns]
        if len(shared) >= min(4, table.shape[1]):
            mine, theirs = (set(row_hashes(t, shared).tolist()) for t in (table, other))
            # Rows of coarse tables meet by chance: only those unique in the private table and not in a crowd.
            if len(mine) > 0.9 * len(table) and len(mine & theirs) > 0.01 * len(theirs):
                return [Leak(where=name, rule=rule)]
        return []
    if not rows:
        return []
    for array in _arrays(path):
        for row in rows:
            if _adjacent(array, row):
                return [Leak(where=name, rule=rule)]
    return []


def _arrays(path: Path) -> Iterable[np.ndarray]:
    """Yields the numbers of a file, in file order."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        yield from (np.asarray(v, dtype=np.float64).ravel() for v in load_file(path).values())
    elif path.suffix in (".npy", ".npz"):
        loaded = np.load(path, allow_pickle=False)
        arrays = loaded.values() if hasattr(loaded, "values") else [loaded]
        yield from (np.asarray(v, np.float64).ravel() for v in arrays if v.dtype.kind in "iuf")
    elif path.suffix in (".pt", ".pth", ".ckpt", ".bin"):
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
        yield from (t.detach().double().numpy().ravel() for t in _tensors(state))
    elif path.suffix in (".json", ".yaml", ".yml", ".txt", ".log", ".html", ".md", ".pkl", ".db", ""):
        yield np.array([float(x) for x in _NUMBER.findall(path.read_bytes())], dtype=np.float64)


def _tensors(value: Any) -> Iterable[Any]:
    if hasattr(value, "detach"):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _adjacent(array: np.ndarray, row: np.ndarray) -> bool:
    """Tells whether the row's numbers all stand within a window of 4 times their number, to float32."""
    starts = np.flatnonzero(np.isclose(array, row[0], rtol=1e-6, atol=1e-9))
    reach = 4 * len(row) + 8
    for start in starts[:50]:
        window = array[max(0, start - reach) : start + reach]
        if all(np.isclose(window, x, rtol=1e-6, atol=1e-9).any() for x in row[1:]):
            return True
    return False


def check_extremes(
    facts: Any, table: pd.DataFrame, *, declared: Mapping[str, tuple] | None = None
) -> list[Leak]:
    """Searches released facts for exact extremes and rare categories that the schema did not declare.

    Edge cases: ends with at most two decimals may be edges of a public grid; `check_invariance` sees them.

    Args:
      facts: JSON-able content of a release (statistics, encoder, schema).
      declared: per column, values that are public: bounds, categories.
    """
    text, declared, leaks = json.dumps(facts, default=str), dict(declared or {}), []
    numbers = np.array([float(x) for x in _NUMBER.findall(text.encode())])
    for name in table.columns:
        public = {str(v) for v in declared.get(name, ())}
        if is_numeric(table[name]):
            values = as_float(table[name])
            ends = [v for v in (np.nanmin(values), np.nanmax(values)) if abs(v - round(v, 2)) > 1e-9]
            known = np.array([float(v) for v in declared.get(name, ()) if v is not None], float)
            hits = [
                v for v in ends if np.isclose(numbers, v, rtol=1e-9).any() and not np.isclose(known, v).any()
            ]
            if hits:
                leaks.append(
                    Leak(where=name, rule="An exact minimum or maximum of the private column is stored.")
                )
        else:
            counts = as_text(table[name]).value_counts()
            rare = [
                v
                for v in counts.index[counts == 1]
                if v not in public and len(v) > 3 and json.dumps(v) in text
            ]
            if rare:
                leaks.append(Leak(where=name, rule="A category that only one unit has is stored."))
    return leaks
