"""Does each synthetic row keep what the schema declares?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dpsynth.data.schema import Boolean, Column, Datetime, Schema
from dpsynth.data.schema.axis import declared_bounds, is_numeric, resolution
from dpsynth.evaluation.binning import as_numbers
from dpsynth.evaluation.features import category_codes
from dpsynth.evaluation.types import Metric


def invalid_cells(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Returns bool [row, column]: missing where not nullable, out of bounds, undeclared, of a wrong step.

    Edge cases: a column that the table lacks is invalid in every row.
    """
    columns = {}
    for column in schema.modelled:
        if column.name in table.columns:
            columns[column.name] = _broken(table[column.name], column)
        else:
            columns[column.name] = np.ones(len(table), dtype=bool)
    return pd.DataFrame(columns, index=table.index)


def _broken(series: pd.Series, column: Column) -> np.ndarray:
    missing = series.isna().to_numpy()
    allowed_missing = missing & column.nullable
    if is_numeric(column):
        numbers = as_numbers(series, column)
        fine = np.isfinite(numbers)
        low, high = declared_bounds(column) or (-np.inf, np.inf)
        step = resolution(column)
        with np.errstate(invalid="ignore"):
            fine &= (numbers >= low) & (numbers <= high)
            if step and not isinstance(column, Datetime):
                # a decimal fraction is off by at most a rounding of its own size
                off = np.abs(numbers - np.round(numbers / step) * step)
                fine &= off <= 1e-9 * np.maximum(step, np.abs(numbers) * 1e-3)
    else:
        values = (False, True) if isinstance(column, Boolean) else column.values
        fine = ~missing if values is None else ~np.isnan(category_codes(series, column, values))
    return ~(fine | allowed_missing)


def validity(synthetic: pd.DataFrame, schema: Schema) -> list[Metric]:
    """Share of rows and of cells that keep every declaration. Released: no real row is read."""
    broken = invalid_cells(synthetic, schema).to_numpy()
    if not broken.size:
        return []
    where = "synthetic rows against the schema: bounds, values, steps, missing"
    return [
        Metric(
            name="valid_rows",
            value=float(1 - broken.any(axis=1).mean()),
            computed_on=f"share of {where}",
            visibility="released",
        ),
        Metric(
            name="valid_cells",
            value=float(1 - broken.mean()),
            computed_on=f"share of cells of {where}",
            visibility="released",
        ),
    ]
