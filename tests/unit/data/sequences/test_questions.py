import numpy as np
import pytest
from panels import CALENDAR, SCHEMA, exact, panel

from dpsynth.data.sequences.encoder import SequenceEncoder, SequenceOptions
from dpsynth.data.sequences.questions import LENGTH, STEP, SequenceQuestion, answer, default_questions, shape
from dpsynth.data.units.units import RESOLUTION

BINS = SequenceOptions(representation="bins")


def encoded(schema=SCHEMA, num=40, seed=0):
    table = panel(num, schema=schema, seed=seed)
    coder = SequenceEncoder(schema, exact(panel(schema=schema), schema), BINS)
    return coder.layout, coder.encode(table), coder, table


@pytest.mark.parametrize("schema", [SCHEMA, CALENDAR], ids=["variable", "fixed"])
def test_one_entity_adds_at_most_one_to_every_answer(schema):
    layout, units, _, _ = encoded(schema)
    for question in default_questions(schema):
        whole = answer(question, layout, units)
        for position in range(0, len(units), 5):
            change = whole - answer(question, layout, np.delete(units, position, axis=0))
            assert (change >= 0).all()
            assert change.sum() <= RESOLUTION
            assert np.array_equal(change, answer(question, layout, units[[position]]))


def test_row_counts_would_break_the_bound():
    """The broken twin: counting rows instead of entities moves by up to the length."""
    layout, units, _, _ = encoded()
    lengths = layout.split(units)[2]
    longest = int(np.argmax(lengths))
    question = SequenceQuestion(row=STEP, column="union")
    rows = answer(question, layout, units[[longest]]) * int(lengths[longest])
    assert rows.sum() > RESOLUTION


def test_answers_equal_counting_by_hand():
    layout, units, coder, table = encoded(num=25)
    places = list(coder.features).index("union")
    lengths, features = layout.split(units)[2].astype(int), layout.split(units)[3][:, :, places].astype(int)
    for lag in (1, 2):
        question = SequenceQuestion(row="union", column="union", lag=lag)
        expected = np.zeros(shape(question, layout))
        for length, codes in zip(lengths, features):
            for step in range(length - lag):
                expected[codes[step], codes[step + lag]] += 1 / (length - lag)
        assert np.allclose(answer(question, layout, units) / RESOLUTION, expected, atol=25 * 6 / RESOLUTION)
    by_length = answer(SequenceQuestion(row="group", column=LENGTH), layout, units) / RESOLUTION
    assert np.array_equal(by_length.sum(0), np.bincount(lengths, minlength=7)[1:])
    first = table.groupby("who", sort=False).group.first()
    assert np.array_equal(by_length.sum(1), [(first == g).sum() for g in ("a", "b", "c")])


def test_default_questions_cover_steps_lags_pairs_and_attributes():
    asked = {q.columns for q in default_questions(SCHEMA, lags=(1, 9))}
    assert {
        (STEP, "wage"),
        ("wage", "wage@+1"),
        ("wage", "hours"),
        ("group", "wage"),
        ("group", "born"),
    } <= asked
    assert ("group", LENGTH) in asked and ("born", "@start") in asked and (STEP, "@gap") in asked
    assert not any(column.endswith("@+9") for _, column in asked)
    fixed = {q.columns for q in default_questions(CALENDAR, feature_pairs=False, attribute_features=False)}
    assert not any(LENGTH in pair or "@gap" in pair for pair in fixed)
    assert ("wage", "hours") not in fixed and ("group", "wage") not in fixed


def test_names_of_axes_invert():
    for question in default_questions(SCHEMA):
        assert SequenceQuestion.of_columns(question.columns) == question


def test_no_entity_is_no_count():
    layout, units, _, _ = encoded()
    for question in default_questions(SCHEMA):
        assert answer(question, layout, units[:0]).sum() == 0
        assert answer(question, layout, units[:0]).shape == shape(question, layout)
