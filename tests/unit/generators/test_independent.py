import numpy as np
import pytest
from worlds import build

from dpsynth.generators import independent


def test_each_column_follows_its_bought_histogram_and_no_other():
    small = build(independent, independent.Config(), private=True, num=2000)
    rows = small.generator.sample(50_000, seed=0)
    for index, segment in enumerate(small.encoder.layout.segments):
        found = np.bincount(rows[:, index].astype(int), minlength=segment.size) / 50_000
        assert found == pytest.approx(small.encoder.frequencies(segment.column), abs=0.02)
    codes = rows.astype(int)
    assert abs(np.corrcoef(codes[:, 0], codes[:, 2])[0, 1]) < 0.03  # about 0.9 in the table


def test_it_has_nothing_to_train_and_nothing_to_store():
    generator = build(independent, independent.Config(), private=True).generator
    assert generator.objective() is None and generator.plain_objective() is None
    assert generator.state() == {}
    with pytest.raises(ValueError):
        generator.load_state({"weight": None})
