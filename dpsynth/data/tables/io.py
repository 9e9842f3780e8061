"""Reads and writes tables: CSV, TSV (both also with .gz) and Parquet.

Text files are read as text and parsed by the schema, Parquet files by their own types, so that no dtype
depends on the values. Every refusal is one `InvalidInput` that lists all problems of the table.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from dpsynth.data.schema import Column, Datetime, Schema
from dpsynth.data.schema.draft import of_origin
from dpsynth.data.schema.dtypes import dates_as_text, dtype_name
from dpsynth.data.schema.looks import drafted as of_cells
from dpsynth.data.schema.origins import arrow_origin
from dpsynth.data.schema.validation import check_column, missing_texts
from dpsynth.data.tables.files import (
    is_parquet,
    of_frame,
    read_parquet,
    read_text,
    readable,
    refuse_names,
    refusing,
    separator_of,
)
from dpsynth.data.tables.fingerprint import marked
from dpsynth.data.tables.table import name_problems
from dpsynth.data.units.units import units_of
from dpsynth.errors import InvalidInput, Problem

MIN_ROWS = 2


def read_table(source: str | Path | pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Reads a table and checks it against its schema, before anything else is done with it.

    Columns come back in the order of `source`, in dtypes that follow from the schema and the types of the
    file (Arrow's, or a frame's dtypes) and from no value: numbers and booleans in their declared dtype or
    their kind's own, dates as moments or text as the file has them. Equal values look equal: 0.0 and -0.0,
    1 and True, 0.1 in any width. Missing values stay missing. Columns declared `Drop` are left out.

    Edge cases: numbers and dates out of bounds are clipped where the schema says clip, values that are not
    listed count as `other` where it names one, and are refused elsewhere; constant columns, and nullable
    columns that are missing throughout, are fine. Text files use UTF-8 and an empty cell, `NA` and the like
    for missing values, unless `schema.missing` lists others. Of a frame's
    index only what is declared by name is read.

    Args:
      source: private; a path or a frame, which is not changed.
      schema: public.
    Raises:
      InvalidInput: lists every problem with column, rule and fix, and no value of the table.
    """
    if isinstance(source, pd.DataFrame):
        subject, raw = "the table", of_frame(source, schema.names)
    else:
        path = Path(source)
        subject, raw = str(source), (read_parquet if is_parquet(path) else read_text)(path, schema.names)
    problems = name_problems(raw.names, schema)
    if raw.num_rows < MIN_ROWS:
        rule = f"Has fewer than {MIN_ROWS} rows." if raw.num_rows else "Has no rows."
        fix = "Give a table with more rows; nothing can be learned from this one."
        problems.append(Problem("rows", rule, fix))
    values = {}
    for name in raw.frame:
        origin = raw.origins.get(name)
        done = check_column(raw.frame[name], schema.column(name), schema, text=raw.text, origin=origin)
        values[name], problems = done.values, [*problems, *done.problems]
    checked = pd.DataFrame(values)
    checked = checked[[name for name in raw.names if name in values]] if not problems else checked
    problems = problems or units_of(schema).problems(checked)
    if problems:
        raise InvalidInput(subject, problems)
    return marked(checked, raw.whole)


def read_draft(path: str | Path) -> tuple[Column, ...]:
    """Drafts the columns of a file, in order; no value leaves this function.

    Parquet files carry their types. Text files do not: there a kind is a look of all cells, so that it says
    something about them (for example that all are whole numbers, or some blank). It is treated as public.

    Raises:
      InvalidInput: the file cannot be read, or names are missing or occur twice.
    """
    path = Path(path)
    if is_parquet(path):
        import pyarrow.parquet as pq

        readable(path)
        with refusing(path):
            arrow = pq.read_schema(path)
        refuse_names(path, arrow.names)
        return tuple(of_origin(field.name, arrow_origin(field.type)) for field in arrow)
    raw = read_text(path, ())
    refuse_names(path, raw.names)
    return tuple(of_cells(name, raw.whole.iloc[:, place]) for place, name in enumerate(raw.names))


def stored_dtypes(path: Path) -> dict[str, str]:
    """Returns the dtypes that a Parquet file of ours gives back, by name, in order; no value is read."""
    import pyarrow.parquet as pq

    readable(path)
    with refusing(path):
        arrow = pq.read_schema(path)
        empty = arrow.empty_table().to_pandas()
    noted = {c["name"]: c["numpy_type"] for c in (arrow.pandas_metadata or {}).get("columns", [])}
    objects = {name: "object" for name in empty if noted.get(name) == "object"}
    return {name: dtype_name(empty[name].dtype) for name in empty} | objects


def write_table(frame: pd.DataFrame, path: str | Path, schema: Schema | None = None) -> None:
    """Writes a table so that `read_table` gives it back; missing values as the first text that says so.

    Args:
      path: its ending says the format: .csv, .tsv (also with .gz) or .parquet.
      schema: gives the format of dates and the texts of missing values in text files.
    Raises:
      InvalidInput: a text would be read back as a missing value; names its columns.
    """
    frame, path = frame.copy(deep=False), Path(path)
    frame.attrs = {}
    if is_parquet(path):
        frame.to_parquet(path, index=False)
        return
    dates = [c for c in schema.columns if isinstance(c, Datetime) and c.name in frame] if schema else []
    moments = {c.name: dates_as_text(frame[c.name], c) for c in dates if frame[c.name].dtype.kind == "M"}
    packed = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    frame = frame.assign(**moments)
    frame = frame if schema is None else _with_gaps(frame, schema, path)
    frame.to_csv(path, sep=separator_of(path), index=False, compression=packed, encoding="utf-8")


def _with_gaps(frame: pd.DataFrame, schema: Schema, path: Path) -> pd.DataFrame:
    """Puts the texts of missing values where values are missing, and refuses values that look like them."""
    problems, filled = [], {}
    for column in (column for column in schema.columns if column.name in frame):
        series, texts = frame[column.name], missing_texts(column, schema, text=True)
        gone, where = series.isna(), f"column {column.name!r}"
        if gone.any() and not texts:
            fix = "Declare missing with a text that is no value, or write .parquet."
            problems.append(Problem(where, "Has missing values, and no text stands for them.", fix))
        elif gone.any() and texts[0]:
            filled[column.name] = series.astype(object).where(~gone, texts[0])
        if not (is_numeric_dtype(series.dtype) or series.dtype.kind == "M") and series.isin(texts).any():
            fix = "Declare missing with other texts, list it in values, or write .parquet."
            problems.append(Problem(where, "Holds a text that would be read as missing.", fix))
    if problems:
        raise InvalidInput(str(path), problems)
    return frame.assign(**filled)
