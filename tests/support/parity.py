"""A table whose target hangs on three columns together, and on no two of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dpsynth.data.schema import Categorical, Identifier, Integer, Schema, Unit

_INPUTS = tuple(Categorical(name=f"bit{number}", values=("n", "y")) for number in range(4))
COLUMNS = (*_INPUTS, Integer(name="size", min=0, max=9), Categorical(name="label", values=("even", "odd")))
SCHEMA = Schema(columns=COLUMNS, target="label", num_units=4_000)
PEOPLE = Schema(
    columns=(Identifier(name="id"), *COLUMNS),
    target="label",
    unit=Unit(column="id", max_rows=3),
    num_units=1_400,
)


def make_table(num: int, seed: int = 0, *, together: int = 3, flipped: float = 0.03) -> pd.DataFrame:
    """Rows; `together` bits decide the label (1: a plain dependence, which pairs see)."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (num, 4))
    label = (bits[:, :together].sum(1) + (random.random(num) < flipped)) % 2
    names = np.array(["n", "y"], dtype=object)
    frame = pd.DataFrame({f"bit{number}": names[bits[:, number]] for number in range(4)})
    frame["size"] = random.integers(0, 10, num)
    frame["label"] = np.array(["even", "odd"], dtype=object)[label]
    return frame
