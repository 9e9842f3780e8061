"""A sweep's settings and figures as parallel coordinates: one line per run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dpsynth.evaluation import plots
from dpsynth.report import names
from dpsynth.report.html import PLOTLY

_MOST_AXES = 12
_HIDDEN = {"color": "rgba(0,0,0,0)"}  # the ends of an axis would run into its label


def parallel_coordinates(runs: pd.DataFrame, metrics: Sequence[str]):
    """Draws one line per run over the settings that differ between runs, then over its figures.

    Edge cases: settings equal in all runs are left out; numbers get their own scale (ε a log one), words and
    runs without privacy get named places; runs without the first metric are left out.

    Args:
      runs: one row per run: settings by their dotted keys, and a column per metric.
      metrics: the first one colours the lines.
    Returns:
      A Plotly figure.
    """
    import plotly.graph_objects as go

    metrics = [name for name in metrics if name in runs and runs[name].notna().any()]
    shown = runs[runs[metrics[0]].notna()] if metrics else runs.head(0)
    settings = [c for c in runs.columns if c not in metrics and _differs(c, shown[c])]
    axes = [_axis(name, shown[name]) for name in settings[:_MOST_AXES]]
    axes += [{"label": names.label(name), "values": shown[name].astype(float).tolist()} for name in metrics]
    line: dict[str, Any] = {"color": plots.colour(0)}
    if metrics:
        scale = "Viridis" if names.higher_is_better(metrics[0]) else "Viridis_r"
        line = {"color": shown[metrics[0]].astype(float).tolist(), "colorscale": scale, "showscale": True}
    figure = go.Figure(
        go.Parcoords(line=line, dimensions=axes, labelangle=-20, labelside="bottom", rangefont=_HIDDEN)
    )
    figure.update_layout(
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "size": 12, "color": plots.INK},
        height=520,
        margin={"l": 90, "r": 60, "t": 40, "b": 130},
    )
    return figure


def _differs(name: str, values: pd.Series) -> bool:
    """Says whether a setting was varied; one that only some methods have differs only among those."""
    own = values.dropna() if name.startswith("generator.") else values
    return own.map(str).nunique() > 1


def _axis(name: str, values: pd.Series) -> Mapping[str, Any]:
    """An axis of numbers, or of words at equal distances."""
    numbers = pd.to_numeric(values, errors="coerce")
    finite = [v for v in numbers.dropna() if math.isfinite(v)]
    label = name.removesuffix(".name").rpartition(".")[2].replace("_", " ")
    if len(finite) == len(values) and "epsilon" not in name:
        few = sorted(set(finite)) if len(set(finite)) <= 8 else None
        axis = {"label": label, "values": [float(v) for v in numbers]}
        return axis if few is None else axis | {"tickvals": few, "ticktext": [f"{v:g}" for v in few]}
    if finite and "epsilon" in name and min(finite) > 0:
        return _log_axis(label, numbers, sorted(set(finite)))
    words = sorted({_word(v) for v in values})
    places = {word: place for place, word in enumerate(words)}
    return {
        "label": label,
        "values": [places[_word(v)] for v in values],
        "tickvals": list(places.values()),
        "ticktext": [plots.shortened(word) for word in words],
    }


def _log_axis(label: str, numbers: pd.Series, finite: Sequence[float]) -> Mapping[str, Any]:
    """Budgets by their logarithm; no budget (infinite or missing) stands above all others."""
    ticks = {f"{v:g}": math.log10(v) for v in finite}
    above = max(ticks.values()) + 0.3
    places = [math.log10(v) if math.isfinite(v) else above for v in numbers.fillna(math.inf)]
    if above in places:
        ticks["∞ (no DP)"] = above
    return {"label": label, "values": places, "tickvals": list(ticks.values()), "ticktext": list(ticks)}


def _word(value: Any) -> str:
    return "null" if value is None or value != value else str(value)


def parallel_page(runs: pd.DataFrame, metrics: Sequence[str]) -> str:
    """Returns the figure as one HTML page with plotly.js inside. Internal, as its figures are."""
    inside = parallel_coordinates(runs, metrics).to_html(**PLOTLY, include_plotlyjs=True)
    head = '<meta charset="utf-8"><title>Runs</title><style>body{font-family:system-ui,sans-serif}</style>'
    note = "One line per run over the settings that differ. Drag along an axis to select. Internal."
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><p>{note}</p>{inside}</body></html>'
