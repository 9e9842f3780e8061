"""Units: what one is, and what its neighbour, its weight and its extremes are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import panels
import pytest
from worlds import SCHEMA, make_table

from dpsynth.data.schema import Identifier, Schema, Unit
from dpsynth.data.schema.validation import check_columns
from dpsynth.data.tables.table import PrivateTable
from dpsynth.data.units.units import EntityUnits, RowUnits, SequenceUnits, units_of

ENTITIES = replace(
    SCHEMA, columns=(Identifier(name="who"), *SCHEMA.columns), unit=Unit(column="who", max_rows=3)
)
KINDS = {"rows": SCHEMA, "entities": ENTITIES, "sequences": panels.SCHEMA, "calendar": panels.CALENDAR}
every_kind = pytest.mark.parametrize("schema", KINDS.values(), ids=KINDS)


def table_of(schema: Schema) -> pd.DataFrame:
    if units_of(schema).ordered:
        return panels.panel(30, schema=schema).sample(frac=1.0, random_state=1)
    owners = np.random.default_rng(0).integers(0, 25, 60)
    return make_table(60).assign(who=owners)[list(schema.names)]


def test_the_kind_follows_from_the_schema_alone():
    kinds = [type(units_of(schema)) for schema in KINDS.values()]
    assert kinds == [RowUnits, EntityUnits, SequenceUnits, SequenceUnits]
    assert [units_of(schema).mass for schema in KINDS.values()] == [1, 3, 1, 1]
    assert [units_of(schema).protects for schema in (SCHEMA, ENTITIES)] == [
        "one row",
        "one who with at most 3 rows",
    ]
    assert units_of(panels.SCHEMA) == units_of(replace(panels.SCHEMA)) != units_of(panels.CALENDAR)


@every_kind
def test_what_is_kept_of_others_does_not_follow_the_unit_that_leaves(schema):
    units, frame = units_of(schema), table_of(schema)
    kept = units.capped(frame)
    for number in range(units.num(frame)):
        rest = units.without(frame, number)
        assert units.capped(rest).index.tolist() == [row for row in kept.index if row in rest.index]
        assert units.num(rest) == units.num(frame) - 1


@every_kind
def test_a_unit_weighs_at_most_its_mass(schema):
    units = units_of(schema)
    frame = units.capped(table_of(schema))
    owners = units.owners(frame)
    weights = units.weights(owners)
    assert weights.dtype == np.int64 and (weights > 0).all()
    assert np.bincount(owners, weights=weights).max() <= units.mass * units.resolution
    assert np.bincount(owners, weights=weights).max() >= 0.99 * units.mass * units.resolution


@every_kind
def test_blocks_hold_every_unit_whole_and_once(schema):
    units, frame = units_of(schema), table_of(schema)
    blocks = list(units.blocks(frame, 7))
    assert [units.num(block) for block in blocks][:-1] == [7] * (len(blocks) - 1)
    assert sorted(np.concatenate([block.index for block in blocks])) == sorted(frame.index)
    assert sum(units.num(block) for block in blocks) == units.num(frame)
    assert not list(units.blocks(frame.iloc[:0], 7))


@every_kind
def test_made_up_units_are_a_table_of_the_schema_with_every_extreme(schema):
    units = units_of(schema)
    frame = units.example(7)
    assert check_columns(frame, schema, text=False)[1] == [] and units.problems(frame) == []
    assert len(PrivateTable(frame, schema)._frame) == len(frame)
    assert units.num(frame) == 7
    sizes = np.bincount(units.owners(frame))
    most = schema.sequence.max_length if units.ordered else units.max_rows
    assert sizes.max() == most and (sizes.min() == 1 or units.ordered)
    weights = units.weights(units.owners(frame))
    assert np.bincount(units.owners(frame), weights=weights).max() >= 0.99 * units.mass * units.resolution
    for column in schema.modelled:
        if column.nullable:
            assert frame[column.name].isna().any() and frame[column.name].notna().any()


def test_rows_without_a_key_are_one_unit():
    units, frame = units_of(ENTITIES), table_of(ENTITIES).astype({"who": "Int64"})
    frame.loc[frame.index[:4], "who"] = pd.NA
    assert len(set(units.owners(frame)[:4])) == 1
    assert (units.owners(units.capped(frame)) >= 0).all()
