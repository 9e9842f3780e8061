"""Reads and writes tables: CSV, TSV (both also with .gz) and Parquet.

Text files are read as text and parsed by the schema, so that no dtype depends on the values in them.
Every refusal is one `InvalidInput` that lists all problems of the table.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pandas as pd

from dpsynth.data.dtypes import dtype_name, restore
from dpsynth.data.fingerprint import marked
from dpsynth.data.schema import Datetime, Identifier, Schema
from dpsynth.data.sequence_rows import sequence_problems
from dpsynth.data.table import capped, name_problems
from dpsynth.data.validation import check_columns
from dpsynth.errors import InvalidInput, Problem

MIN_ROWS = 2
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_KINDS = ".csv, .tsv (also with .gz) or .parquet"


def read_table(source: str | Path | pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Reads a table and checks it against its schema, before anything else is done with it.

    Column names, their order and dtypes come back as they are in `source`; in text files, which have no
    dtypes, they are the schema's. Missing values stay missing. Columns declared `Drop` are left out.

    Edge cases: numbers and dates out of bounds are clipped where the schema says clip, and refused elsewhere;
    constant columns, and nullable columns that are missing throughout, are fine. Text files use UTF-8 and an
    empty cell, `NA` and the like for missing values, besides what `schema.missing` lists. Of a frame the
    index is left out; dates without a time in Parquet come back as timestamps.

    Args:
      source: private; a path or a frame, which is not changed.
      schema: public.
    Raises:
      InvalidInput: lists every problem with column, rule and fix, and no value of the table.
    """
    subject = "the table" if isinstance(source, pd.DataFrame) else str(source)
    text = not isinstance(source, pd.DataFrame) and not _is_parquet(Path(source))
    if isinstance(source, pd.DataFrame):
        frame = source
    else:
        frame = _read_text(Path(source)) if text else _read_parquet(Path(source), schema)
    problems = name_problems(frame, schema)
    if len(frame) < MIN_ROWS:
        rule = f"Has fewer than {MIN_ROWS} rows." if len(frame) else "Has no rows."
        problems.append(
            Problem("rows", rule, "Give a table with more rows; nothing can be learned from this one.")
        )
    frame = frame.loc[:, ~frame.columns.duplicated()]
    checked, found = check_columns(frame, schema, text=text)
    problems += found
    if not problems and schema.sequence is not None:
        problems = sequence_problems(capped(checked, schema), schema)
    if problems:
        raise InvalidInput(subject, problems)
    return marked(checked, frame)


def read_dtypes(path: str | Path) -> dict[str, str]:
    """Returns the dtypes of a table's columns by name, in order; no value leaves this function.

    Parquet files carry their dtypes. Text files do not: there pandas infers them from all values, so that
    a dtype says something about them (for example that all are whole numbers). Dtypes are treated as public.

    Raises:
      InvalidInput: the file cannot be read, or names are missing or occur twice.
    """
    path = Path(path)
    if _is_parquet(path):
        import pyarrow.parquet as pq

        _readable(path)
        with _refusing(path):
            arrow = pq.read_schema(path)
            empty = arrow.empty_table().to_pandas()
        _refuse_names(path, list(empty.columns))
        return {name: dtype_name(empty[name].dtype) for name in empty} | _noted_dtypes(arrow.pandas_metadata)
    frame = _read_text(path)
    _refuse_names(path, list(frame.columns))
    inferred = pd.read_csv(path, sep=_separator(path), encoding="utf-8-sig", low_memory=False)
    return {name: dtype_name(dtype) for name, dtype in zip(frame.columns, inferred.dtypes)}


def write_table(frame: pd.DataFrame, path: str | Path, schema: Schema | None = None) -> None:
    """Writes a table so that `read_table` gives it back; missing values as the schema's first missing text.

    Args:
      path: its ending says the format: .csv, .tsv (also with .gz) or .parquet.
      schema: gives the format of dates and the text of missing values in text files.
    """
    frame, path = frame.copy(deep=False), Path(path)
    frame.attrs = {}
    if _is_parquet(path):
        frame.to_parquet(path, index=False)
        return
    dates = [c for c in schema.columns if isinstance(c, Datetime) and c.name in frame] if schema else []
    moments = {c.name: frame[c.name].dt.strftime(c.format) for c in dates if frame[c.name].dtype.kind == "M"}
    packed = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
    gap = schema.missing[0] if schema and schema.missing else ""
    frame.assign(**moments).to_csv(
        path, sep=_separator(path), index=False, na_rep=gap, compression=packed, encoding="utf-8"
    )


def _read_text(path: Path) -> pd.DataFrame:
    """Reads a text file with every cell as text, names in the first line."""
    separator = _separator(path)
    _readable(path)
    with _refusing(path):
        cells = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype="str",
            na_filter=False,
            encoding="utf-8-sig",
            index_col=False,
        )
    frame = cells.iloc[1:].reset_index(drop=True)
    frame.columns = pd.Index(cells.iloc[0].to_list(), dtype=object)
    return frame


def _read_parquet(path: Path, schema: Schema) -> pd.DataFrame:
    """Reads a Parquet file; whole numbers and booleans keep their dtype where values may be missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _readable(path)
    with _refusing(path):
        arrow = pq.read_table(path)
        by_pandas = b"pandas" in (arrow.schema.metadata or {})
        _refuse_names(path, arrow.schema.names)
        frame = arrow.to_pandas(date_as_object=False).reset_index(drop=True)
    for name, dtype in _noted_dtypes(arrow.schema.pandas_metadata).items():
        if name in frame:
            frame[name] = restore(frame[name], Identifier(name=name, dtype=dtype))
    for field in arrow.schema:
        if pa.types.is_decimal(field.type):
            frame[field.name] = frame[field.name].astype("float64")
        elif not by_pandas and field.name in schema.names and schema.column(field.name).nullable:
            # Without pandas' own notes a missing value would turn int64 into float64: one row, another dtype.
            if pa.types.is_integer(field.type):
                frame[field.name] = arrow[field.name].to_pandas(integer_object_nulls=True).astype("Int64")
            elif pa.types.is_boolean(field.type):
                frame[field.name] = frame[field.name].astype("boolean")
    return frame


def _noted_dtypes(notes: dict | None) -> dict[str, str]:
    """Returns dtypes that pandas noted when it wrote a Parquet file, and that reading would change."""
    kept = {"object": "unicode", "datetime64[s]": "datetime"}
    columns = (notes or {}).get("columns", [])
    return {c["name"]: c["numpy_type"] for c in columns if kept.get(c["numpy_type"]) == c["pandas_type"]}


class _refusing:
    """Turns what goes wrong in a reader into one problem; its message may quote values, so it is dropped."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> bool:
        if error is None or isinstance(error, InvalidInput):
            return False
        if isinstance(error, UnicodeError):
            fix = f"Convert it, for example: iconv -f LATIN1 -t UTF-8 {self.path.name}."
            raise _file_problem(self.path, "Is not UTF-8 text.", fix) from None
        if isinstance(error, pd.errors.EmptyDataError):
            raise _file_problem(self.path, "Is empty.", "Give a file with a header and rows.") from None
        if isinstance(error, pd.errors.ParserError):
            rule = "Its rows do not all have as many cells as its header, or a quote is not closed."
            raise _file_problem(
                self.path, rule, f"Check the separator; expected {_separator(self.path)!r}."
            ) from None
        if isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
            raise _file_problem(self.path, "Is not a complete gzip file.", "Pack it again.") from None
        if isinstance(error, (OSError, ValueError)):
            raise _file_problem(self.path, "Cannot be read.", f"Give a complete {_KINDS} file.") from None
        return False


def _readable(path: Path) -> None:
    if not path.is_file():
        raise _file_problem(path, "No such file.", "Correct data.path.")
    if not path.stat().st_size:
        raise _file_problem(path, "Is empty.", "Give a file with a header and rows.")


def _refuse_names(path: Path, names: list[str]) -> None:
    problems = [
        Problem(f"column {name!r}", "Its name occurs more than once.", "Rename one of them.")
        for name in dict.fromkeys(name for name in names if names.count(name) > 1)
    ]
    problems += [Problem("columns", "A column has no name.", "Name it.")] if "" in names else []
    if problems:
        raise InvalidInput(str(path), problems)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _separator(path: Path) -> str:
    plain = Path(path.stem) if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() not in _SEPARATORS:
        raise _file_problem(path, f"Its ending {path.suffix!r} is unknown.", f"Use {_KINDS}.")
    return _SEPARATORS[plain.suffix.lower()]


def _file_problem(path: Path, rule: str, fix: str) -> InvalidInput:
    return InvalidInput(str(path), [Problem("file", rule, fix)])
