"""Reports: of one release, and of a sweep; one HTML page and one PDF each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dpsynth.evaluation.types import Evaluation
from dpsynth.report import comparisons, names, sections
from dpsynth.report.document import Document, Interactive, Picture, Section, Table, Text, limited
from dpsynth.report.frontier import default_metrics, make_frontier, summary
from dpsynth.report.frontier_plots import frontier_figure, frontier_plotly
from dpsynth.report.html import render_html
from dpsynth.report.material import Material, ReportConfig, picture
from dpsynth.report.pdf import render_pdf
from dpsynth.report.release_files import read_release
from dpsynth.report.sequences import sequences_section

_PARTS = (
    sections.claim_section,
    sections.ledger_section,
    sections.utility_section,
    sections.fidelity_section,
    sequences_section,
    comparisons.columns_section,
    comparisons.pairs_section,
    comparisons.correlation_section,
    comparisons.distances_section,
    sections.audit_section,
    sections.schema_section,
)
_STILLS = 4  # frontiers printed one by one
_EVIDENCE = "ε claimed by each run against the ε that every estimator of its audit shows, at least."


def release_report(
    folder: str | Path,
    *,
    train: pd.DataFrame | None = None,
    holdout: pd.DataFrame | None = None,
    evaluation: Evaluation | None = None,
    audits: Sequence[Mapping[str, Any]] = (),
    audit_pictures: Mapping[str, bytes] | None = None,
    config: ReportConfig | None = None,
) -> Document:
    """Composes the report of a release.

    Without real rows and figures made from them the report holds released facts alone and may go along with
    the release; with them, the parts that used them are marked internal.
    Edge cases: one column, missing values, 100 columns (limits per section, said where they cut).

    Args:
      folder: the release's.
      train, holdout: private, revealed for internal figures.
      evaluation: internal figures of the run.
      audits: `AuditResult.to_dict()` of each audit.
      audit_pictures: PNGs that the audits left, by what they show.
    """
    release = read_release(folder)
    material = Material(
        schema=release.schema,
        synthetic=release.synthetic,
        release=release,
        train=train,
        holdout=holdout,
        evaluation=evaluation,
        audits=audits,
        audit_pictures=audit_pictures or {},
    )
    config = config or ReportConfig()
    parts = [part(material, config) for part in _PARTS]
    return Document(
        title=f"Release by {release.generator}",
        claim=release.claim,
        stamp=release.stamp,
        sections=[part for part in parts if part is not None],
    )


def sweep_report(
    table: pd.DataFrame,
    *,
    title: str = "Sweep",
    costs: Mapping[str, Any] | None = None,
    runs: pd.DataFrame | None = None,
    failed: pd.DataFrame | None = None,
    evidence: bytes | None = None,
    metrics: Sequence[str] | None = None,
    config: ReportConfig | None = None,
) -> Document:
    """Composes the report of a sweep.

    Args:
      table: the frontier's table (see `frontier.tidy`); internal.
      costs: what publishing costs, in words: for instance ε of one run chosen blind, of all, of the best.
      runs: one row per finished run (claim, generator, seed, seconds and the like).
      failed: one row per failed run with its error.
      evidence: PNG of what the audits of the runs show of each claim.
      metrics: those with a frontier, the main one first; None takes all that are worth one.
    """
    config = config or ReportConfig()
    parts = []
    if costs:
        frame = pd.DataFrame(list(costs.items()), columns=["published", "cost"])
        text = "Runs on one table compose: each of them spent its own budget on the same units."
        blocks = [Text(text=text), Table(frame=frame)]
        parts.append(Section(title="What the sweep costs", visibility="released", blocks=blocks))
    parts.append(frontier_section(table, metrics))
    if evidence is not None:
        picture = Picture(png=evidence, alt=_EVIDENCE, caption=_EVIDENCE)
        parts.append(Section(title="Theory and evidence", blocks=[picture]))
    for name, rows in (("Runs", runs), ("Failed runs", failed)):
        if rows is not None and len(rows):
            parts.append(Section(title=name, blocks=[limited(rows, config.max_rows)]))
    budgets = table["epsilon"].nunique()
    count = table.drop_duplicates(["generator", "epsilon", "seed"]).shape[0]
    generators = ", ".join(sorted(table["generator"].unique()))
    return Document(
        title=title, claim=f"Runs: {count}, budgets: {budgets}, generators: {generators}", sections=parts
    )


def frontier_section(table: pd.DataFrame, metrics: Sequence[str] | None = None) -> Section:
    """Utility against epsilon: interactive on the page, still in print, and as tables."""
    chosen = list(metrics or default_metrics(table))
    if not chosen:
        return Section(title="Frontier", blocks=[Text(text="No finished run has a figure to show.")])
    frontiers = [make_frontier(table, name) for name in chosen]
    stills = [_still(frontier) for frontier in frontiers[:_STILLS]]
    blocks: list = [
        Text(text="One line per generator over declared budgets. The menu has further figures."),
        Interactive(figure=frontier_plotly(frontiers), still=stills[0]),
        *stills[1:],
    ]
    blocks += [
        Table(frame=summary(frontier), caption=names.label(frontier.metric))
        for frontier in frontiers[:_STILLS]
    ]
    return Section(title="Frontier", blocks=blocks)


def _still(frontier) -> Picture:
    alt = f"{names.label(frontier.metric)} against ε for {', '.join(frontier.generators)}"
    return picture(frontier_figure(frontier), alt)


def write(document: Document, folder: str | Path, name: str = "report") -> tuple[Path, Path]:
    """Writes NAME.html and NAME.pdf; returns both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    page, printed = folder / f"{name}.html", folder / f"{name}.pdf"
    page.write_text(render_html(document), encoding="utf-8")
    printed.write_bytes(render_pdf(document))
    return page, printed
