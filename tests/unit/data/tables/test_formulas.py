"""A CSV file of a release runs nothing in a spreadsheet, and its numbers stay numbers."""

from __future__ import annotations

import pandas as pd
import pytest

from dpsynth.data.tables.formulas import as_text
from dpsynth.errors import InvalidInput
from experiments import sample


@pytest.mark.parametrize("dtype", ["object", "str", "string", "category"])
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_begins_like_a_formula_is_quoted(sign, dtype):
    cells = [f"{sign}1+1", "town", f"a{sign}", None]
    made, changed = as_text(pd.DataFrame({"cell": pd.Series(cells, dtype=dtype)}))
    assert made["cell"].iloc[:3].tolist() == [f"'{sign}1+1", "town", f"a{sign}"]
    assert made["cell"].isna().tolist() == [False, False, False, True] and changed == ("cell",)


def test_numbers_stay_numbers():
    frame = pd.DataFrame({"loss": [-1.5, 2.0], "code": ["-3", "+4.5e1"], "kind": pd.Categorical([-1, 1])})
    made, changed = as_text(frame)
    pd.testing.assert_frame_equal(made, frame)
    assert changed == ()


def test_names_of_columns_are_cells():
    made, changed = as_text(pd.DataFrame({"=cmd": [1]}))
    assert list(made) == ["'=cmd"] and changed == ("=cmd",)


def test_the_command_takes_two_words_alone(tmp_path):
    (tmp_path / "release.json").touch()
    plain = {"release": str(tmp_path), "seed": 0, "out": "a.csv"}
    assert sample.checked(plain | {"csv": {"formulas": "keep"}}).formulas == "keep"
    assert sample.checked(plain).formulas == "text"
    with pytest.raises(InvalidInput, match="csv.formulas"):
        sample.checked(plain | {"csv": {"formulas": "run"}})


@pytest.mark.parametrize(("name", "kept"), [("a.csv", False), ("b.tsv", False), ("c.csv", True)])
def test_the_file_says_what_the_terminal_says(tmp_path, capsys, name, kept):
    rows = pd.DataFrame({"town": ["=1+1", "Bern"]})
    written = sample.write(rows, tmp_path / name, None, "keep" if kept else "text")
    text = (tmp_path / name).read_text()
    assert ("'=1+1" in text) is not kept and ("town" in written) is not kept
