"""The columns of a file as they are written: text cells of CSV and TSV, typed columns of Parquet.

Every refusal is one `InvalidInput`. What other libraries say when they fail may quote cells: it is dropped.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dpsynth.data.schema.origins import Origin, arrow_origin, arrow_values
from dpsynth.errors import DpsynthError, InvalidInput, Problem

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_KINDS = ".csv, .tsv (also with .gz) or .parquet"


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """A table before its schema has been applied.

    Args:
      names: of all columns, in order; a file may give one twice.
      frame: the columns that were asked for. Private.
      whole: all columns whose values can be told apart, asked for or not. Private.
      origins: what the file says of them; empty for text files, whose cells have no type.
      num_rows: private.
    """

    names: Sequence[object]
    frame: pd.DataFrame
    whole: pd.DataFrame
    origins: dict[str, Origin]
    num_rows: int

    @property
    def text(self) -> bool:
        return not self.origins


def read_text(path: Path, wanted: Sequence[str]) -> RawTable:
    """Reads a text file with every cell as text, names in the first line."""
    separator = separator_of(path)
    readable(path)
    with refusing(path):
        cells = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype="str",
            na_filter=False,
            encoding="utf-8-sig",
            index_col=False,
        )
    names = cells.iloc[0].to_list()
    rows = cells.iloc[1:].reset_index(drop=True)
    frame = pd.DataFrame({name: rows[names.index(name)] for name in wanted if name in names})
    return RawTable(names=names, frame=frame, whole=rows, origins={}, num_rows=len(rows))


def read_parquet(path: Path, wanted: Sequence[str]) -> RawTable:
    """Reads a Parquet file by its own types; columns of a type that no kind takes are not read."""
    import pyarrow.parquet as pq

    readable(path)
    with refusing(path):
        arrow_schema = pq.read_schema(path)
        names = arrow_schema.names
        refuse_names(path, names)
        origins = {name: arrow_origin(arrow_schema.field(name).type) for name in names}
        known = [name for name in names if origins[name].known]
        arrow = pq.read_table(path, columns=known)
        whole = pd.DataFrame({name: arrow_values(arrow[name]) for name in known})
        asked = {name: origins[name] for name in wanted if name in names}
        nothing = pd.Series([None] * arrow.num_rows, dtype=object)
        frame = pd.DataFrame({name: whole[name] if name in known else nothing for name in asked})
    return RawTable(names=names, frame=frame, whole=whole, origins=asked, num_rows=arrow.num_rows)


def of_frame(frame: pd.DataFrame, wanted: Sequence[str]) -> RawTable:
    """Takes the columns of a frame; of its index the levels that are declared by name."""
    from dpsynth.data.schema.origins import pandas_origin

    levels = [name for name in frame.index.names if name in wanted and name not in frame.columns]
    frame = frame.reset_index(level=levels) if levels else frame
    kept = frame.loc[:, ~frame.columns.duplicated()]
    kept = kept[[name for name in kept.columns if name in wanted]].reset_index(drop=True)
    origins = {name: pandas_origin(dtype) for name, dtype in kept.dtypes.items()}
    whole = frame.loc[:, [pandas_origin(dtype).known for dtype in frame.dtypes]]
    return RawTable(names=list(frame.columns), frame=kept, whole=whole, origins=origins, num_rows=len(frame))


class refusing:
    """Turns what goes wrong in a reader into one problem; its message may quote values, so it is dropped."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> bool:
        if error is None or isinstance(error, DpsynthError) or not isinstance(error, Exception):
            return False
        if isinstance(error, UnicodeError):
            fix = f"Convert it, for example: iconv -f LATIN1 -t UTF-8 {self.path.name}."
            raise file_problem(self.path, "Is not UTF-8 text.", fix) from None
        if isinstance(error, pd.errors.EmptyDataError):
            raise file_problem(self.path, "Is empty.", "Give a file with a header and rows.") from None
        if isinstance(error, pd.errors.ParserError):
            rule = "Its rows do not all have as many cells as its header, or a quote is not closed."
            fix = f"Check the separator; expected {separator_of(self.path)!r}."
            raise file_problem(self.path, rule, fix) from None
        if isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
            raise file_problem(self.path, "Is not a complete gzip file.", "Pack it again.") from None
        raise file_problem(self.path, "Cannot be read.", f"Give a complete {_KINDS} file.") from None


def readable(path: Path) -> None:
    """Refuses a file that is not there or has nothing in it."""
    if not path.is_file():
        raise file_problem(path, "No such file.", "Correct data.path.")
    if not path.stat().st_size:
        raise file_problem(path, "Is empty.", "Give a file with a header and rows.")


def refuse_names(path: Path, names: Sequence[str]) -> None:
    """Refuses names that are empty or occur twice, by place: they may be someone's values."""
    problems = twice_problems(names)
    problems += [Problem("columns", "A column has no name.", "Name it.")] if "" in names else []
    if problems:
        raise InvalidInput(str(path), problems)


def twice_problems(names: Sequence[object], known: Sequence[str] = ()) -> list[Problem]:
    """Lists names that occur more than once, by place; those that are declared by name."""
    problems = []
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        places = ", ".join(str(place) for place, other in enumerate(names, 1) if other == name)
        where = f"column {name!r}" if name in known else f"columns {places}"
        rule = "Its name occurs more than once." if name in known else "Have one name."
        seen = "" if name in known else repr(name)
        problems.append(Problem(where, rule, "Rename one of them.", seen))
    return problems


def is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def separator_of(path: Path) -> str:
    """Returns what separates the cells of a text file, by its ending."""
    plain = Path(path.stem) if path.suffix.lower() == ".gz" else path
    if plain.suffix.lower() not in _SEPARATORS:
        raise file_problem(path, f"Its ending {path.suffix!r} is unknown.", f"Use {_KINDS}.")
    return _SEPARATORS[plain.suffix.lower()]


def file_problem(path: Path, rule: str, fix: str) -> InvalidInput:
    return InvalidInput(str(path), [Problem("file", rule, fix)])
