"""The neighbour test: with charged answers held equal, nothing that a run leaves may follow one unit.

Noise is replaced by a fixed source that swallows the data (`tests/support/swamped.py`), so outputs of charged
mechanisms are equal on neighbouring tables. Then every file of the run must be equal byte for byte: release,
ledger (but for its random name), answers, weights, and so steps, rates, divisors, encoder, schema and rows.
Each planted leak is a broken twin that the same test must catch.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch

from dpsynth import pipeline
from dpsynth.audit.invariance import check_invariance
from dpsynth.data.schema.columns import Integer
from dpsynth.data.sequences.marginals import SequenceMarginals
from dpsynth.data.sequences.times import SequenceTimes
from dpsynth.data.tables.table import PrivateTable
from dpsynth.data.units.encoder import OfSequences
from dpsynth.generators import generator_names
from dpsynth.generators.base import load_generator
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.measuring import measure as measuring
from dpsynth.privacy.measuring.answers import Shop
from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.training import train, validation_looks
from tests.support import panels
from tests.support.leftovers import leftovers
from tests.support.swamped import SwampedEntropy
from tests.support.worlds import SCHEMA, installed, make_table

SEQUENTIAL = [
    n for n in generator_names() if issubclass(load_generator(n).Generator.encoder_type, OfSequences)
]
TABULAR = [n for n in generator_names() if n not in SEQUENTIAL and installed(n)]
OPEN = SCHEMA.with_columns(Integer(name="age", min=None, max=None))  # bounds of age are bought


OPEN_SEQUENCES = panels.SCHEMA.with_columns(replace(panels.SCHEMA.column("wage"), min=None, max=None))
OPEN_SEQUENCES = replace(OPEN_SEQUENCES, num_units=None)  # bought too
# what is free may be short
SHORT = {"anchor_steps": 2, "warm_steps": 2, "fit_pool": 2_000, "private_batch_size": 16}
SHORT |= {"adversarial_weight": 1.0}  # of critics, which read units
SHORT |= {"attribute_num_units": 16, "feature_num_units": 16, "private_discriminator_num_units": 16}
SHORT |= {"rounds": 2, "iterations": 2}


def recipe(name: str, **more) -> pipeline.Recipe:
    module = load_generator(name)
    known = {field.name for field in fields(module.Config)}
    short = SHORT | ({"adaptive_rounds": 1} if name == "marginal_net" else {}) | more
    return pipeline.Recipe(
        generator=name,
        settings=module.Config(**{key: value for key, value in short.items() if key in known}),
        privacy=PrivacyConfig(epsilon=2.0, delta=1e-4),
        training=TrainingConfig(steps=3, sample_rate=0.1, epochs=None),
        num_rows=None,
    )


@pytest.fixture
def runs(tmp_path):
    """Runs a recipe on a table and returns everything it left."""
    count = iter(range(100))

    def leave(name: str, table: pd.DataFrame, **settings) -> dict[str, bytes]:
        folder = tmp_path / str(next(count))
        schema = OPEN_SEQUENCES if name in SEQUENTIAL else OPEN
        pipeline.run(PrivateTable(table, schema), recipe(name, **settings), folder, entropy=SwampedEntropy())
        return leftovers(folder)

    return leave


TABLE = make_table(60)
SEQUENCES = panels.panel(25)
LARGEST = SEQUENCES.loc[SEQUENCES["wage"].idxmax(), "who"]  # of a column whose bounds are bought
WITHOUT_ENTITY = [SEQUENCES[SEQUENCES["who"] != who] for who in (SEQUENCES["who"].iloc[0], LARGEST)]
NEIGHBOURS = (TABLE.iloc[1:], TABLE.drop(index=int(TABLE["age"].idxmax())))


@pytest.mark.parametrize("name", TABULAR)
def test_nothing_unpaid_follows_one_unit(name, runs):
    assert check_invariance(lambda table: runs(name, table), TABLE, NEIGHBOURS) == []


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_nothing_unpaid_follows_one_entity(name, runs):
    assert check_invariance(lambda table: runs(name, table), SEQUENCES, WITHOUT_ENTITY) == []


def test_nothing_unpaid_follows_one_entity_where_histograms_are_all_that_is_bought(runs):
    def leave(table: pd.DataFrame) -> dict[str, bytes]:
        return runs("dgan", table, adversarial_weight=0.0)

    assert check_invariance(leave, SEQUENCES, WITHOUT_ENTITY) == []


def looking(name: str) -> pipeline.Recipe:
    """A recipe that buys looks at the loss, and may stop by them."""
    training = TrainingConfig(steps=8, sample_rate=0.1, epochs=None, validation_every=1, early_stop_delta=1.0)
    privacy = PrivacyConfig(epsilon=2.0, delta=1e-4, validation_share=0.1)
    return replace(recipe(name), privacy=privacy, training=training)


def leaves_after_looks(tmp_path):
    count = iter(range(100))

    def leave(table: pd.DataFrame) -> dict[str, bytes]:
        folder = tmp_path / str(next(count))
        pipeline.run(PrivateTable(table, OPEN), looking("tvae"), folder, entropy=SwampedEntropy())
        return leftovers(folder)

    return leave


def test_nothing_follows_one_unit_through_looks_at_the_loss(tmp_path):
    assert check_invariance(leaves_after_looks(tmp_path), TABLE, NEIGHBOURS[:1]) == []


def test_looks_that_tell_the_number_of_units_are_found_by_when_training_stops(tmp_path, monkeypatch):
    """Broken twin: a look falls with every step if the number of units is odd, and rises if it is even."""

    def leaking(self, number):
        return -10.0 * number if len(self._store) % 2 else 10.0 * number

    monkeypatch.setattr(validation_looks.BoughtLook, "__call__", leaking)
    assert check_invariance(leaves_after_looks(tmp_path), TABLE, NEIGHBOURS[:1]) != []


def test_charged_answers_do_follow_the_data(tmp_path):
    """Without swamping the same comparison sees the paid answers differ, so it can see at all."""
    left = []
    for i, table in enumerate((TABLE, NEIGHBOURS[0])):
        pipeline.run(
            PrivateTable(table, OPEN), recipe("independent"), tmp_path / str(i), entropy=FixedEntropy()
        )
        left.append(leftovers(tmp_path / str(i)))
    assert left[0]["answers.json"] != left[1]["answers.json"]


SEEN: dict[str, pd.DataFrame] = {}  # the table of the current run, for leaks that need it


def leak_bounds(monkeypatch):
    """Bounds read off the data."""

    def exact(shop):
        ((name, _),) = shop.schema.undeclared
        column = shop._table._frame[name]
        return {name: (float(column.min()), float(column.max()))}

    monkeypatch.setattr(measuring, "undeclared_bounds", exact)


def leak_count(monkeypatch):
    """The exact number of units as the noisy one: the divisor and the number of rows follow it."""
    monkeypatch.setattr(measuring, "noisy_count", lambda shop: float(len(shop._table._frame)))


def leak_vocabulary(monkeypatch):
    """Categories read off the data."""
    honest = measuring.fine_domain

    def from_data(schema, bounds, values, *, max_cells):
        ((name, _),) = schema.undeclared
        return honest(schema, bounds, values, max_cells=SEEN["table"][name].nunique())

    monkeypatch.setattr(measuring, "fine_domain", from_data)


def leak_rows(monkeypatch):
    """A real row stored beside the bought statistics."""
    honest = pipeline._release

    def with_row(generator, recipe, statistics, synthetic, ledger, entropy):
        synthetic = synthetic.copy()
        real = SEEN["table"].columns.drop("who", errors="ignore")  # keys are made anew
        synthetic.loc[0, real] = SEEN["table"].loc[0, real]
        return honest(generator, recipe, statistics, synthetic, ledger, entropy)

    monkeypatch.setattr(pipeline, "_release", with_row)


def leak_times(monkeypatch):
    """Every sequence starts when the first real one did."""
    honest = SequenceTimes.decode

    def copied(self, derived, place, entity):
        times = honest(self, derived, place, entity)
        return times.where(place > 0, SEEN["table"]["year"].iloc[0])

    monkeypatch.setattr(SequenceTimes, "decode", copied)


def leak_lengths(monkeypatch):
    """A bound on generated lengths that counts real rows."""
    honest = SequenceMarginals.draw_lengths

    def longest(self, num, random):
        found = SEEN["table"].groupby("who").size().sum() % self.layout.max_length + 1
        return np.minimum(honest(self, num, random), found)

    monkeypatch.setattr(SequenceMarginals, "draw_lengths", longest)


def leak_weights(monkeypatch):
    """A released weight that saw the table without noise."""
    honest = train.train

    def unpaid(objective, units, constants, *rest, **named):
        log = honest(objective, units, constants, *rest, **named)
        with torch.no_grad():
            objective.net.heads.bias[0] = float(len(SEEN["table"]))
        return log

    monkeypatch.setattr(train, "train", unpaid)


def leak_steps(monkeypatch):
    """Stock wiring: one epoch has len(data) / batch size steps."""
    honest = train.train

    def wired(objective, units, constants, *rest, **named):
        table = SEEN["table"]
        steps = table["who"].nunique() // 5 if "who" in table else len(table) // 10
        return honest(objective, units, replace(constants, steps=steps), *rest, **named)

    monkeypatch.setattr(train, "train", wired)


def leak_choice(monkeypatch):
    """A question chosen by the rows without paying for the choice."""
    honest = Shop.choose

    def unpaid(self, name, score):
        chosen = honest(self, name, score)
        return [(place + len(SEEN["table"])) % 15 for place in chosen]

    monkeypatch.setattr(Shop, "choose", unpaid)


PLANTS = [
    (leak_choice, "marginal_net"),
    (leak_bounds, "independent"),
    (leak_count, "independent"),
    (leak_vocabulary, "independent"),
    (leak_rows, "independent"),
    (leak_steps, "tvae"),
    (leak_rows, "sequence_independent"),
    (leak_lengths, "sequence_independent"),
    (leak_lengths, "var"),
    (leak_count, "var"),
    (leak_bounds, "arima"),
    (leak_rows, "arima"),
    (leak_vocabulary, "dgan"),
    (leak_times, "dgan"),
    (leak_weights, "dgan"),
    (leak_steps, "dgan"),
]


@pytest.mark.parametrize("plant, name", PLANTS, ids=lambda part: getattr(part, "__name__", part))
def test_a_planted_leak_is_caught(plant, name, runs, monkeypatch):
    plant(monkeypatch)

    def leave(table: pd.DataFrame) -> dict[str, bytes]:
        SEEN["table"] = table.reset_index(drop=True)
        return runs(name, table)

    tables = (SEQUENCES, WITHOUT_ENTITY) if name in SEQUENTIAL else (TABLE, NEIGHBOURS)
    assert check_invariance(leave, *tables) != []
