"""Pictures of theory and evidence: what they draw is what the audits found."""

from __future__ import annotations

import numpy as np
import pytest

from dpsynth.audit.pictures import sweep_figure, sweep_picture


def point(claimed: float, generator: str, verdict: str = "CONSISTENT") -> dict:
    theory = claimed / 2  # the rest went into purchases
    bounds = {
        "auc": {"lo": 0.7 * theory, "most": 5 * theory},
        "onerun": {"lo": 0.2 * theory, "most": 0.5 * theory},
        "post": {"lo": 0.1 * theory, "most": 0.6 * theory, "hi": 0.3 * theory},
    }
    return {
        "claimed": claimed,
        "audited": 0.8 * claimed,
        "verdict": verdict,
        "generator": generator,
        "bounds": {key: {"theory": theory, **values} for key, values in bounds.items()},
    }


def drawn(axes) -> np.ndarray:
    """The marks of the runs: (claimed, shown) each."""
    return np.concatenate([c.get_offsets() for c in axes.collections if c.get_zorder() == 3])


def test_sweep_draws_every_run_by_every_estimator_with_its_ceiling():
    points = [point(e, g) for g in ("ctgan", "tvae") for e in (1.0, 4.0)]
    points.append({**point(1.0, "independent"), "bounds": {}})  # nothing was trained
    figure = sweep_figure([*points, {"generator": "failed"}])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "whole run: noise seen" and titles[2] == "training: one run, Steinke"
    for axes, num, share in zip(figure.axes, (5, 4, 4, 4), (0.8, 0.7, 0.2, 0.1), strict=True):
        marks = drawn(axes)
        assert len(marks) == num and np.allclose(marks[:, 1], share * marks[:, 0])
    assert drawn(figure.axes[0])[:, 0].max() == 4.0 and drawn(figure.axes[1])[:, 0].max() == 2.0
    equal, ceiling = figure.axes[2].lines
    assert np.array_equal(equal.get_xdata(), equal.get_ydata())
    assert np.allclose(ceiling.get_ydata(), 0.5 * np.asarray(ceiling.get_xdata()))
    assert len(figure.axes[0].lines) == 1 and len(figure.axes[3].lines) == 2 + 4  # credible intervals
    words = [text.get_text() for text in figure.legends[0].texts]
    assert {"ctgan", "independent", "tvae", "CONSISTENT", "most that could be shown"} <= set(words)


def test_a_bound_above_the_claim_stands_above_the_line():
    points = [point(1.0, "tvae"), {**point(4.0, "tvae", "VIOLATION"), "audited": 9.0}]
    figure = sweep_figure(points)
    marks = drawn(figure.axes[0])
    assert (marks[:, 1] > marks[:, 0]).tolist() == [False, True]
    assert figure.axes[0].get_ylim()[1] > 9.0
    assert "VIOLATION" in [text.get_text() for text in figure.legends[0].texts]


@pytest.mark.parametrize(
    "points", [[], [{"generator": "tvae"}], [{"generator": "x", "verdict": "VIOLATION"}]]
)
def test_without_an_audited_run_there_is_no_picture(points):
    assert sweep_picture(points) is None
