import json

import numpy as np
import pytest
from worlds import SCHEMA, make_table, measure

from dpsynth.data.bought.statistics import Marginal, Statistics


def test_probabilities_are_shares_of_the_bought_counts():
    table = make_table(500)
    statistics = measure(table)
    for cells in statistics.domain.cells:
        shares = np.bincount(cells.codes(table[cells.column.name]), minlength=cells.size) / len(table)
        assert statistics.probabilities(cells.column.name) == pytest.approx(shares)


def test_noisy_probabilities_are_on_the_simplex_and_near():
    table = make_table(5000)
    exact, noisy = measure(table), measure(table, noise_stddev=20.0)
    for name in exact.domain.names:
        shares = noisy.fine_probabilities(name)
        assert (shares >= 0).all() and shares.sum() == pytest.approx(1.0)
        coarse = noisy.probabilities(name)
        assert coarse.sum() == pytest.approx(1.0) and len(coarse) == noisy.domain[name].size
    town = exact.fine_probabilities("town")
    assert noisy.fine_probabilities("town") == pytest.approx(town, abs=5 * 20 / 5000)


def test_statistics_survive_json():
    statistics = measure(make_table(100), noise_stddev=2.0)
    pair = Marginal(columns=("town", "grade"), counts=np.arange(15.0).reshape(5, 3), noise_stddev=1.5)
    full = Statistics(
        num_units=100.5,
        num_rows=100.5,
        domain=statistics.domain,
        fine=statistics.fine,
        marginals=(pair,),
    )
    again = Statistics.from_dict(json.loads(json.dumps(full.to_dict())), SCHEMA)
    assert again.num_units == 100.5
    assert np.array_equal(again.marginals[0].counts, pair.counts)
    assert again.marginals[0].columns == pair.columns
    for name in full.domain.names:
        assert np.array_equal(again.probabilities(name), full.probabilities(name))
