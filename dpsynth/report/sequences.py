"""Pictures of sequences: sample paths, autocorrelations, lengths; internal, since they show real rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.data.units.units import units_of
from dpsynth.evaluation.binning import make_binning
from dpsynth.evaluation.panel import Panel, make_panel
from dpsynth.evaluation.plots import COLOURS, INK, REAL, REAL_EDGE, new_axes, png, shortened, title
from dpsynth.evaluation.sequences import autocorrelations
from dpsynth.report.document import Picture, Section
from dpsynth.report.material import Material, ReportConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_FEATURES = 6


def sequence_pictures(
    synthetic: pd.DataFrame, real: pd.DataFrame, schema: Schema, seed: int = 0
) -> dict[str, bytes]:
    """Draws PNGs by name: `sequence_paths`, `sequence_acf`, and `sequence_lengths` where lengths vary.

    Args:
      real: private, revealed for internal figures.
    """
    binning = make_binning(schema, real)
    made, true = make_panel(synthetic, schema, binning), make_panel(real, schema, binning)
    figures = {"sequence_paths": paths(made, true, seed), "sequence_acf": acf(made, true)}
    if schema.sequence.min_length < schema.sequence.max_length:
        figures["sequence_lengths"] = lengths(made, true)
    return {name: png(figure) for name, figure in figures.items() if figure is not None}


_ALT = {
    "sequence_paths": "Some real and some synthetic sequences of each feature, with their mean",
    "sequence_acf": "Autocorrelation by lag of each feature, real and synthetic",
    "sequence_lengths": "Shares of sequence lengths, real and synthetic",
}


def sequences_section(material: Material, config: ReportConfig) -> Section | None:
    """Sample paths, autocorrelations and lengths; only for sequences, and beside real ones."""
    if not units_of(material.schema).ordered or material.real is None:
        return None
    pictures = sequence_pictures(material.synthetic, material.real, material.schema, config.seed)
    blocks = [Picture(png=content, alt=_ALT[name]) for name, content in pictures.items()]
    return Section(title="Sequences", blocks=blocks) if blocks else None


def paths(made: Panel, true: Panel, seed: int = 0, num: int = 12) -> Figure | None:
    """A few real and synthetic sequences of each feature, with the mean of all of them."""
    names = _features(true)
    if not names:
        return None
    rng = np.random.default_rng(seed)
    figure, axes = new_axes(9.0, 1.9 * len(names), rows=len(names), columns=2)
    axes = np.reshape(axes, (len(names), 2))
    for row, name in enumerate(names):
        for column, (panel, colour, words) in enumerate(
            [(true, REAL_EDGE, "real"), (made, COLOURS[0], "synthetic")]
        ):
            place, values = axes[row, column], panel.numbers[name]
            for line in values[rng.choice(len(values), min(num, len(values)), replace=False)]:
                place.plot(np.arange(1, len(line) + 1), line, color=colour, alpha=0.35, linewidth=0.9)
            known = np.isfinite(values)
            count = known.sum(axis=0)
            mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
            steps = np.arange(1, len(mean) + 1)
            place.plot(steps, np.where(count > 0, mean, np.nan), color=INK, linewidth=1.8, label="mean")
            title(place, f"{shortened(name)}, {words}")
            place.set_ylim(*_limits(true.numbers[name]))
            if row == len(names) - 1:
                place.set_xlabel("step")
    axes[0, 1].legend(frameon=False, fontsize=8)
    return figure


def acf(made: Panel, true: Panel) -> Figure | None:
    """Autocorrelation by lag of each feature, real and synthetic."""
    names = _features(true)
    lags = range(1, min(true.max_length, 13))
    if not names or not lags:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = new_axes(3.2 * columns, 2.4 * rows, rows=rows, columns=columns)
    places = np.reshape(axes, -1)
    for place, name in zip(places, names):
        for panel, colour, marker, words in (
            (true, REAL_EDGE, "o", "real"),
            (made, COLOURS[0], "s", "synthetic"),
        ):
            values = [autocorrelations(panel, lag).get(name, np.nan) for lag in lags]
            place.plot(
                list(lags), values, color=colour, marker=marker, markersize=3.5, linewidth=1.3, label=words
            )
        place.axhline(0, color=REAL, linewidth=0.8)
        place.set_ylim(-0.5, 1.02)
        place.set_xlabel("lag")
        title(place, shortened(name))
    for place in places[len(names) :]:
        place.set_visible(False)
    places[0].set_ylabel("autocorrelation")
    places[0].legend(frameon=False, fontsize=8)
    return figure


def lengths(made: Panel, true: Panel) -> Figure:
    """Shares of sequence lengths, real and synthetic."""
    figure, axes = new_axes(6.0, 2.8)
    steps = np.arange(1, true.max_length + 1)
    for panel, colour, offset, words in ((true, REAL, -0.2, "real"), (made, COLOURS[0], 0.2, "synthetic")):
        shares = np.bincount(panel.lengths, minlength=true.max_length + 1)[1:] / max(panel.num_entities, 1)
        axes.bar(steps + offset, shares, 0.4, color=colour, label=words)
    axes.set_xlabel("steps")
    axes.set_ylabel("share of sequences")
    axes.legend(frameon=False, fontsize=8)
    title(axes, "Lengths of sequences")
    return figure


def _features(panel: Panel) -> list[str]:
    """The features drawn: most distinct values first."""
    distinct = {n: len(np.unique(v[np.isfinite(v)])) for n, v in panel.numbers.items()}
    return sorted((n for n, d in distinct.items() if d > 1), key=lambda n: -distinct[n])[:_MOST_FEATURES]


def _limits(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.002, 0.998])
    pad = 0.08 * (high - low) or 0.5
    return float(low - pad), float(high + pad)
