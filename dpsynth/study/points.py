"""What each point of a sweep leaves behind, and what they say together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.study.run_audit import HEADS, cells

if TYPE_CHECKING:
    import pandas as pd

RESULT = "result.json"
INTERNAL = "internal"  # in a sweep's folder: what its points share; all trials of a private selection
EVIDENCE = "theory_and_evidence.png"
FINISHED, FAILED = "FINISHED", "FAILED"
_SHOWN = 2  # metrics printed at the end of a sweep: utility, then distance


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run's result; internal, since its figures are.

    Args:
      digest: of the configuration, by which a resumed sweep recognises the point.
      status: FINISHED or FAILED.
      generator, seed: public.
      claim: public, for example `epsilon=1, delta=1e-05`.
      epsilon: declared; None without privacy.
      settings: all of the configuration, flat.
      evaluation: as `Evaluation.to_dict` has it.
      seconds: wall time by stage.
      audit: verdict, epsilon claimed and audited, and the like; empty without an audit.
      release: the folder; None for a failed run.
      run_id: in MLflow; None when nothing is tracked.
      error: of a failed run.
      spent: in words, what was spent on the table when the run began.
      score: of a trial of a private selection, noisy.
      rungs: of a ladder, the points below this one, which came out of the same training.
    """

    digest: str
    status: str
    generator: str
    seed: int
    claim: str = ""
    epsilon: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=lambda: {"metrics": []})
    seconds: Mapping[str, float] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    release: str | None = None
    run_id: str | None = None
    error: str | None = None
    spent: str | None = None
    score: float | None = None
    rungs: Sequence[Mapping[str, Any]] = ()

    @property
    def ladder(self) -> list[Point]:
        """The rungs below, then the point itself."""
        return [*(Point(**rung) for rung in self.rungs), replace(self, rungs=())]

    def dump(self, folder: Path) -> None:
        """Writes the result in one step, so that a killed run leaves none or a whole one."""
        draft = folder / f"{RESULT}.draft"
        draft.write_text(json.dumps(asdict(self), indent=1, default=str), encoding="utf-8")
        draft.replace(folder / RESULT)

    @classmethod
    def load(cls, path: Path) -> Point:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def collect(folder: Path) -> list[Point]:
    """Reads all results in a sweep's folder, in the order of its points; each rung of a ladder is a point."""
    paths = sorted(folder.glob(f"*/{RESULT}"), key=lambda path: (len(path.parent.name), path.parent.name))
    return [point for path in paths for point in Point.load(path).ladder]


def table(points: Sequence[Point]) -> pd.DataFrame:
    """Returns every figure of every finished point, one row each, as the frontier wants it."""
    import pandas as pd

    from dpsynth.evaluation.types import Evaluation
    from dpsynth.report.frontier import COLUMNS, tidy

    parts = [
        tidy(
            Evaluation.from_dict(point.evaluation),
            generator=point.generator,
            epsilon=math.inf if point.epsilon is None else point.epsilon,
            seed=point.seed,
            run_id=point.run_id,
            ladder=bool(point.settings.get("training.ladder")),
        )
        for point in points
        if point.status == FINISHED
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*COLUMNS, "run_id"])


def run_table(points: Sequence[Point], metrics: Sequence[str]) -> pd.DataFrame:
    """Returns one row per finished point: its settings, and a column per chosen figure."""
    import pandas as pd

    rows = [
        {
            **point.settings,
            **{m["name"]: m["value"] for m in point.evaluation["metrics"] if m["name"] in metrics},
        }
        for point in points
        if point.status == FINISHED
    ]
    return pd.DataFrame(rows)


def evidence(points: Sequence[Point]) -> bytes | None:
    """Draws what the audits show of each claim; None without an audited run. Internal."""
    from dpsynth.audit.pictures import sweep_picture

    return sweep_picture([{"generator": p.generator, **p.audit} for p in points])


def aligned(rows: Iterable[Sequence[Any]]) -> str:
    """Lays rows out in columns."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def near(path: str | Path) -> str:
    """Writes a path as one would type it here."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def frontier_text(figures: pd.DataFrame) -> str:
    """Returns utility and distance against epsilon, a column per generator."""
    from dpsynth.report import names
    from dpsynth.report.frontier import default_metrics, make_frontier, summary

    if figures.empty:
        return "No point finished."
    parts = []
    for metric in default_metrics(figures)[:_SHOWN]:
        frontier = make_frontier(figures, metric)
        wide = summary(frontier)
        better = "higher is better" if names.higher_is_better(metric) else "lower is better"
        head = f"{names.label(metric)} ({better}; {frontier.interval})"
        parts.append(f"{head}\n{indented(aligned([list(wide.columns), *wide.values.tolist()]))}")
    return "\n\n".join(parts)


def summary_text(points: Sequence[Point]) -> str:
    """Returns the frontier, then where the releases are and what failed."""
    parts = [frontier_text(table(points))]
    finished = [p for p in points if p.release and Path(p.release).exists()]
    places = [[p.generator, p.claim, f"seed={p.seed}", *cells(p.audit), near(p.release)] for p in finished]
    if places:
        heads = ["generator", "claim", "", *HEADS, "release"]
        parts.append(f"Theory and evidence (internal):\n{indented(aligned([heads, *places]))}")
    failed = [
        [p.generator, p.claim, f"seed={p.seed}", (p.error or "").split("\n")[0]]
        for p in points
        if p.status != FINISHED
    ]
    if failed:
        parts.append(f"FAILED:\n{indented(aligned(failed))}")
    return "\n\n".join(parts)
