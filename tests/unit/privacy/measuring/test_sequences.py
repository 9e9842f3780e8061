import math

import numpy as np
import pytest
from panels import CALENDAR, SCHEMA, panel

from dpsynth.data.bought.grid import fine_domain
from dpsynth.data.sequences.questions import default_questions
from dpsynth.data.units.units import RESOLUTION, units_of
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.measuring.measure import histograms as column_histograms
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Request


class Counts:
    """Stands in for a purchase: keeps the exact integers that noise would be added to."""

    def __init__(self, table, schema):
        self.table, self.units, self.plan = table, units_of(schema), self

    def noisy(self, name, count, *, scale):
        self.exact = count(self.table)
        return self.exact / scale

    def event(self, name):
        return type("Event", (), {"noise_stddev": 0.0})


def histograms(table, schema):
    shop = Counts(table, schema)
    found = column_histograms(shop, fine_domain(schema))
    return shop.exact, found


@pytest.mark.parametrize("schema", [SCHEMA, CALENDAR], ids=["variable", "fixed"])
def test_an_entity_weighs_one_in_every_histogram_however_long(schema):
    table = panel(schema=schema)
    whole, found = histograms(table, schema)
    for who in table.who.unique()[::5]:
        change = whole - histograms(table[table.who != who], schema)[0]
        assert (change >= 0).all()
        sizes = np.cumsum([cells.fine_size for cells in fine_domain(schema).cells])[:-1]
        parts = np.split(change, sizes)
        assert all(RESOLUTION * 0.999 < part.sum() <= RESOLUTION for part in parts)
        assert np.linalg.norm(change) <= RESOLUTION * math.sqrt(len(parts))
    for marginal in found.values():
        assert marginal.counts.sum() == pytest.approx(table.who.nunique(), abs=1e-3)


def test_counting_rows_would_break_the_stated_sensitivity():
    """The broken twin: a histogram of rows moves by the length of the entity that leaves."""
    table = panel()
    longest = table.who.value_counts().index[0]
    rows = table.who.value_counts().iloc[0]
    change = table.group.value_counts() - table[table.who != longest].group.value_counts()
    assert change.max() == rows > 1


def test_the_plan_pays_for_entities_in_histograms_of_sequences():
    asked = len(default_questions(SCHEMA))
    request = Request(trains=True, num_marginals=asked)
    plan = make_plan(
        PrivacyConfig(epsilon=2.0), TrainingConfig(steps=20, epochs=None, sample_rate=0.1), SCHEMA, request
    )
    for name, count in (("columns/histograms", len(SCHEMA.modelled)), ("marginals", asked)):
        event = plan.event(name)
        assert event.noise_stddev == pytest.approx(event.noise_multiplier * math.sqrt(count))
