"""What a report is made from, and how much of it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.errors import InvalidInput, Problem
from dpsynth.evaluation import plots
from dpsynth.evaluation.types import Evaluation
from dpsynth.report.document import Picture
from dpsynth.report.release_files import ReleaseFacts


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """How much a report shows; what is left out is said where it is left out.

    Args:
      max_columns: columns in the tables and pictures of single columns, the worst first.
      max_pairs: pairs of columns drawn.
      max_heat_columns: columns of a heat map.
      max_phik_columns: columns of the PhiK heat map, which is the slow one.
      max_rows: rows of any other table.
      max_distance_rows: rows per table whose nearest training rows are looked up.
      seed: public; drives subsamples.
    """

    max_columns: int = 24
    max_pairs: int = 6
    max_heat_columns: int = 30
    max_phik_columns: int = 16
    max_rows: int = 60
    max_distance_rows: int = 3_000
    seed: int = 0

    def __post_init__(self):
        problems = [
            Problem(f"report.{f.name}", f"Expected {getattr(self, f.name)!r} to be at least 1.", "Raise it.")
            for f in fields(self)
            if f.name != "seed" and getattr(self, f.name) < 1
        ]
        if problems:
            raise InvalidInput("the report's configuration", problems)


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a report is made from; all but the synthetic rows and the schema may be missing.

    Args:
      train, holdout: real rows, revealed for internal figures.
      audits: `AuditResult.to_dict()` of each audit.
      audit_pictures: PNGs that the audits left, by what they show.
    """

    schema: Schema
    synthetic: pd.DataFrame
    release: ReleaseFacts | None = None
    train: pd.DataFrame | None = None
    holdout: pd.DataFrame | None = None
    evaluation: Evaluation | None = None
    audits: Sequence[Mapping[str, Any]] = ()
    audit_pictures: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def real(self) -> pd.DataFrame | None:
        """Real rows to lay beside the synthetic ones: training rows, else the holdout."""
        return self.train if self.train is not None else self.holdout

    @property
    def real_name(self) -> str:
        return "train rows" if self.train is not None else "holdout rows"

    @property
    def visibility(self) -> str:
        return "released" if self.real is None else "internal"

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Tables side by side, the real one first."""
        real = {} if self.real is None else {self.real_name: self.real}
        return real | {"synthetic rows": self.synthetic}


def picture(figure, alt: str, caption: str = "") -> Picture:
    """Turns a figure into a block."""
    return Picture(png=plots.png(figure), alt=alt, caption=caption)
