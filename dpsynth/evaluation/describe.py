"""Tables side by side: the same statistics of each column, and one figure per column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dpsynth.data.schema import Categorical, Column, Datetime, Schema
from dpsynth.data.schema.axis import from_axis, is_numeric
from dpsynth.evaluation import plots
from dpsynth.evaluation.binning import ColumnBins, as_numbers, make_binning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = {"5%": 0.05, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95}
_DAY = 86_400.0


def describe(frames: Mapping[str, pd.DataFrame], schema: Schema) -> pd.DataFrame:
    """Describes every modelled column of every table.

    Edge cases: an all-missing or empty column -> counts, and nan for the rest. Dates: mean and quantiles are
    dates in the declared format, the deviation is in days. A column that a table lacks is left out of it.

    Args:
      frames: tables by name, for example {"real": holdout, "synthetic": rows}.
    Returns:
      One row per (column, table): kind, count, missing, unique, top and its share, mean, std, quantiles.
    """
    rows, index = [], []
    for column in schema.modelled:
        for name, table in frames.items():
            if column.name in table.columns:
                index.append((column.name, name))
                rows.append(_statistics(table[column.name], column))
    columns = ["kind", "count", "missing", "unique", "top", "top_share", "mean", "std"]
    columns += ["min", *QUANTILES, "max"]
    names = pd.MultiIndex.from_tuples(index, names=["column", "table"]) if index else None
    described = pd.DataFrame(rows, index=names, columns=columns)
    return described.astype({"count": int, "missing": int, "unique": int})


def _statistics(series: pd.Series, column: Column) -> dict:
    known = series.dropna()
    counts = known.value_counts()
    found = {
        "kind": type(column).__name__.lower(),
        "count": len(known),
        "missing": len(series) - len(known),
        "unique": len(counts),
        "top": counts.index[0] if len(counts) else np.nan,
        "top_share": counts.iloc[0] / len(known) if len(counts) else np.nan,
    }
    if not is_numeric(column):
        return found
    numbers = as_numbers(known, column)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return found
    spread = {"min": 0.0, **QUANTILES, "max": 1.0}
    places = dict(zip(spread, np.quantile(numbers, list(spread.values()))))
    places["mean"] = numbers.mean()
    deviation = numbers.std(ddof=1) if len(numbers) > 1 else 0.0
    if isinstance(column, Datetime):
        dates = from_axis(column, np.array(list(places.values()))).map(column.text)
        return found | dict(zip(places, dates)) | {"std": deviation / _DAY}
    return found | {key: float(value) for key, value in places.items()} | {"std": float(deviation)}


def describe_figure(
    frames: Mapping[str, pd.DataFrame],
    schema: Schema,
    column: str,
    *,
    num_bins: int = 30,
    most_values: int = 15,
) -> Figure:
    """Draws one column of each table: a histogram of numbers and dates, or bars of categories.

    The first table is the ground (grey), the others are drawn over it. Shares are of all rows of a table,
    so that missing values, drawn apart, and values add up to 100 %.

    Args:
      num_bins: of a histogram; whole numbers get bins of a whole width.
      most_values: categories shown; the rest is one bar.
    """
    declared = schema.column(column)
    first = next(iter(frames.values()))
    bins = make_binning(schema, first, num_bins=num_bins)[column]
    if is_numeric(declared):
        return _histogram(frames, bins)
    return _bars(frames, bins, most_values)


def _histogram(frames: Mapping[str, pd.DataFrame], bins: ColumnBins) -> Figure:
    low, high = _shown_range(frames, bins)
    edges = _edges(low, high, bins)
    figure, axes = plots.new_axes()
    missing = {}
    for position, (name, table) in enumerate(frames.items()):
        numbers = as_numbers(table[bins.name], bins.column)
        known = np.clip(numbers[~np.isnan(numbers)], edges[0], edges[-1])
        shares = 100 * np.histogram(known, edges)[0] / max(1, len(numbers))
        missing[name] = 100 * np.isnan(numbers).sum() / max(1, len(numbers))
        if position == 0:
            axes.stairs(shares, edges, fill=True, color=plots.REAL, label=name)
            axes.stairs(shares, edges, color=plots.REAL_EDGE, linewidth=0.8)
        else:
            axes.stairs(shares, edges, color=plots.colour(position - 1), linewidth=1.8, label=name)
    if isinstance(bins.column, Datetime):
        _date_ticks(axes, edges, bins.column)
    axes.set_xlim(edges[0] - 0.01 * (edges[-1] - edges[0]), edges[-1] + 0.01 * (edges[-1] - edges[0]))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(plots.shortened(bins.name, 60))
    axes.set_ylabel("share of rows, %")
    note = ""
    if any(missing.values()):
        note = "missing: " + ", ".join(f"{name} {share:.1f} %" for name, share in missing.items())
    plots.title(axes, plots.shortened(bins.name, 60), note)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=plots.INK)
    return figure


def _shown_range(frames: Mapping[str, pd.DataFrame], bins: ColumnBins) -> tuple[float, float]:
    """Declared bounds, narrowed to where any table has rows: wide bounds would hide the shape."""
    ends = []
    for table in frames.values():
        numbers = as_numbers(table[bins.name], bins.column)
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            ends.append((numbers.min(), numbers.max()))
    if not ends:
        return bins.bounds
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return max(low, bins.bounds[0]), min(high, bins.bounds[1])


def _edges(low: float, high: float, bins: ColumnBins) -> np.ndarray:
    from dpsynth.data.schema.axis import resolution

    step = resolution(bins.column)
    if high <= low:
        return np.array([low - 0.5 * (step or 1.0), low + 0.5 * (step or 1.0)])
    if step:  # bins that hold equally many possible values, or the histogram shows a comb
        width = step * max(1, int(np.ceil((high - low) / step / bins.num_bins)))
        return np.arange(low - step / 2, high + width, width)
    return np.linspace(low, high, bins.num_bins + 1)


def _date_ticks(axes, edges: np.ndarray, column: Datetime) -> None:
    places = np.linspace(edges[0], edges[-1], 5)
    pattern = "%Y-%m-%d" if edges[-1] - edges[0] > 5 * _DAY else "%m-%d %H:%M"
    axes.set_xticks(places, [pd.Timestamp(p, unit="s").strftime(pattern) for p in places])


def _bars(frames: Mapping[str, pd.DataFrame], bins: ColumnBins, most: int) -> Figure:
    shares = {}
    for name, table in frames.items():
        counts = np.bincount(bins.codes(table[bins.name]), minlength=bins.size)
        shares[name] = 100 * counts / max(1, len(table))
    labels, kept = _shown_cells(bins, next(iter(shares.values())), shares, most)
    height = 0.8 / len(shares)
    figure, axes = plots.new_axes(6.0, max(1.8, 1.1 + 0.14 * len(labels) * (1 + len(shares))))
    base = np.arange(len(labels))
    for position, (name, share) in enumerate(shares.items()):
        values = [share[cells].sum() for cells in kept]
        fill = plots.REAL if position == 0 else plots.colour(position - 1)
        offset = (position - (len(shares) - 1) / 2) * height
        axes.barh(base + offset, values, height * 0.92, color=fill, label=name)
    axes.set_yticks(base, [plots.shortened(label) for label in labels])
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of rows, %")
    plots.title(axes, plots.shortened(bins.name, 60))
    axes.legend(frameon=False, fontsize=8.5, labelcolor=plots.INK)
    return figure


def _shown_cells(
    bins: ColumnBins, ground: np.ndarray, shares: Mapping[str, np.ndarray], most: int
) -> tuple[list[str], list[np.ndarray]]:
    """Labels and the cells behind each bar: in declared order where it means something, else by share."""
    occurring = np.flatnonzero(sum(shares.values()) > 0)
    present = occurring[occurring < len(bins.values)]
    order = present[np.argsort(-ground[present], kind="stable")]
    most += len(order) == most + 1  # a bar for `1 more` would take the same room
    shown, rest = order[:most], order[most:]
    if (isinstance(bins.column, Categorical) and bins.column.ordered) or len(bins.values) == 2:
        shown = np.sort(shown)
    labels = [bins.labels()[cell] for cell in shown]
    cells = [np.array([cell]) for cell in shown]
    other = np.concatenate([rest, occurring[occurring == bins.missing - 1]])
    if len(other):
        labels.append(f"({len(rest)} more)" if len(rest) else "(not declared)")
        cells.append(other.astype(int))
    if bins.missing in occurring:
        labels.append("(missing)")
        cells.append(np.array([bins.missing]))
    return labels, cells
