"""Other packages in the utility suite: told what is declared, read back as what is declared, or skipped."""

from __future__ import annotations

import dataclasses
import math
import sys

import pytest
from joints import SCHEMA, make_table

from dpsynth.data.schema import Categorical, Integer
from dpsynth.data.tables import datasets
from dpsynth.errors import InvalidInput
from experiments.benchmarks import utility
from experiments.benchmarks.utility_peers import PEERS, peer_table

# A package that returns the rows it was given; `fit` and `sample` are all that is called.
PACKAGE = """
class TVAE:
    def __init__(self, epochs): self.epochs = epochs
    def fit(self, frame, discrete):
        if self.epochs == 13: raise ValueError("no luck")
        self.frame = frame.assign(**{{column: 1_000_000.4 for column in {large}}})
    def sample(self, num): return self.frame.sample(num, replace=True, random_state=0)
CTGAN = TVAE
"""
BUDGET = {"delta": 1e-5, "epochs": 1, "threads": 1}


def _install(folder, monkeypatch, large=()):
    (folder / "ctgan").mkdir()
    (folder / "ctgan" / "__init__.py").write_text(PACKAGE.format(large=list(large)))
    (folder / "ctgan-9.9.dist-info").mkdir()
    (folder / "ctgan-9.9.dist-info" / "METADATA").write_text("Name: ctgan\nVersion: 9.9\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_peers_rows_come_back_in_what_is_declared(tmp_path, monkeypatch):
    train = make_table(300)
    numbers = [column for column in SCHEMA.modelled if isinstance(column, Integer)]
    texts = [column.name for column in SCHEMA.modelled if isinstance(column, Categorical)]
    _install(tmp_path, monkeypatch, large=[numbers[0].name])
    made, seconds = peer_table("ctgan/tvae", sys.executable, train, SCHEMA, BUDGET)
    assert len(made) == len(train) and seconds >= 0.0
    assert dict(made.dtypes) == dict(train.dtypes)
    assert set(made[numbers[0].name]) == {numbers[0].max}
    for name in texts:
        assert set(made[name].dropna()) <= set(train[name].dropna())


def test_peers_without_privacy_are_measured_once_and_failing_ones_do_not_stop_the_suite(
    tmp_path, monkeypatch
):
    _install(tmp_path, monkeypatch)
    monkeypatch.setattr(datasets, "load", lambda config: (make_table(2_000), SCHEMA))
    settings = utility.Settings(
        generators=("independent",),
        ablated=(),
        epsilons=(1.0, 10.0),
        draws=1,
        peers=("dpmm/mst", "ctgan/tvae"),
        pythons={"ctgan": sys.executable},
    )
    found = list(utility.measure(("tv_2way",), settings))
    assert [name for name, _ in found] == ["independent", "dpmm/mst", "independent", "ctgan/tvae"]
    assert found[1][1] == "dpmm is not installed: name a Python that has it in suite.pythons.dpmm"
    (figure,) = found[-1][1]
    assert figure.name == "ctgan/tvae without privacy"
    assert figure.value < found[0][1][0].value  # the rows themselves, drawn anew
    unlucky = dataclasses.replace(settings, generators=(), peers=("ctgan/ctgan",), peer_epochs=13)
    assert dict(utility.measure(("tv_2way",), unlucky)) == {
        "ctgan/ctgan": "The peer ctgan/ctgan failed: ValueError: no luck"
    }


def test_peers_are_known_by_name():
    assert [epsilon for arm, epsilon in utility._points(utility.Settings()) if arm.name in PEERS][
        -1
    ] == math.inf
    with pytest.raises(InvalidInput, match="dpmm/mst"):
        utility.Settings(peers=("dpmm/mts",))


def test_a_table_of_ones_own_is_asked_for_by_name(tmp_path):
    with pytest.raises(InvalidInput, match=r"(?s)path: Is not given.*schema: Is not given"):
        utility.Settings(data="csv")
    with pytest.raises(InvalidInput, match="path: No file"):
        utility.Settings(data="hi", path=str(tmp_path / "absent.csv"))
