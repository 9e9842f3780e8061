"""Whether each released thing has the purchase that pays for it, and the form that the schema gives it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from dpsynth.data.tables.untrusted import check_safetensors, shown
from dpsynth.privacy.release.certificate import FILES
from dpsynth.privacy.verify.evidence import Evidence, refuse, require

_MOST_MADE_UP = 10_000  # cells of one column


def check_histograms(evidence: Evidence) -> str:
    """Every released histogram names its purchase, and each purchase has as many as it paid for."""
    statistics, plan = evidence.statistics, evidence.plan
    refuse(
        []
        if statistics.to_dict() == evidence.facts["statistics"]
        else ["Statistics hold more than statistics."]
    )
    refuse(_domain_faults(evidence))
    refuse(_single_faults(evidence))
    refuse(_joint_faults(evidence))
    declared, stated = evidence.schema.num_units, statistics.num_units
    if declared is not None and stated != declared:
        refuse(["The number of units is neither declared nor bought."])
    bought = {marginal.event for marginal in (*statistics.fine.values(), *statistics.marginals)}
    num = len(statistics.crossed or statistics.fine) + len(statistics.marginals)
    require(num == 0 or plan.events, "Histograms are released, and nothing was bought.")
    return f"{num} histograms, paid for by {', '.join(sorted(bought)) or 'nothing'}"


def _domain_faults(evidence: Evidence) -> Iterator[str]:
    """Cells of declared columns are those that the schema makes; others are of the right kind."""
    from dpsynth.data.bought.grid import fine_domain

    schema, domain = evidence.schema, evidence.statistics.domain
    if domain.names != tuple(column.name for column in schema.modelled):
        yield "The cells are not those of the modelled columns, each once."
        return
    open_columns = dict(schema.undeclared)
    bounds = {name: (0.0, 1.0) for name, kind in open_columns.items() if kind == "bounds"}
    values = {name: ("",) for name, kind in open_columns.items() if kind == "values"}
    for made, cells in zip(fine_domain(schema, bounds, values).cells, domain.cells):
        where, groups = f"The cells of {shown(cells.column.name, 80)}", cells.group_map
        if (cells.other, cells.missing) != (made.other, made.missing):
            yield f"{where} are of another kind than the schema's."
        elif (cells.edges is None) != (made.edges is None) or (cells.values is None) != (made.values is None):
            yield f"{where} are of another kind than the schema's."
        elif cells.fine_size > _MOST_MADE_UP:
            yield f"{where} are too many."
        elif cells.edges is not None and not (len(cells.edges) > 1 and (np.diff(cells.edges) >= 0).all()):
            yield f"{where} do not rise."
        elif cells.column.name not in open_columns and not _same_cells(made, cells):
            yield f"{where} are not those that the schema makes."
        elif len(np.unique(groups)) != cells.size:
            yield f"{where} are not grouped as models use them."


def _same_cells(made: Any, cells: Any) -> bool:
    if made.edges is not None:
        return made.edges.shape == cells.edges.shape and np.allclose(
            made.edges, cells.edges, rtol=1e-12, atol=0.0
        )
    return [(type(v), v) for v in made.values] == [(type(v), v) for v in cells.values]


def _single_faults(evidence: Evidence) -> Iterator[str]:
    """Histograms of single columns, crossed with the target where those were bought."""
    statistics, plan = evidence.statistics, evidence.plan
    names = statistics.domain.names
    paid = plan.event("columns/histograms") if "columns/histograms" in plan else None
    target = plan.request.crossed if paid and len(names) > 1 else None
    if set(statistics.fine) != set(names if paid else ()):
        yield "The histograms are not those of the modelled columns."
        return
    if set(statistics.crossed) != {name for name in names if target and name != target}:
        yield "The histograms by the target are not those that were bought."
        return
    sizes = {name: statistics.domain[name].fine_size for name in names}
    for name, marginal in statistics.crossed.items():
        yield from _marginal_faults(marginal, (name, target), (sizes[name], sizes[target]), paid)
    if paid and target:
        from dpsynth.privacy.measuring.measure import sums

        for name, made in sums(statistics.domain, statistics.crossed, target).items():
            own, close = statistics.fine[name], {"rel_tol": 1e-9, "abs_tol": 1e-6}
            same = own.counts.shape == made.counts.shape and np.allclose(own.counts, made.counts, 1e-9, 1e-6)
            if not same or not math.isclose(own.noise_stddev, made.noise_stddev, **close):
                yield f"The histogram of {shown(name, 80)} is not the sum of the bought ones."
    elif paid:
        for name, marginal in statistics.fine.items():
            yield from _marginal_faults(marginal, (name,), (sizes[name],), paid)


def _marginal_faults(marginal: Any, columns: tuple, shape: tuple[int, ...], paid: Any) -> Iterator[str]:
    where = f"The histogram of {shown(' by '.join(map(str, columns)), 120)}"
    if marginal.columns != columns or marginal.counts.shape != shape:
        yield f"{where} has other columns or cells."
    elif marginal.event != paid.name:
        yield f"{where} names another purchase than {paid.name}."
    elif not math.isclose(marginal.noise_stddev, paid.noise_stddev, rel_tol=1e-9):
        yield f"{where} has another noise than was paid for."


def _joint_faults(evidence: Evidence) -> Iterator[str]:
    """Joint histograms: as many per purchase as it pays for, over the cells of its questions."""
    from dpsynth.data.bought.statistics import Question
    from dpsynth.generators.base import load_generator

    statistics, plan, recipe = evidence.statistics, evidence.plan, evidence.recipe
    paid = [event for event in plan.events if event.stage == "marginals" and not event.choices]
    per_event = {event.name: [m for m in statistics.marginals if m.event == event.name] for event in paid}
    if sum(map(len, per_event.values())) != len(statistics.marginals):
        yield "A joint histogram names no purchase that the recipe makes."
        return
    method = load_generator(recipe.generator).Generator
    options = {"private": recipe.privacy.shaped}
    encoder = method.encoder(recipe.settings, evidence.schema, statistics, **options)
    fixed = method.questions(recipe.settings, evidence.schema, **options)
    for event in paid:
        found, num = per_event[event.name], event.num_histograms
        if len(found) != num:
            yield f"{event.name} pays for {num} joint histograms; {len(found)} are released."
            continue
        chosen: Sequence[Any] = [Question(columns=m.columns, partition=m.partition) for m in found]
        asked = fixed if event.name == "marginals" else chosen
        flat = [marginal.columns for marginal in found if marginal.partition is None]
        if len(set(flat)) != len(flat):  # one tree may be bought several times: each costs, and has its noise
            yield f"{event.name} has a joint histogram twice."
            continue
        if not all(m.partition is None or m.partition.fits(statistics.domain) for m in found):
            yield f"{event.name} has a tree over other columns or cells than the table's."
            continue
        for marginal, question in zip(found, asked):
            yield from _marginal_faults(marginal, question.columns, encoder.shape(question), event)


def check_weights(evidence: Evidence) -> str:
    """Weights of the shapes that the settings give them, finite, and none where nothing makes any."""
    from safetensors.torch import load_file

    from dpsynth import pipeline

    path = evidence.folder / FILES[1]
    stated, weights = check_safetensors(path), load_file(path)
    recipe, generator = evidence.recipe, evidence.facts["generator"]
    refuse(
        f"The weights {shown(name, 80)} are not finite."
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    )
    facts = {"generator": generator, "schema": evidence.schema, "statistics": evidence.statistics}
    facts |= {"encoder": evidence.facts["encoder"], "seed": recipe.seed, "shaped": recipe.privacy.shaped}
    made = pipeline.rebuild(SimpleNamespace(weights=weights, **facts))
    own = type(made.encoder).from_dict(facts["encoder"], evidence.schema, evidence.statistics)
    require(own.to_dict() == facts["encoder"], "The encoder holds more than an encoder.")
    used = {name: tensor.contiguous() for name, tensor in made.state().items()}
    require(set(used) == set(weights), "The weights are not those of this method and its settings.")
    refuse(
        f"The weights {shown(name, 80)} have another form than the settings give them."
        for name, tensor in used.items()
        if tensor.shape != weights[name].shape or tensor.dtype != weights[name].dtype
    )
    made.sample(2, seed=recipe.seed)  # whatever the shapes alone do not show
    num = sum(math.prod(shape) for _, shape in stated.values())
    return f"{num:,} numbers in {len(stated)} arrays, as {recipe.generator} has them"


def check_rows(evidence: Evidence) -> str:
    """Rows that the schema allows: columns, dtypes, bounds, lists, missing values, rows per unit."""
    import pandas as pd

    from dpsynth import pipeline
    from dpsynth.data.schema.dtypes import storage_dtype
    from dpsynth.data.schema.validation import check_columns
    from dpsynth.data.tables.io import stored_dtypes
    from dpsynth.data.units.units import units_of

    schema, path = evidence.schema, evidence.folder / FILES[0]
    expected = {name: storage_dtype(schema.column(name)) for name in schema.names}
    found = stored_dtypes(path)
    require(list(found) == list(expected), "The columns of the rows are not the schema's, in order.")
    refuse(
        f"{shown(name, 80)} is {shown(found[name], 40)}, the schema says {shown(dtype, 40)}."
        for name, dtype in expected.items()
        if found[name] != dtype
    )
    rows = pd.read_parquet(path)
    _, problems = check_columns(rows, schema, text=False)
    refuse(f"{shown(problem.where, 80)}: {shown(problem.rule)}" for problem in problems)
    units, asked = units_of(schema), evidence.recipe.num_rows
    found = len(rows) if not units.ordered else units.num(rows)
    wanted = pipeline.num_samples(schema, evidence.statistics) if asked is None else asked
    require(
        found == wanted, f"{found:,} rows or sequences are released; {wanted:,} follow from what was bought."
    )
    if len(rows):
        most = int(np.bincount(units.owners(rows)).max())
        require(most <= units.max_rows, f"A unit has {most} rows; {units.max_rows} are declared.")
    return f"{len(rows):,} rows of {len(expected)} columns, each value as declared"
