"""The frontier as a picture and as an interactive page that needs nothing else."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dpsynth.evaluation import plots
from dpsynth.report import names
from dpsynth.report.frontier import (
    FLOORS,
    Frontier,
    default_metrics,
    epsilon_label,
    epsilon_places,
    make_frontier,
)
from dpsynth.report.html import PLOTLY

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

_SPREAD = 0.014  # of the axis: how far apart generators stand at one epsilon, so that intervals show
_AXIS_LETTERS = 40  # of an axis title, in one line
_SYMBOLS = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "triangle-down",
    "triangle-left",
    "triangle-right",
    "pentagon",
)


def _ticks(frontier: Frontier) -> tuple[list[float], list[str]]:
    """Places and labels; of labels that would overlap only the first is written."""
    places = epsilon_places(frontier.points["epsilon"])
    span = max(places.values()) - min(places.values())
    labels, last = [], -math.inf
    for epsilon, place in places.items():
        room = place - last >= 0.07 * span
        labels.append(epsilon_label(epsilon) if room else "")
        last = place if room else last
    return list(places.values()), labels


def _shifted(frontier: Frontier) -> dict[tuple[str, float], float]:
    """Place of each generator and epsilon on the axis."""
    places = epsilon_places(frontier.points["epsilon"])
    span = max(places.values()) - min(places.values()) if len(places) > 1 else 1.0
    generators = frontier.generators
    step = min(_SPREAD, 0.12 / max(1, len(generators))) * span
    middle = (len(generators) - 1) / 2
    return {(g, e): x + (i - middle) * step for i, g in enumerate(generators) for e, x in places.items()}


def _style(frontier: Frontier, generator: str) -> tuple[str, str, str]:
    """Colour, marker and plotly symbol; the floor is grey."""
    position = frontier.generators.index(generator)
    if generator in FLOORS:
        return "#8a9099", plots.MARKERS[position % 8], _SYMBOLS[position % 8]
    return plots.colour(position), plots.MARKERS[position % 8], _SYMBOLS[position % 8]


def _shown_name(generator: str) -> str:
    return f"{generator} (floor)" if generator in FLOORS else generator


def _axis_title(frontier: Frontier, line_break: str) -> str:
    """The metric in words, in lines that fit beside an axis."""
    return line_break.join(textwrap.wrap(names.label(frontier.metric), _AXIS_LETTERS))


def _note(frontier: Frontier) -> str:
    better = "higher" if names.higher_is_better(frontier.metric) else "lower"
    link = "; grey links: cannot be told apart" if frontier.ties else ""
    return f"{better} is better; {frontier.interval}{link}"


def frontier_figure(frontier: Frontier, *, width: float = 7.2, height: float = 4.4) -> Figure:
    """Draws one metric for print: lines over a log axis of epsilon, intervals, ties as grey links.

    Edge cases: no points -> a picture that says so; more than six generators -> colours repeat, markers tell.
    """
    figure, axes = plots.new_axes(width, height)
    title = names.label(frontier.metric)
    plots.title(axes, title[:1].upper() + title[1:], _note(frontier))
    if frontier.points.empty:
        axes.text(0.5, 0.5, "no finished run has this figure", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    place, points = _shifted(frontier), frontier.points
    means = points.set_index(["generator", "epsilon"])["mean"]
    for epsilon, first, second in frontier.ties:
        ends = [(g, epsilon) for g in (first, second)]
        xs, ys = [place[e] for e in ends], [means[e] for e in ends]
        axes.plot(xs, ys, color="#c9cdd2", linewidth=5, solid_capstyle="round", zorder=1)
    for generator in frontier.generators:
        own = points[points["generator"] == generator]
        colour, marker, _ = _style(frontier, generator)
        x = [place[generator, e] for e in own["epsilon"]]
        dashed = "--" if generator in FLOORS else "-"
        known = own["lower"].notna().to_numpy()
        axes.vlines(
            [v for v, k in zip(x, known) if k],
            own.loc[known, "lower"],
            own.loc[known, "upper"],
            color=colour,
            linewidth=1.3,
            zorder=2,
        )
        # a line would suggest a path from finite budgets to none
        finite = [math.isfinite(e) for e in own["epsilon"]]
        axes.plot(
            [v for v, f in zip(x, finite) if f],
            own.loc[finite, "mean"],
            dashed,
            color=colour,
            linewidth=1.6,
            zorder=3,
        )
        axes.plot(
            x,
            own["mean"],
            marker,
            color=colour,
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.8,
            zorder=4,
            label=_shown_name(generator),
        )
    if frontier.real is not None:
        axes.axhline(frontier.real, color=plots.INK, linewidth=1.1, linestyle=(0, (6, 3)), label="real rows")
    ticks, labels = _ticks(frontier)
    axes.set_xticks(ticks, labels)
    margin = 0.06 * (max(ticks) - min(ticks)) if len(ticks) > 1 else 0.5
    axes.set_xlim(min(ticks) - margin, max(ticks) + margin)
    _limit_heights(axes, frontier)
    axes.set_xlabel("ε (log scale)")
    axes.set_ylabel(_axis_title(frontier, "\n"))
    axes.yaxis.grid(True, color=plots.FAINT, linewidth=0.8)
    # beside the lines, never on them
    axes.legend(
        frameon=False, fontsize=8.5, labelcolor=plots.INK, loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    return figure


def _limit_heights(axes, frontier: Frontier) -> None:
    """Lets the means decide the axis: one wide interval of two seeds would flatten every line."""
    values = [*frontier.points["mean"], *([] if frontier.real is None else [frontier.real])]
    low, high = min(values), max(values)
    room = max(0.35 * (high - low), 0.02 * max(abs(high), abs(low)), 1e-6)
    ends = frontier.points[["lower", "upper"]].to_numpy()
    shown = [v for v in ends.ravel() if low - room <= v <= high + room]
    low, high = min([low, *shown]), max([high, *shown])
    edge = 0.08 * (high - low) or room
    axes.set_ylim(low - edge, high + edge)


def frontier_plotly(frontiers: Sequence[Frontier]) -> go.Figure:
    """Draws several metrics in one interactive figure, with a menu to choose among them.

    Hovering shows means, intervals and numbers of seeds; single runs are faint dots that the legend's
    entry of their generator hides as well.
    """
    import plotly.graph_objects as go

    figure, owners = go.Figure(), []
    for number, frontier in enumerate(frontiers):
        for trace in _traces(frontier):
            figure.add_trace(trace.update(visible=number == 0))
            owners.append(number)
    buttons = []
    for number, frontier in enumerate(frontiers):
        shown = {"visible": [owner == number for owner in owners]}
        buttons.append(
            {"label": names.label(frontier.metric), "method": "update", "args": [shown, _axes(frontier)]}
        )
    figure.update_layout(
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "size": 13, "color": plots.INK},
        colorway=list(plots.COLOURS),
        height=560,
        margin={"l": 70, "r": 30, "t": 110, "b": 60},
        hovermode="closest",
        legend={"title": {"text": "generator"}},
    )
    if frontiers:
        figure.update_layout(_axes(frontiers[0]))
    if len(buttons) > 1:
        menu = {
            "buttons": buttons,
            "x": 0,
            "xanchor": "left",
            "y": 1.22,
            "yanchor": "top",
            "showactive": True,
        }
        figure.update_layout(updatemenus=[menu])
    return figure


def _axes(frontier: Frontier) -> dict:
    ticks, labels = _ticks(frontier) if len(frontier.points) else ([], [])
    return {
        "title": {"text": f"<span style='font-size:12px'>{_note(frontier)}</span>", "y": 0.86, "x": 0.02},
        "xaxis": {
            "title": {"text": "ε (log scale)"},
            "tickvals": ticks,
            "ticktext": labels,
            "zeroline": False,
        },
        "yaxis": {"title": {"text": _axis_title(frontier, "<br>")}, "zeroline": False},
    }


def _traces(frontier: Frontier) -> list:
    import plotly.graph_objects as go

    if frontier.points.empty:
        return []
    place, points, traces = _shifted(frontier), frontier.points, []
    means = points.set_index(["generator", "epsilon"])["mean"]
    xs, ys = [], []
    for epsilon, first, second in frontier.ties:
        for generator in (first, second):
            xs.append(place[generator, epsilon])
            ys.append(means[generator, epsilon])
        xs.append(None)
        ys.append(None)
    if xs:
        line = {"color": "#c9cdd2", "width": 7}
        traces.append(
            go.Scatter(x=xs, y=ys, mode="lines", line=line, name="cannot be told apart", hoverinfo="skip")
        )
    for generator in frontier.generators:
        own = points[points["generator"] == generator]
        colour, _, symbol = _style(frontier, generator)
        single = frontier.runs[frontier.runs["generator"] == generator]
        run_ids = single["run_id"] if "run_id" in single else single["seed"].map(lambda _: "")
        traces.append(
            go.Scatter(
                x=[place[generator, e] for e in single["epsilon"]],
                y=single["value"].tolist(),
                mode="markers",
                marker={"color": colour, "size": 5, "opacity": 0.35, "symbol": symbol},
                legendgroup=generator,
                showlegend=False,
                customdata=[
                    [e, s, r]
                    for e, s, r in zip(map(epsilon_label, single["epsilon"]), single["seed"], run_ids)
                ],
                hovertemplate=f"{generator}<br>ε %{{customdata[0]}}, seed %{{customdata[1]}}<br>%{{y:.4f}}"
                "<br>run %{customdata[2]}<extra></extra>",
            )
        )
        traces.append(
            go.Scatter(
                x=_broken(own, [place[generator, e] for e in own["epsilon"]]),
                y=_broken(own, own["mean"]),
                mode="lines+markers",
                line={"color": colour, "width": 2, "dash": "dash" if generator in FLOORS else "solid"},
                marker={"size": 9, "symbol": symbol, "line": {"color": "white", "width": 1}},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": _broken(own, (own["upper"] - own["mean"]).fillna(0.0)),
                    "arrayminus": _broken(own, (own["mean"] - own["lower"]).fillna(0.0)),
                    "thickness": 1.3,
                    "width": 0,
                },
                name=_shown_name(generator),
                legendgroup=generator,
                customdata=_broken(own, list(zip(map(epsilon_label, own["epsilon"]), own["num_seeds"]))),
                hovertemplate=f"<b>{generator}</b><br>ε %{{customdata[0]}}, seeds: %{{customdata[1]}}"
                "<br>%{y:.4f}<extra></extra>",
            )
        )
    if frontier.real is not None:
        ends = list(epsilon_places(points["epsilon"]).values())
        margin = 0.05 * (max(ends) - min(ends)) or 0.3
        traces.append(
            go.Scatter(
                x=[min(ends) - margin, max(ends) + margin],
                y=[frontier.real] * 2,
                mode="lines",
                line={"color": plots.INK, "width": 1.3, "dash": "longdash"},
                name="real rows",
                hovertemplate="real rows %{y:.4f}<extra></extra>",
            )
        )
    return traces


def _broken(own: pd.DataFrame, values: Sequence) -> list:
    """Interrupts a line before the run without privacy: a path from finite budgets to none would mislead."""
    values = list(values)
    if len(own) > 1 and math.isinf(own["epsilon"].iloc[-1]):
        values.insert(len(values) - 1, None)
    return values


def frontier_page(
    table: pd.DataFrame, metrics: Sequence[str] | None = None, *, title: str = "Frontier"
) -> str:
    """Returns one HTML page with the interactive frontier; plotly.js is inside, nothing is fetched.

    Args:
      table: as `tidy` makes it, the rows of all runs together. Internal: figures touched real rows.
      metrics: the first is shown first; None takes all that are worth it.
    """
    import html

    frontiers = [make_frontier(table, name) for name in metrics or default_metrics(table)]
    inside = frontier_plotly(frontiers).to_html(**PLOTLY, include_plotlyjs=True)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>body{font-family:system-ui,sans-serif;margin:1.5rem;color:#2b2f36}"
        "p{max-width:60rem;color:#5f6670}</style></head><body>"
        f"<h1>{html.escape(title)}</h1><p>Utility against ε. Internal: these figures compare with real rows "
        f"without paying for it. Publishing several runs costs more than any one of them.</p>{inside}"
        "</body></html>"
    )
