"""Other packages' tables for the utility suite, each made in a Python of its own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.schema import Boolean, Categorical, Continuous, Integer
from dpsynth.errors import DpsynthError

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema

# PACKAGE/METHOD, and whether it takes a budget.
PEERS: Mapping[str, bool] = {
    "dpmm/aim": True,
    "dpmm/mst": True,
    "dpmm/priv_bayes": True,
    "ctgan/ctgan": False,
    "ctgan/tvae": False,
}


def python_of(method: str, pythons: Mapping[str, str | None]) -> str | None:
    """The Python that has a peer's package: the configured one, or this one if it has it; else None."""
    package = method.partition("/")[0]
    return pythons.get(package) or (sys.executable if importlib.util.find_spec(package) else None)


def peer_table(
    method: str, python: str, train: pd.DataFrame, schema: Schema, budget: Mapping[str, Any]
) -> tuple[pd.DataFrame, float]:
    """As many rows as `train` has, made by a peer, and its seconds.

    Values outside what the schema declares are moved to its bounds, or missing.

    Args:
      budget: `epsilon`, `delta`, `epochs` and `threads`; a peer takes what it knows.
    Raises:
      DpsynthError: the peer failed; holds what it said last.
    """
    columns = [column for column in schema.modelled if isinstance(column, _KINDS)]
    names = [column.name for column in columns]
    facts = {
        "method": method,
        "num_rows": len(train),
        "discrete": {c.name: _values(c) for c in columns if isinstance(c, Categorical | Boolean)},
        "bounds": {c.name: [c.min, c.max] for c in columns if isinstance(c, Continuous | Integer)},
        **budget,
    }
    with tempfile.TemporaryDirectory() as folder:
        told, table, out = (Path(folder) / name for name in ("facts.json", "table.csv", "out.csv"))
        told.write_text(json.dumps(facts), encoding="utf-8")
        train[names].to_csv(table, index=False)
        script = str(Path(__file__).with_name("peer_rows.py"))
        ran = subprocess.run([python, script, told, table, out], capture_output=True, text=True)
        if ran.returncode:
            said = ran.stderr.strip().splitlines()
            raise DpsynthError(f"The peer {method} failed: {said[-1] if said else 'no message'}")
        return _read(out, train, columns), json.loads(ran.stdout.splitlines()[-1])["seconds"]


_KINDS = Categorical | Boolean | Continuous | Integer


def _values(column: Categorical | Boolean) -> list[str]:
    return ["False", "True"] if isinstance(column, Boolean) else [str(value) for value in column.values or ()]


def _read(path: Path, train: pd.DataFrame, columns: list[Any]) -> pd.DataFrame:
    import pandas as pd

    made = pd.read_csv(path, dtype={c.name: "object" for c in columns if not hasattr(c, "min")})
    for column in columns:
        dtype = train[column.name].dtype
        if isinstance(column, Continuous | Integer):
            values = pd.to_numeric(made[column.name]).clip(column.min, column.max)
            made[column.name] = values.round() if isinstance(column, Integer) else values
        else:
            known = {str(value): value for value in train[column.name].dropna().unique()}
            made[column.name] = made[column.name].map(known)
        made[column.name] = made[column.name].astype(dtype)
    return made
