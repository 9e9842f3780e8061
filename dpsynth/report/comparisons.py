"""The report's parts that lay real and synthetic rows side by side: columns, pairs, correlation, distances.

Without real rows they show the synthetic ones alone, and are then released.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.evaluation import fidelity
from dpsynth.evaluation.binning import Binning, make_binning
from dpsynth.evaluation.dependence import (
    association_matrix,
    cramers_v,
    mutual_information,
    pearson_matrix,
    phi_k,
)
from dpsynth.evaluation.describe import describe, describe_figure
from dpsynth.evaluation.features import subsample
from dpsynth.evaluation.neighbours import embed, nearest_distances
from dpsynth.report import figures
from dpsynth.report.document import Section, Table, Text
from dpsynth.report.material import Material, ReportConfig, picture


def columns_section(material: Material, config: ReportConfig) -> Section | None:
    """Each column of real and synthetic rows, side by side."""
    order = _by_distance(material)
    shown = order[: config.max_columns]
    if not shown:
        return None
    kept = set(shown)
    described = describe(material.tables, material.schema).reset_index()
    described = described[described["column"].isin(kept)]
    text = "Numbers of rows, missing values and quantiles."
    if len(order) > len(shown):
        text += f" {len(shown)} of {len(order)} columns are shown"
        text += ", the furthest first." if material.real is not None else ", in the order of the table."
    counts = described[["column", "table", "kind", "count", "missing", "unique", "top", "top_share"]]
    spread = described.loc[described["mean"].notna()].drop(columns=[*counts.columns[2:]])
    blocks: list = [Text(text=text), Table(frame=counts)]
    if len(spread):
        blocks.append(Table(frame=spread))
    for column in shown:
        figure = describe_figure(material.tables, material.schema, column)
        blocks.append(picture(figure, f"Distribution of {column}: {', '.join(material.tables)}"))
    return Section(title="Columns", visibility=material.visibility, blocks=blocks)


def _by_distance(material: Material) -> list[str]:
    if material.real is None:
        return [c.name for c in material.schema.modelled if c.name in material.synthetic.columns]
    binning = make_binning(material.schema, material.real)
    return list(fidelity.column_distances(material.synthetic, material.real, binning).index)


def pairs_section(material: Material, config: ReportConfig) -> Section | None:
    """The pairs of columns that hang together most (in the real rows, where there are any)."""
    ground = next(iter(material.tables.values()))
    binning = make_binning(material.schema, ground)
    if len(binning.names) < 2 or not len(ground):
        return None
    few = subsample(ground, 20_000, config.seed)
    pairs = figures.strongest_pairs(binning, few, mutual_information, config.max_pairs)
    total = len(binning.names) * (len(binning.names) - 1) // 2
    where = material.real_name if material.real is not None else "synthetic rows"
    text = f"The {len(pairs)} of {total} pairs with the most mutual information among {where}."
    blocks: list = [Text(text=text)]
    for first, second in pairs:
        figure = figures.pair_figure(material.tables, binning, first, second)
        blocks.append(picture(figure, f"Joint distribution of {first} and {second}"))
    return Section(title="Pairs of columns", visibility=material.visibility, blocks=blocks)


def correlation_section(material: Material, config: ReportConfig) -> Section | None:
    """Heat maps of Pearson's r, Cramér's V and PhiK: real, synthetic, difference."""
    if len(material.schema.modelled) < 2:
        return None
    ground = next(iter(material.tables.values()))
    binning = make_binning(material.schema, ground, num_bins=10)
    tables = {name: subsample(table, 20_000, config.seed) for name, table in material.tables.items()}
    order = [name for name in _by_distance(material) if name in binning.names]
    measures: list[tuple[str, Callable, int, bool, str]] = [
        (
            "Pearson's r",
            lambda t, n: _pearson(t, material.schema, n),
            config.max_heat_columns,
            True,
            "numbers",
        ),
        ("Cramér's V", _association(material, cramers_v), config.max_heat_columns, False, "all columns"),
        ("PhiK", _association(material, phi_k), config.max_phik_columns, False, "all columns"),
    ]
    blocks: list = []
    for name, measure, most, signed, what in measures:
        candidates = order
        if signed:
            numeric = set(pearson_matrix(ground.head(1), material.schema))
            candidates = [name for name in order if name in numeric]
        if len(candidates) < 2:
            continue
        chosen = set(candidates[:most])
        kept = [c.name for c in material.schema.modelled if c.name in chosen]
        matrices = [measure(table, kept) for table in tables.values()]
        real = matrices[0] if material.real is not None else None
        figure = figures.matrices_figure(real, matrices[-1], name, signed=signed)
        left = "" if len(kept) == len(candidates) else f"; {len(kept)} of {len(candidates)}, the furthest"
        binned = "" if signed else ", numbers in 10 bins; missing is a value"
        blocks.append(picture(figure, f"Heat map of {name}", f"{name}: {what}{binned}{left}."))
    if not blocks:
        return None
    return Section(title="Correlation", visibility=material.visibility, blocks=blocks)


def _pearson(table: pd.DataFrame, schema: Schema, kept: Sequence[str]) -> pd.DataFrame:
    matrix = pearson_matrix(table, schema)
    return matrix.reindex(index=kept, columns=kept)


def _association(material: Material, measure: Callable) -> Callable:
    def matrix(table: pd.DataFrame, kept: Sequence[str]) -> pd.DataFrame:
        ground = next(iter(material.tables.values()))
        bins = make_binning(material.schema, ground, num_bins=10)
        return association_matrix(table, Binning(columns=tuple(bins[name] for name in kept)), measure)

    return matrix


def distances_section(material: Material, config: ReportConfig) -> Section | None:
    """How near synthetic rows come to training rows, with holdout rows as the baseline."""
    train, holdout = material.train, material.holdout
    if train is None or holdout is None or not len(holdout) or not len(train) or not len(material.synthetic):
        return None
    most, seed = config.max_distance_rows, config.seed
    tables = tuple(subsample(t, most, seed) for t in (material.synthetic, holdout))
    fake, fresh, known = embed((*tables, subsample(train, 10 * most, seed)), train, material.schema).points
    to_fake, to_fresh = nearest_distances(fake, known), nearest_distances(fresh, known)
    quantiles = [0.01, 0.05, 0.25, 0.5, 0.75]
    frame = pd.DataFrame(
        {
            "rows": ["synthetic", "holdout"],
            **{
                f"{q:.0%} quantile": [float(np.quantile(d, q)) for d in (to_fake, to_fresh)]
                for q in quantiles
            },
            "at distance 0": [f"{(d <= 1e-7).mean():.2%}" for d in (to_fake, to_fresh)],
        }
    )
    text = "Distance is no proof of privacy: a release may leak without any near copy, and tables of few "
    text += "categories have equal rows by chance. Only a clear excess over the baseline means something."
    figure = figures.distances_figure(to_fake, to_fresh)
    alt = "Histogram of distances to the nearest training row, synthetic and holdout rows"
    return Section(
        title="Nearest training rows", blocks=[Text(text=text), picture(figure, alt), Table(frame=frame)]
    )
