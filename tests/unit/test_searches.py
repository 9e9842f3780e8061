"""A sweep that chooses by unpaid figures states no epsilon, and its runs say why."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from dpsynth.privacy.many_runs.sweep_cost import sweep_cost
from dpsynth.tracking import Tracker
from experiments import sweep
from experiments.sweep import search_tags

OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
PRIVATE = "hydra_plugins.dpsynth.PrivateSweeper"


class Kept(Tracker):
    def __init__(self):
        self.seen = []

    def metric(self, name: str, value: float, step: int = 0) -> None:
        self.seen.append(name)

    def text(self, text: str, name: str) -> None:
        self.seen.append((name, text))


@pytest.mark.parametrize(("target", "searches"), [(OPTUNA, True), (GRID, False), (PRIVATE, False)])
def test_searches_are_told_by_their_sweeper(target, searches):
    tags = search_tags(OmegaConf.create({"sweeper": {"_target_": target}}))
    assert bool(tags) is searches
    assert not searches or "No epsilon covers" in tags["dp.search"]


def test_a_search_has_no_number(tmp_path):
    tracker = Kept()
    said = sweep._cost(tmp_path, tracker, searched=True)
    assert tracker.seen == [("cost.txt", said)] and "epsilon=" not in said
    honest = Kept()
    assert "epsilon=" in sweep._cost(tmp_path, honest, searched=False)
    assert "privacy/sweep_all" in honest.seen


def test_looking_first_is_not_said_to_cost_what_publishing_all_costs():
    """At epsilon 0 all runs together cost nothing, and the best after looking still tells of the rows."""
    (line,) = [line for line in sweep_cost([]).text().splitlines() if "after looking" in line]
    assert "not covered" in line and "epsilon" not in line
