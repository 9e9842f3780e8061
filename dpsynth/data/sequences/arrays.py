"""Arrays and wide tables as long tables of sequences, and back; long series cut into windows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from dpsynth.errors import InvalidInput, Problem

ENTITY, STEP = "entity", "step"
WINDOWS = "windows of one series"  # among the attributes of a frame that `windows` cut
Kind = Literal["continuous", "discrete"]


@dataclass(frozen=True, kw_only=True)
class LongTable:
    """A long table with the roles of its columns.

    Args:
      frame: one row per entity and step; None where only the roles are of interest.
      entity, time: their columns; without times, `time` is None and rows are in order.
      attributes, features: columns constant within an entity, and along it.
      discrete: columns to be treated as categories.
      untyped: columns out of arrays of objects or text; what they hold is a fact of their values alone.
      style: what the input was: `numpy`, `wide` or `long`.
      columns: of a wide input, in its order, with their dtypes; its example ids, if any, are `ids`.
      steps: of a wide input, its feature columns in the order of steps.
      ids: the column of example ids of a wide input.
    """

    frame: pd.DataFrame | None
    entity: str
    time: str | None
    attributes: tuple[str, ...]
    features: tuple[str, ...]
    discrete: tuple[str, ...]
    style: str
    columns: tuple[tuple[Any, str], ...] = ()
    steps: tuple[Any, ...] = ()
    ids: Any = None
    untyped: tuple[str, ...] = ()


def from_numpy(
    features: np.ndarray | Many[np.ndarray],
    feature_types: Many[Kind] | None = None,
    attributes: np.ndarray | None = None,
    attribute_types: Many[Kind] | None = None,
    *,
    cast: bool = True,
) -> LongTable:
    """Lays out features [example, step, feature] (or a list of [step, feature]) and attributes [example, a].

    Columns that cannot be cast to float are discrete unless types say otherwise.

    Args:
      cast: turn columns of objects or text into numbers where all values allow it. Without it the numbers of
        a list are float64, whatever its arrays hold: one array of another dtype would decide for all.
    Raises:
      InvalidInput: shapes that do not fit together; every problem is listed.
    """
    parts = [np.asarray(part) for part in features]
    if not cast and not isinstance(features, np.ndarray):
        parts = [part.astype(np.float64) if part.dtype.kind in "biuf" else part for part in parts]
    problems = []
    if not parts or any(part.ndim != 2 for part in parts) or len({part.shape[1] for part in parts}) != 1:
        rule = "are not a 3-D array or a list of 2-D arrays with equally many columns."
        raise InvalidInput("the arrays", [Problem("features", rule, "Correct their shapes.")])
    if any(len(part) == 0 for part in parts):
        problems.append(Problem("features", "have an example without steps.", "Leave it out."))
    width = parts[0].shape[1]
    if feature_types is not None and len(feature_types) != width:
        rule = f"has {len(feature_types)} entries for {width} features."
        problems.append(Problem("feature_types", rule, "Give one per feature."))
    if attributes is not None:
        attributes = np.asarray(attributes)
        if attributes.ndim != 2 or len(attributes) != len(parts):
            rule = f"have shape {attributes.shape} for {len(parts)} examples."
            problems.append(Problem("attributes", rule, "Give one row per example."))
        elif attribute_types is not None and len(attribute_types) != attributes.shape[1]:
            rule = f"has {len(attribute_types)} entries for {attributes.shape[1]} attributes."
            problems.append(Problem("attribute_types", rule, "Give one per attribute."))
    if problems:
        raise InvalidInput("the arrays", problems)
    lengths = np.array([len(part) for part in parts])
    entity = np.repeat(np.arange(len(parts)), lengths)
    rows = np.concatenate(parts)
    columns: dict[str, Any] = {ENTITY: entity}
    discrete, untyped = [], []
    names: list[tuple[str, ...]] = []
    for prefix, values, types in (
        ("attribute", None if attributes is None else attributes[entity], attribute_types),
        ("feature", rows, feature_types),
    ):
        group = []
        for i in range(0 if values is None else values.shape[1]):
            name = f"{prefix}_{i}"
            column, castable = _column(values[:, i], cast)
            columns[name] = column
            if _is_untyped(values):
                untyped.append(name)
            if (types[i] == "discrete") if types is not None else not castable:
                discrete.append(name)
            group.append(name)
        names.append(tuple(group))
    return LongTable(
        frame=pd.DataFrame(columns),
        entity=ENTITY,
        time=None,
        attributes=names[0],
        features=names[1],
        discrete=tuple(discrete),
        style="numpy",
        untyped=tuple(untyped),
    )


def _is_untyped(values: np.ndarray) -> bool:
    return values.dtype == object or values.dtype.kind in "US"


def _column(values: np.ndarray, cast: bool) -> tuple[pd.Series, bool]:
    """A column with its own dtype, and whether its values are numbers."""
    if not _is_untyped(values):
        return pd.Series(values), True
    if not cast:
        return pd.Series(list(values), dtype=object), False
    series = pd.Series(list(values)).infer_objects()
    if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
        return series, True
    try:
        return pd.to_numeric(series), True
    except (ValueError, TypeError):
        return series, False


def from_frame(
    frame: pd.DataFrame,
    *,
    attribute_columns: Many[str] | None = None,
    feature_columns: Many[str] | None = None,
    example_id_column: str | None = None,
    time_column: str | None = None,
    discrete_columns: Many[str] | None = None,
    df_style: str = "wide",
    cast: bool = True,
) -> LongTable:
    """Lays out a wide table (a row per example, a column per step) or a long one (a row per step).

    Args:
      cast: turn the steps of a wide table into numbers where all values allow it.
    Raises:
      InvalidInput: missing columns, or a long table without entities; every problem is listed.
    """
    style = df_style.lower()
    if style not in ("wide", "long"):
        fix = "Use 'wide' or 'long'."
        raise InvalidInput("the table", [Problem("df_style", f"is {df_style!r}.", fix)])
    attributes = tuple(attribute_columns or ())
    outside = {*attributes, example_id_column, time_column}
    features = tuple(feature_columns or [c for c in frame.columns if c not in outside])
    named = [*attributes, *features, *(c for c in (example_id_column, time_column) if c is not None)]
    problems = [
        Problem(str(c), "is not a column.", "Correct its name.") for c in named if c not in frame.columns
    ]
    if style == "long" and example_id_column is None:
        fix = "Name the entity's column; cut one long series with `windows` first."
        problems.append(Problem("example_id_column", "is missing for df_style='long'.", fix))
    if problems:
        raise InvalidInput("the table", problems)
    discrete = set(discrete_columns or ())
    if style == "long":
        text = {c for c in (*attributes, *features) if not pd.api.types.is_numeric_dtype(frame[c])}
        columns = [example_id_column, *([time_column] if time_column else []), *attributes, *features]
        return LongTable(
            frame=frame[[c for c in frame.columns if c in columns]].reset_index(drop=True),
            entity=example_id_column,
            time=time_column,
            attributes=attributes,
            features=features,
            discrete=tuple(c for c in (*attributes, *features) if c in discrete | text),
            style="long",
        )
    values = frame[list(features)].to_numpy()
    long = {ENTITY: np.repeat(np.arange(len(frame)), len(features))}
    long |= {STEP: np.tile(np.arange(len(features)), len(frame))}
    long |= {c: frame[c].repeat(len(features)).reset_index(drop=True) for c in attributes}
    column, castable = _column(values.ravel(), cast)
    text = {c for c in attributes if not pd.api.types.is_numeric_dtype(frame[c])}
    return LongTable(
        frame=pd.DataFrame(long | {"value": column}),
        entity=ENTITY,
        time=STEP,
        attributes=attributes,
        features=("value",),
        discrete=tuple(
            text
            | (discrete & set(attributes))
            | (set() if castable and not discrete & set(features) else {"value"})
        ),
        style="wide",
        columns=tuple(
            (_plain(c), str(frame[c].dtype))
            for c in frame.columns
            if c in (*attributes, *features) or (example_id_column is not None and c == example_id_column)
        ),
        steps=tuple(map(_plain, features)),
        ids=example_id_column,
        untyped=("value",) if _is_untyped(values) else (),
    )


def _plain(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def to_wide(long: pd.DataFrame, table: LongTable) -> pd.DataFrame:
    """Inverts the wide layout: a row per entity, columns and dtypes as they were, fresh example ids."""
    first = long[~long[ENTITY].duplicated()]
    steps = long.pivot(index=ENTITY, columns=STEP, values="value").reindex(columns=range(len(table.steps)))
    found = {name: steps[i].reset_index(drop=True) for i, name in enumerate(table.steps)}
    found |= {name: first[name].reset_index(drop=True) for name in table.attributes}
    if table.ids is not None:
        found[table.ids] = pd.Series(range(1, len(first) + 1))
    return pd.DataFrame({name: _as_dtype(found[name], dtype) for name, dtype in table.columns})


def _as_dtype(series: pd.Series, dtype: str) -> pd.Series:
    """A column in its former dtype, where its values allow it."""
    if series.isna().any() and not pd.api.types.is_float_dtype(dtype):
        return series
    if pd.api.types.is_integer_dtype(dtype) and pd.api.types.is_numeric_dtype(series):
        series = series.round()
    return series.astype(dtype)


def to_numpy(
    long: pd.DataFrame, attributes: Many[str], features: Many[str]
) -> tuple[np.ndarray | None, np.ndarray | list[np.ndarray]]:
    """Inverts `from_numpy`: attributes [example, a] or None; features 3-D, or a list where lengths differ."""
    lengths = long.groupby(ENTITY, sort=False).size().to_numpy()
    values = long[list(features)].to_numpy()
    parts = np.split(values, np.cumsum(lengths)[:-1])
    heads = long.loc[~long[ENTITY].duplicated(), list(attributes)].to_numpy() if attributes else None
    return heads, np.stack(parts) if len(set(lengths)) == 1 else parts


def windows(
    frame: pd.DataFrame, length: int, *, step: int | None = None, time_column: str | None = None
) -> pd.DataFrame:
    """Cuts one long series into windows, each an example of its own; warns what that means.

    Adds a column `window`. Rows are ordered by time first; a rest shorter than `length` is left out and
    the warning says how many rows that is. `DGAN` refuses such a frame together with `privacy`.
    """
    if not 1 <= length <= len(frame):
        raise ValueError(f"Expected length={length} in [1, {len(frame)}].")
    step = length if step is None else step
    if step < 1:
        raise ValueError(f"Expected step={step} of at least 1.")
    if time_column is not None:
        times = frame[time_column]
        if not (pd.api.types.is_numeric_dtype(times) or pd.api.types.is_datetime64_any_dtype(times)):
            times, _ = parsed_dates(times)  # text has no order of time
        frame = frame.iloc[np.argsort(times.to_numpy(), kind="stable")]
    starts = np.arange(0, len(frame) - length + 1, step)
    rows = (starts[:, None] + np.arange(length)).ravel()
    rest = len(frame) - (starts[-1] + length)
    warnings.warn(
        "Windows of one series are not independent units: THE SERIES, NOT THE WINDOW, IS WHAT PRIVACY WOULD "
        f"HAVE TO PROTECT. Train on them without privacy only. {rest} rows at the end are in no window.",
        UserWarning,
        stacklevel=2,
    )
    cut = frame.iloc[rows].reset_index(drop=True)
    cut.insert(0, "window", np.repeat(np.arange(len(starts)), length))
    cut.attrs[WINDOWS] = True
    return cut


def parsed_dates(texts: pd.Series) -> tuple[pd.Series, str]:
    """Reads dates off texts, in the one format that fits them all."""
    for day_first in (False, True):
        style = pd.tseries.api.guess_datetime_format(str(texts.iloc[0]), dayfirst=day_first)
        try:
            return pd.to_datetime(texts, format=style), style
        except (ValueError, TypeError):
            continue
    rule = "holds times that are neither numbers nor dates in one format."
    raise InvalidInput("the table", [Problem(str(texts.name), rule, "Convert them; text has no order.")])
