"""What a table of sequences says about itself: for training WITHOUT privacy only."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any

import numpy as np
import pandas as pd

from dpsynth.data.bought.grid import fine_domain
from dpsynth.data.bought.statistics import Marginal, Statistics
from dpsynth.data.schema import (
    Boolean,
    Categorical,
    Column,
    Continuous,
    Datetime,
    Identifier,
    Integer,
    Schema,
    Sequence,
    Unit,
)
from dpsynth.data.sequences.arrays import LongTable, parsed_dates
from dpsynth.errors import InvalidInput, Problem


def exact_statistics(frame: pd.DataFrame, schema: Schema) -> Statistics:
    """Counts exact histograms; every entity weighs 1."""
    domain = fine_domain(schema)
    entity = pd.factorize(frame[schema.unit.column])[0]
    share = 1.0 / np.bincount(entity)[entity]
    fine = {
        cells.column.name: Marginal(
            columns=(cells.column.name,),
            counts=np.bincount(cells.codes(frame[cells.column.name]), weights=share, minlength=cells.size),
            noise_stddev=0.0,
        )
        for cells in domain.cells
    }
    num = float(entity.max(initial=-1) + 1)
    return Statistics(num_units=num, num_rows=num, domain=domain, fine=fine)


def observed_schema(table: LongTable, calendar: Many[Any] | None, max_sequence_len: int | None) -> Schema:
    """Reads columns, bounds, values and lengths off the data."""
    frame = table.frame
    columns: list[Column] = [Identifier(name=table.entity, dtype=str(frame[table.entity].dtype))]
    modelled = [c for c in frame.columns if c in (table.time, *table.attributes, *table.features)]
    columns += [_column(frame[name], name, discrete=name in table.discrete) for name in modelled]
    lengths = frame.groupby(table.entity, sort=False).size()
    most = int(lengths.max())
    if max_sequence_len is not None and most > max_sequence_len:
        rule = f"is longer than max_sequence_len={max_sequence_len}: {most} steps."
        raise InvalidInput("the table", [Problem("an example", rule, "Raise it, or cut the sequences.")])
    return Schema(
        columns=tuple(columns),
        unit=Unit(column=table.entity, max_rows=most),
        sequence=Sequence(
            time=table.time,
            attributes=table.attributes,
            max_length=max_sequence_len or most,
            min_length=int(lengths.min()),
            calendar=None if calendar is None else tuple(calendar),
        ),
    )


def _column(series: pd.Series, name: str, *, discrete: bool) -> Column:
    nullable, known = bool(series.isna().any()), series.dropna()
    dtype = None if nullable else str(series.dtype)
    if pd.api.types.is_bool_dtype(series):
        return Boolean(name=name, nullable=nullable, dtype=dtype)
    if discrete or not len(known):
        values = sorted(known.unique().tolist(), key=lambda v: (str(type(v)), v)) or [""]
        return Categorical(name=name, values=tuple(values), nullable=nullable, dtype=dtype)
    if pd.api.types.is_integer_dtype(known):
        bounds = (int(known.min()), int(known.max()))
        return Integer(name=name, min=bounds[0], max=bounds[1], nullable=nullable, dtype=dtype)
    if pd.api.types.is_numeric_dtype(known):
        bounds = (float(known.min()), float(known.max()))
        kept = str(series.dtype)  # missing values fit in it
        return Continuous(name=name, min=bounds[0], max=bounds[1], nullable=nullable, dtype=kept)
    if pd.api.types.is_datetime64_any_dtype(known):
        parsed, style = known, "%Y-%m-%d %H:%M:%S"
    else:
        parsed, style = parsed_dates(known)
    low, high = (parsed.min().strftime(style), parsed.max().strftime(style))
    return Datetime(name=name, format=style, min=low, max=high, nullable=nullable, dtype=dtype)
