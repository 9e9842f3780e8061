"""Encoded units are the same, in memory or in a file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import panels
import pytest
import torch
from worlds import SCHEMA, make_table, measure

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Unit
from dpsynth.data.schema.columns import Identifier
from dpsynth.generators.base import load_generator
from dpsynth.privacy.training import encoded_units
from dpsynth.privacy.training.sampling import MappedUnits

TABLE = make_table(500)
ENCODER = TableEncoder(SCHEMA, measure(TABLE), "bins")
OWNED = replace(
    SCHEMA, columns=(*SCHEMA.columns, Identifier(name="who")), unit=Unit(column="who", max_rows=3)
)


@pytest.mark.parametrize("schema", [SCHEMA, OWNED])
def test_units_in_a_file_are_those_in_memory(schema, monkeypatch):
    monkeypatch.setattr(encoded_units, "_BLOCK", 70)
    frame = TABLE.copy()
    if schema is OWNED:  # entities with one to three rows, apart from one another, in no order
        frame["who"] = np.random.default_rng(0).permutation(np.arange(500) % 230)
    encoder = TableEncoder(schema, measure(TABLE, schema), "bins")
    resident = encoded_units.unit_store(frame, encoder, resident_mb=1.0)
    mapped = encoded_units.unit_store(frame, encoder, resident_mb=1e-3)
    assert isinstance(resident, torch.Tensor) and isinstance(mapped, MappedUnits)
    assert len(mapped) == len(resident) == (230 if schema is OWNED else 500)
    every = torch.arange(len(mapped))
    assert torch.equal(mapped.take(every).nan_to_num(-9.0), resident.nan_to_num(-9.0))


def test_an_empty_table_is_resident():
    assert len(encoded_units.unit_store(TABLE.iloc[:0], ENCODER, resident_mb=1.0)) == 0


def test_sequences_in_a_file_are_those_in_memory(monkeypatch):
    monkeypatch.setattr(encoded_units, "_BLOCK", 7)
    method = load_generator("dgan")
    statistics = Statistics.made_up(panels.SCHEMA)
    encoder = method.Generator.encoder(method.Config(), panels.SCHEMA, statistics, private=True)
    frame = panels.panel(25).sample(frac=1.0, random_state=0)  # rows of entities apart from one another
    resident = encoded_units.unit_store(frame, encoder, resident_mb=10.0)
    mapped = encoded_units.unit_store(frame, encoder, resident_mb=1e-6)
    assert isinstance(mapped, MappedUnits) and len(mapped) == len(resident) == 25
    every = torch.arange(25)
    assert torch.equal(mapped.take(every).nan_to_num(-9.0), resident.nan_to_num(-9.0))
