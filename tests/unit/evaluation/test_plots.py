"""Texts of every picture are drawn as they stand: a name is no formula."""

import pytest
from matplotlib.text import Text

from dpsynth.evaluation import plots

NAMES = ["$5^$", "_x_ $a_b$", "\\\\frac{$ $"]


def _figure():
    figure, axes = plots.new_axes()
    axes.barh([0, 1, 2], [1, 10, 100])
    axes.set_yticks([0, 1, 2], NAMES)
    axes.set_xlabel(NAMES[0])
    axes.set_xscale("log")
    plots.title(axes, NAMES[2])
    return figure


def test_names_with_dollar_signs_are_drawn_literally_and_powers_stay_powers():
    figure = _figure()
    assert plots.png(figure)
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    for name in NAMES:
        assert any(text.get_text() == name and not text.get_parse_math() for text in texts)
    powers = [text for text in texts if "mathdefault" in text.get_text()]
    assert powers and all(text.get_parse_math() for text in powers)


def test_without_it_a_name_is_a_formula_that_cannot_be_drawn():
    with pytest.raises(ValueError, match="Parse"):  # the twin
        _figure().savefig("/dev/null", format="png")
