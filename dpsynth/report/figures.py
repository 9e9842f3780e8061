"""The report's pictures: heat maps, distances, scores and the split of the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dpsynth.evaluation import plots
from dpsynth.evaluation.binning import Binning
from dpsynth.evaluation.dependence import joint_counts
from dpsynth.evaluation.plots import new_axes, shortened, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def matrices_figure(
    real: pd.DataFrame | None, synthetic: pd.DataFrame, name: str, *, signed: bool = False
) -> Figure:
    """Draws one measure of dependence: real rows, synthetic rows, and their difference.

    Args:
      real: None draws the synthetic matrix alone.
      signed: whether the measure runs from −1 to 1 rather than from 0.
    """
    from matplotlib import colormaps

    panels = [("synthetic rows", synthetic, signed)]
    if real is not None:
        panels = [("real rows", real, signed), *panels, ("synthetic − real", synthetic - real, True)]
    count = len(synthetic)
    side = float(np.clip(0.16 * count + 1.4, 2.2, 4.6))
    figure, axes = new_axes(side * len(panels) + 1.2, side + 0.9, columns=len(panels))
    axes = np.atleast_1d(axes)
    for position, (words, matrix, both_signs) in enumerate(panels):
        panel = axes[position]
        low = -1.0 if both_signs else 0.0
        colours = colormaps["RdBu_r" if both_signs else "Blues"].with_extremes(bad="#eeeeee")
        picture = panel.imshow(matrix.to_numpy(dtype=float), vmin=low, vmax=1.0, cmap=colours)
        for spine in panel.spines.values():
            spine.set_visible(False)
        size = 8.0 if count <= 15 else 6.0
        labels = [shortened(c, 16) for c in matrix.columns] if count <= 40 else []
        ticks = range(len(labels))
        panel.set_xticks(ticks, labels, rotation=90, fontsize=size)
        panel.set_yticks(ticks, labels if position == 0 else [""] * len(labels), fontsize=size)
        panel.tick_params(length=0)
        title(panel, f"{name}: {words}" if position == 0 else words)
        if position in (0, len(panels) - 1) or len(panels) == 1:
            bar = figure.colorbar(picture, ax=panel, shrink=0.75, aspect=30, pad=0.02)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=8, length=0)
    return figure


def pair_figure(tables: Mapping[str, pd.DataFrame], binning: Binning, first: str, second: str) -> Figure:
    """Draws the joint shares of two columns for each table, on one scale."""
    from matplotlib.colors import PowerNorm

    rows, columns = binning[first], binning[second]
    counts = {}
    for name, table in tables.items():
        codes = rows.codes(table[first]) * columns.size + columns.codes(table[second])
        share = np.bincount(codes, minlength=rows.size * columns.size) / max(1, len(table))
        counts[name] = 100 * share.reshape(rows.size, columns.size)
    occurring = sum(counts.values()) > 0
    kept_rows = np.flatnonzero(occurring.any(axis=1))
    kept_columns = np.flatnonzero(occurring.any(axis=0))
    # spikes would hide the rest on a linear scale
    norm = PowerNorm(0.5, vmin=0.0, vmax=max(float(c.max()) for c in counts.values()) or 1.0)
    figure, axes = new_axes(3.1 * len(tables) + 1.6, 3.5, columns=len(tables))
    for position, (panel, (name, share)) in enumerate(zip(np.atleast_1d(axes), counts.items())):
        shown = share[np.ix_(kept_rows, kept_columns)]
        picture = panel.imshow(shown, norm=norm, cmap="Blues", aspect="auto", origin="lower")
        for spine in panel.spines.values():
            spine.set_visible(False)
        _cell_ticks(panel.xaxis, [columns.labels()[i] for i in kept_columns])
        _cell_ticks(panel.yaxis, [rows.labels()[i] for i in kept_rows] if position == 0 else [])
        panel.tick_params(axis="x", rotation=90, labelsize=7.5, length=0)
        panel.tick_params(axis="y", labelsize=7.5, length=0)
        panel.set_xlabel(shortened(second, 28))
        if position == 0:
            panel.set_ylabel(shortened(first, 28))
        title(panel, name)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    bar.set_label("share of rows, %", fontsize=8.5, color=plots.INK)
    return figure


def _cell_ticks(axis, labels: Sequence[str]) -> None:
    """At most twelve labels, shortened."""
    step = max(1, int(np.ceil(len(labels) / 12)))
    places = range(0, len(labels), step)
    axis.set_ticks(list(places), [shortened(labels[i], 14) for i in places])


def distances_figure(synthetic: np.ndarray, holdout: np.ndarray) -> Figure:
    """Draws how near synthetic rows come to training rows, against rows that the generator never saw."""
    figure, axes = new_axes(6.4, 3.2)
    top = float(np.quantile(np.concatenate([synthetic, holdout]), 0.99)) or 1.0
    edges = np.linspace(0.0, top, 41)
    for name, distances, real in (("holdout rows", holdout, True), ("synthetic rows", synthetic, False)):
        share = 100 * np.histogram(np.minimum(distances, top), edges)[0] / max(1, len(distances))
        if real:
            axes.stairs(share, edges, fill=True, color=plots.REAL, label=name)
        else:
            axes.stairs(share, edges, color=plots.colour(0), linewidth=1.8, label=name)
    axes.set_xlim(0, top)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("distance to the nearest training row (numbers in deviations, a changed category is 1)")
    axes.set_ylabel("share of rows, %")
    title(axes, "Nearest training row", "left of the grey: nearer to training rows than fresh real rows are")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=plots.INK)
    return figure


def scores_figure(rows: pd.DataFrame) -> Figure:
    """Draws scores on synthetic and on real rows with their intervals, one line each.

    Args:
      rows: columns label, synthetic, synthetic_lower, synthetic_upper, real, real_lower, real_upper.
    """
    figure, axes = new_axes(6.8, 0.9 + 0.34 * len(rows))
    base = np.arange(len(rows))
    for key, colour, marker, words, shift in (
        ("real", plots.REAL_EDGE, "D", "fitted on real rows", -0.13),
        ("synthetic", plots.colour(0), "o", "fitted on synthetic rows", 0.13),
    ):
        axes.hlines(base + shift, rows[f"{key}_lower"], rows[f"{key}_upper"], color=colour, linewidth=1.5)
        axes.plot(rows[key], base + shift, marker, color=colour, markersize=5.5, label=words)
    axes.set_yticks(base, [shortened(label, 52) for label in rows["label"]])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.xaxis.grid(True, color=plots.FAINT, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("score on real holdout rows")
    beside = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 2, "borderaxespad": 0.2}
    axes.legend(frameon=False, fontsize=8.5, labelcolor=plots.INK, **beside)
    return figure


def shares_figure(shares: Mapping[str, float]) -> Figure:
    """Draws parts of a whole as one bar."""
    figure, axes = new_axes(6.8, 1.25)
    start = 0.0
    for position, (name, share) in enumerate(shares.items()):
        axes.barh(0, 100 * share, left=100 * start, color=plots.colour(position), label=f"{name} {share:.1%}")
        start += share
    axes.set_xlim(0, 100)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("share of the budget, %")
    beside = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 4, "borderaxespad": 0.2}
    axes.legend(frameon=False, fontsize=8.5, labelcolor=plots.INK, **beside)
    return figure


def ranking_figure(values: pd.Series, baseline: pd.Series | None, words: str) -> Figure:
    """Draws one bar per column, and the baseline as a tick on it.

    Args:
      baseline: the same figure for real rows, by the same index.
    """
    figure, axes = new_axes(6.4, 0.9 + 0.21 * len(values))
    base = np.arange(len(values))
    axes.barh(base, values, 0.7, color=plots.colour(0), label="synthetic rows")
    if baseline is not None:
        at = baseline.reindex(values.index)
        axes.plot(at, base, "|", color=plots.INK, markersize=9, markeredgewidth=1.8, label="holdout rows")
    axes.set_yticks(base, [shortened(name, 30) for name in values.index])
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(words)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=plots.INK, loc="lower right")
    return figure


def strongest_pairs(binning: Binning, table: pd.DataFrame, measure, most: int) -> list[tuple[str, str]]:
    """Pairs of columns by falling strength of dependence in `table`."""
    codes, names, found = binning.codes(table), binning.names, []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            strength = measure(joint_counts(codes[i], codes[j]))
            found.append((-np.nan_to_num(strength), names[i], names[j]))
    return [(first, second) for _, first, second in sorted(found)[:most]]
