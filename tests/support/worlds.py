"""A small table with every kind of column, and generators built on its statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from dpsynth.data.bought.grid import coarsen, fine_domain
from dpsynth.data.bought.statistics import Marginal, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Boolean, Categorical, Continuous, Datetime, Identifier, Integer, Schema, Unit

torch.set_num_threads(1)  # small tensors, and test workers side by side
CONF = Path(__file__).resolve().parents[2] / "conf" / "generator"
SCHEMA = Schema(
    columns=(
        Integer(name="age", min=18, max=90),
        Continuous(name="income", min=0.0, max=9000.0, decimals=2, nullable=True),
        Categorical(name="town", values=("Ayr", "Bath", "Cork", "Dover"), nullable=True),
        Boolean(name="member"),
        Datetime(name="joined", format="%Y-%m-%d", min="2020-01-01", max="2021-12-31"),
        Categorical(name="grade", values=(1, 2, 3), ordered=True),
    )
)


def make_table(num: int, seed: int = 0) -> pd.DataFrame:
    """Rows in which town, age and income hang together; incomes have a spike at 0 and gaps."""
    random = np.random.default_rng(seed)
    town = random.choice(4, num, p=[0.5, 0.3, 0.17, 0.03])
    age = np.clip(random.normal(30 + 10 * town, 6), 18, 90).round().astype(int)
    income = np.round(np.clip(60.0 * age + 300 * random.standard_normal(num), 0, 9000), 2)
    income[random.random(num) < 0.2] = 0.0
    income[random.random(num) < 0.1] = np.nan
    names = np.array(["Ayr", "Bath", "Cork", "Dover"], dtype=object)[town]
    names[random.random(num) < 0.05] = None
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 731, num), unit="D")
    return pd.DataFrame(
        {
            "age": age,
            "income": income,
            "town": pd.Series(names, dtype="str"),
            "member": random.random(num) < 0.3 + 0.1 * town,
            "joined": days.strftime("%Y-%m-%d"),
            "grade": 1 + (town > 0) + (town > 1),
        }
    )


def measure(
    table: pd.DataFrame,
    schema: Schema = SCHEMA,
    *,
    noise_stddev: float = 0.0,
    fine_cells: int = 512,
    max_cells: int = 12,
    **bought: Any,
) -> Statistics:
    """Statistics as the private side would buy them, with seeded noise."""
    random, domain, fine = np.random.default_rng(1), fine_domain(schema, max_cells=fine_cells, **bought), {}
    for cells in domain.cells:
        name = cells.column.name
        counts = np.bincount(cells.codes(table[name]), minlength=cells.fine_size).astype(float)
        counts += noise_stddev * random.standard_normal(len(counts))
        fine[name] = Marginal(columns=(name,), counts=counts, noise_stddev=noise_stddev)
    coarse = coarsen(domain, fine, max_cells, num_rows=len(table))
    return Statistics(num_units=len(table), num_rows=len(table), domain=coarse, fine=fine)


@dataclass(frozen=True, kw_only=True)
class World:
    """A generator on a small table."""

    table: pd.DataFrame
    encoder: TableEncoder
    generator: Any
    units: torch.Tensor
    rebuild: Any


def installed(name: str) -> bool:
    """Whether what a generator needs beyond the project's own requirements is there."""
    return name != "aim" or find_spec("mbi") is not None


def read_config(name: str) -> dict[str, Any]:
    """The settings of a file in `conf/generator`, without its name."""
    settings = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    assert settings.pop("name") == name
    return settings


def build(
    module: Any, config: Any, *, private: bool, num: int = 400, rows_per_unit: int | None = None
) -> World:
    """Builds a tabular generator as the pipeline does."""
    table = make_table(num)
    statistics = measure(table, noise_stddev=3.0 if private else 0.0, fine_cells=512 if private else 4096)
    schema, owners = SCHEMA, pd.Series(np.arange(num) // (rows_per_unit or 1))
    if rows_per_unit is not None:
        unit = Unit(column="who", max_rows=rows_per_unit)
        schema = replace(SCHEMA, columns=(*SCHEMA.columns, Identifier(name="who")), unit=unit)
        owners[::5] = num + owners.index[::5]  # some rows live alone, so units differ in length
    encoder = module.Generator.encoder(config, schema, statistics, private=private)

    def rebuild(seed: int = 0) -> Any:
        return module.Generator(config, encoder, statistics, seed=seed, private=private)

    units = torch.from_numpy(encoder.encode(table.assign(who=owners)))
    return World(table=table, encoder=encoder, generator=rebuild(), units=units, rebuild=rebuild)
