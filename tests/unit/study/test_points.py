"""What the points of a sweep say together."""

from __future__ import annotations

from dpsynth.study.points import Point, run_table


def test_a_run_is_its_settings_and_the_chosen_figures():
    """Every further figure would be one more axis among the parallel coordinates."""
    metrics = [{"name": name, "value": 0.5} for name in ("tv_1way", "tv_2way", "trtr_auc_boosting")]
    known = {"digest": "d", "generator": "tvae", "seed": 0, "settings": {"privacy.epsilon": 1.0}}
    done = Point(**known, status="FINISHED", evaluation={"metrics": metrics})
    table = run_table([done, Point(**known, status="FAILED")], ["tv_2way"])
    assert table.to_dict("records") == [{"privacy.epsilon": 1.0, "tv_2way": 0.5}]
