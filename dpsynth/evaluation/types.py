"""What an evaluation is asked for and what it returns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpsynth.errors import InvalidInput, Problem

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure and what it was computed on.

    Args:
      name: for example `tstr_auc_boosting`; unique within an evaluation.
      value: the figure; nan when it cannot be computed, and then `computed_on` says why.
      lower, upper: the interval, where there is one; None otherwise.
      computed_on: in words, which rows and which procedure.
      visibility: `internal` for whatever touched real rows; only a caller that computes from released
        rows alone may say `released`.
    """

    name: str
    value: float
    lower: float | None = None
    upper: float | None = None
    computed_on: str
    visibility: str = "internal"

    def to_dict(self) -> dict:
        """Returns JSON-able fields; nan becomes None."""
        clean = {key: None if _is_nan(value) else value for key, value in self.__dict__.items()}
        return {**clean, "value": None if math.isnan(self.value) else float(self.value)}

    @classmethod
    def from_dict(cls, fields: Mapping) -> Metric:
        """Inverse of `to_dict`."""
        return cls(**{**fields, "value": math.nan if fields["value"] is None else fields["value"]})


def _is_nan(value) -> bool:
    return isinstance(value, float) and math.isnan(value)


class Evaluation(Mapping[str, Metric]):
    """Metrics by name, in the order in which they were computed.

    Args:
      metrics: their names must differ.
      seconds: wall time of each stage.
    """

    def __init__(self, metrics, seconds: Mapping[str, float] | None = None):
        self.metrics: tuple[Metric, ...] = tuple(metrics)
        self.seconds = dict(seconds or {})
        self._by_name = {metric.name: metric for metric in self.metrics}
        if len(self._by_name) != len(self.metrics):
            raise ValueError("Metric names must differ.")

    def __getitem__(self, name: str) -> Metric:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self.metrics)

    def values_by_name(self) -> dict[str, float]:
        """Returns the finite values alone, for a tracker."""
        return {m.name: float(m.value) for m in self.metrics if math.isfinite(m.value)}

    def to_frame(self) -> pd.DataFrame:
        """Returns one row per metric."""
        import pandas as pd

        columns = ["name", "value", "lower", "upper", "computed_on", "visibility"]
        return pd.DataFrame([m.__dict__ for m in self.metrics], columns=columns)

    def to_dict(self) -> dict:
        """Returns JSON-able content."""
        return {"metrics": [m.to_dict() for m in self.metrics], "seconds": self.seconds}

    @classmethod
    def from_dict(cls, content: Mapping) -> Evaluation:
        """Inverse of `to_dict`."""
        return cls([Metric.from_dict(m) for m in content["metrics"]], content.get("seconds"))


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to compute, and how much of it.

    Args:
      num_bins: equal-width bins over declared bounds, for total variation and its kin.
      models: families fitted for utility: `boosting`, `logistic` (ridge where the target is a number).
      num_bootstraps: resamples of the holdout rows behind each interval; 0 means no interval.
      confidence: level of the intervals.
      max_rows: rows beyond this are subsampled (by the seed) before a model is fitted.
      max_pairs: pairs (and triples) of columns beyond this are subsampled.
      propensity: whether to fit a classifier of synthetic against holdout rows.
      extended: whether to add divergences, MMD, precision and recall, coverage, dependence and validity.
      max_distance_rows: rows per table for the metrics that compare every row with every row.
      num_threads: threads that a fit may use.
    """

    num_bins: int = 20
    models: tuple[str, ...] = ("boosting", "logistic")
    num_bootstraps: int = 200
    confidence: float = 0.95
    max_rows: int = 50_000
    max_pairs: int = 3_000
    propensity: bool = True
    extended: bool = False
    max_distance_rows: int = 2_000
    num_threads: int = 1

    def __post_init__(self):
        problems = []

        def check(ok: bool, key: str, rule: str, fix: str) -> None:
            if not ok:
                problems.append(
                    Problem(f"evaluation.{key}", f"Expected {key}={getattr(self, key)!r} {rule}.", fix)
                )

        object.__setattr__(self, "models", tuple(self.models))
        known = {"boosting", "logistic"}
        check(self.num_bins >= 2, "num_bins", "to be at least 2", "Use 20.")
        check(set(self.models) <= known, "models", f"to be among {sorted(known)}", "Correct the list.")
        check(len(set(self.models)) == len(self.models), "models", "without repetition", "Correct the list.")
        check(self.num_bootstraps >= 0, "num_bootstraps", "to be at least 0", "Use 200, or 0 for none.")
        check(0 < self.confidence < 1, "confidence", "in (0, 1)", "Use 0.95.")
        check(self.max_rows >= 100, "max_rows", "to be at least 100", "Use 50000.")
        check(self.max_pairs >= 1, "max_pairs", "to be at least 1", "Use 3000.")
        check(self.max_distance_rows >= 20, "max_distance_rows", "to be at least 20", "Use 2000.")
        check(self.num_threads >= 1, "num_threads", "to be at least 1", "Use 1.")
        if problems:
            raise InvalidInput("the evaluation's configuration", problems)
