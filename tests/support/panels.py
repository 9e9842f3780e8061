"""Small tables of sequences for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from dpsynth.data.bought.grid import coarsen, fine_domain
from dpsynth.data.bought.statistics import Marginal, Statistics
from dpsynth.data.schema import (
    Boolean,
    Categorical,
    Continuous,
    Identifier,
    Integer,
    Schema,
    Sequence,
    Unit,
)
from dpsynth.data.sequences.encoder import SequenceEncoder

SCHEMA = Schema(
    columns=(
        Identifier(name="who"),
        Integer(name="year", min=2000, max=2020),
        Categorical(name="group", values=("a", "b", "c"), dtype="str"),
        Integer(name="born", min=1950, max=1990),
        Continuous(name="wage", min=0.0, max=100.0, decimals=3),
        Integer(name="hours", min=0, max=80, nullable=True, dtype="float64"),
        Boolean(name="union", nullable=True, dtype="boolean"),
    ),
    unit=Unit(column="who", max_rows=6),
    sequence=Sequence(time="year", attributes=("group", "born"), max_length=6),
    target="wage",
    num_units=100,
)
CALENDAR = replace(
    SCHEMA,
    sequence=Sequence(
        time="year",
        attributes=("group", "born"),
        max_length=4,
        min_length=4,
        calendar=(2001, 2003, 2004, 2008),
    ),
)


def panel(num: int = 40, *, seed: int = 0, schema: Schema = SCHEMA) -> pd.DataFrame:
    """Sequences with a level of their own, memory, missing values and, unless fixed, varying lengths."""
    rng = np.random.default_rng(seed)
    sequence, parts = schema.sequence, []
    for who in range(num):
        length = int(rng.integers(sequence.min_length, sequence.max_length + 1))
        times = sequence.calendar or np.sort(rng.choice(np.arange(2000, 2021), length, replace=False))
        level, steps = rng.normal(50, 15), rng.normal(0, 2, length).cumsum()
        parts.append(
            {
                "who": np.full(length, who * 7 + 3),
                "year": np.asarray(times)[:length],
                "group": np.full(length, str(rng.choice(["a", "b", "c"]))),
                "born": np.full(length, int(rng.integers(1950, 1991))),
                "wage": np.clip(level + steps, 0, 100).round(3),
                "hours": np.where(rng.random(length) < 0.2, np.nan, rng.integers(0, 81, length)),
                "union": rng.random(length) < 0.5,
                "silent": rng.random(length) < 0.2,
            }
        )
    table = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    table["union"] = table["union"].astype("boolean").mask(table.pop("silent"))
    return table.astype({"group": "str"})


def exact(table: pd.DataFrame, schema: Schema = SCHEMA, max_cells: int = 8) -> Statistics:
    """Statistics without noise; every entity weighs 1."""
    domain = fine_domain(schema)
    entity = pd.factorize(table[schema.unit.column])[0]
    share = 1.0 / np.bincount(entity)[entity]
    fine = {}
    for cells in domain.cells:
        codes, name = cells.codes(table[cells.column.name]), cells.column.name
        counts = np.bincount(codes, weights=share, minlength=cells.size)
        fine[name] = Marginal(columns=(name,), counts=counts, noise_stddev=0.0)
    num = float(entity.max() + 1)
    return Statistics(
        num_units=num, num_rows=num, domain=coarsen(domain, fine, max_cells, num_rows=num), fine=fine
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """A generator on a small table of sequences."""

    table: pd.DataFrame
    encoder: SequenceEncoder
    generator: Any
    units: torch.Tensor
    rebuild: Any


def build(
    module: Any,
    config: Any,
    *,
    private: bool,
    schema: Schema = SCHEMA,
    num: int = 60,
    noise_stddev: float = 1.0,
) -> World:
    """Builds a generator of sequences as the pipeline does, with seeded noise on what it buys."""
    table, random = panel(num, schema=schema), np.random.default_rng(1)
    statistics = exact(table, schema)
    encoder = module.Generator.encoder(config, schema, statistics, private=private)
    units, marginals = encoder.encode(table), []
    for question in module.Generator.questions(config, schema, private=private):
        counts = encoder.count(question, units) / encoder.units.resolution
        noisy = counts + noise_stddev * random.standard_normal(counts.shape)
        marginals.append(Marginal(columns=question.columns, counts=noisy, noise_stddev=noise_stddev))
    statistics = replace(statistics, marginals=tuple(marginals))

    def rebuild(seed: int = 0) -> Any:
        return module.Generator(config, encoder, statistics, seed=seed, private=private)

    return World(
        table=table, encoder=encoder, generator=rebuild(), units=torch.from_numpy(units), rebuild=rebuild
    )
