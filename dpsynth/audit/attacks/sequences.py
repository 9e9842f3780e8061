"""Entities as targets: one row per entity that says what its sequence looks like.

With an entity as the unit of privacy, attacks must score whole sequences. Each becomes a row of facts that
leaks tend to show in: its length, level, scale, ends and most frequent categories, and an exact fingerprint
of all its rows. All attacks on tables then apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dpsynth.audit.attacks.space import as_float, as_text, is_numeric
from dpsynth.audit.canaries import row_hashes
from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd

LENGTH, FINGERPRINT = "sequence_length", "sequence_fingerprint"


def entities(table: pd.DataFrame, unit: str, time: str | None = None) -> pd.DataFrame:
    """Returns one row per entity, in order of first appearance.

    Columns: length; per number its first, last, mean, standard deviation, minimum, maximum and mean
    absolute step; per category the most frequent value and the number of distinct ones; a fingerprint of
    the rows in order (an attack on exact copies of whole sequences reads only that).
    """
    import pandas as pd

    gone = [c for c in (unit, time) if c is not None and c not in table.columns]
    if gone:
        raise InvalidInput("the sequences", [Problem("columns", f"Lack {gone}.", "Name them.")])
    if time is not None:
        table = table.sort_values([unit, time], kind="stable")
    values = [c for c in table.columns if c not in (unit, time)]
    groups = table.groupby(unit, sort=False)
    out = {LENGTH: groups.size().astype(float)}
    for name in values:
        if is_numeric(table[name]):
            numbers = pd.Series(as_float(table[name]), index=table.index).groupby(table[unit], sort=False)
            for fact in ("first", "last", "mean", "std", "min", "max"):
                out[f"{name}_{fact}"] = getattr(numbers, fact)()
            steps = numbers.diff().abs().groupby(table[unit], sort=False).mean()
            out[f"{name}_step"] = steps
        else:
            texts = as_text(table[name])
            pairs = texts.groupby(table[unit], sort=False)
            out[f"{name}_mode"] = pairs.agg(lambda x: x.value_counts().index[0])
            out[f"{name}_distinct"] = pairs.nunique().astype(float)
    hashes = pd.Series(row_hashes(table, values), index=table.index)
    with np.errstate(over="ignore"):
        weights = groups.cumcount().to_numpy().astype(np.uint64) * np.uint64(2) + np.uint64(1)
        mixed = pd.Series(hashes.to_numpy() * (weights * np.uint64(0x9E3779B97F4A7C15)), index=table.index)
        out[FINGERPRINT] = mixed.groupby(table[unit], sort=False).sum().map(lambda h: f"{int(h):016x}")
    return pd.DataFrame(out).reset_index(drop=True)
