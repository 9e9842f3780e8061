"""Rows of sequences in order: by entity, then by time, cut at the declared maximum length."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.data.schema.axis import to_axis
from dpsynth.errors import InvalidInput, Problem


def ordered_rows(
    frame: pd.DataFrame, schema: Schema
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, np.ndarray]:
    """Sorts rows by entity and time and cuts at the maximum length.

    Raises:
      InvalidInput: attributes that change within an entity, times off the declared calendar, or sequences
        below the declared minimum length; every offending column is named.
    """
    found = _sorted(frame, schema)
    if problems := _problems(schema, *found):
        raise InvalidInput("the table", problems)
    return found


def sequence_problems(frame: pd.DataFrame, schema: Schema) -> list[Problem]:
    """Lists what would be refused, so that it is known before anything is charged; names no value."""
    return _problems(schema, *_sorted(frame, schema))


def _sorted(frame: pd.DataFrame, schema: Schema) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, np.ndarray]:
    sequence = schema.sequence
    entity = pd.factorize(frame[schema.unit.column])[0]
    if sequence.time is None:
        times = np.arange(len(frame), dtype=np.float64)
    else:
        times = to_axis(schema.column(sequence.time), frame[sequence.time])
    order = np.lexsort((times, entity))
    entity, times = entity[order], times[order]
    starts = np.searchsorted(entity, entity, side="left")
    place = np.arange(len(entity)) - starts
    keep = place < sequence.max_length
    table = frame.iloc[order[keep]].reset_index(drop=True)
    return entity[keep], place[keep], table, times[keep]


def _problems(
    schema: Schema, entity: np.ndarray, place: np.ndarray, table: pd.DataFrame, times: np.ndarray
) -> list[Problem]:
    sequence, problems = schema.sequence, []
    first = np.arange(len(entity)) - place
    for name in sequence.attributes:
        codes = pd.factorize(table[name])[0]
        if (codes != codes[first]).any():
            rule = "is declared an attribute but changes within an entity."
            problems.append(Problem(name, rule, "Declare it a feature, or correct the table."))
    if sequence.calendar is not None:
        calendar = to_axis(schema.column(sequence.time), pd.Series(sequence.calendar))
        if not np.array_equal(times, calendar[place]):
            rule = "has times that are not those of the declared calendar, in its order."
            problems.append(Problem(sequence.time, rule, "Remove `calendar` to model the times."))
    if len(entity) and np.bincount(entity).min() < sequence.min_length:
        rule = f"has entities with fewer rows than min_length={sequence.min_length}."
        problems.append(Problem("sequence", rule, "Lower min_length."))
    return problems
