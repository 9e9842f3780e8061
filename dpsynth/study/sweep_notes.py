"""The note that opens a sweep's page in MLflow: frontier, cost, what failed, where the rest is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from dpsynth.places import command
from dpsynth.study.points import FINISHED, Point, table

NOTE = "mlflow.note.content"
_SHOWN = 2  # frontiers: utility, then distance
_MOST_FAILED = 10
_GAP = "&emsp;| "  # the user interface leaves no room between columns


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _one_line(error: str | None) -> str:
    return textwrap.shorten(error or "", 240)


def _markdown(header: Iterable[Any], rows: Iterable[Sequence[Any]]) -> str:
    lines = [_GAP.join(map(_cell, row)) for row in (header, *rows)]
    lines.insert(1, " | ".join("---" for _ in header))
    return "\n".join(f"| {line} |" for line in lines)


def sweep_note(points: Sequence[Point], cost: str) -> str:
    """Returns the note in Markdown; internal, as the figures in it are.

    Args:
      cost: what publishing costs, one statement per line; empty where unknown.
    """
    from dpsynth.report import names
    from dpsynth.report.frontier import default_metrics, make_frontier, summary

    figures, parts = table(points), []
    for metric in default_metrics(figures)[:_SHOWN] if len(figures) else []:
        frontier = make_frontier(figures, metric)
        wide = summary(frontier)
        better = "higher is better" if names.higher_is_better(metric) else "lower is better"
        head = f"**{names.label(metric)}** ({better}; {frontier.interval})"
        parts.append(f"{head}\n\n{_markdown(wide.columns, wide.values.tolist())}")
    if cost:
        lines = "\n".join(f"- {line.strip()}" for line in cost.splitlines() if line.strip())
        parts.append(f"**What this sweep costs in privacy**\n\n{lines}")
    failed = [p for p in points if p.status != FINISHED]
    if failed:
        rows = [[p.generator, p.claim, p.seed, _one_line(p.error)] for p in failed[:_MOST_FAILED]]
        more = f", the first {_MOST_FAILED}" if len(failed) > _MOST_FAILED else ""
        listed = _markdown(["generator", "claim", "seed", "error"], rows)
        parts.append(f"**Failed points: {len(failed)}{more}**\n\n{listed}")
    parts.append(
        "**Artifacts**: `internal/frontier/frontier.html` is the frontier to hover over, `runs.html` has one "
        f"line per run over what was swept; `{command('report sweep=FOLDER')}` adds the whole report "
        "as `internal/report`. All figures compare with real rows without paying for it: they are internal."
    )
    return "\n\n".join(parts)
