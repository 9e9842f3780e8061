"""The frontier: utility against epsilon, one line per generator, between real rows and the floor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dpsynth.data.wording import up
from dpsynth.evaluation.types import Evaluation
from dpsynth.report import names

FLOORS = ("independent", "sequence_independent")
COLUMNS = ["generator", "epsilon", "seed", "metric", "value", "lower", "upper"]
CONFIDENCE = 0.95


def tidy(evaluation: Evaluation, *, generator: str, epsilon: float, seed: int, **more) -> pd.DataFrame:
    """Returns one run's figures as rows of the frontier's table.

    Args:
      epsilon: declared; inf for a run without privacy.
      more: further columns, the run's id for instance.
    """
    table = evaluation.to_frame().rename(columns={"name": "metric"})
    keys = {"generator": generator, "epsilon": float(epsilon), "seed": seed, **more}
    return table.assign(**keys)[[*COLUMNS, *more]]


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """One metric over a sweep.

    Args:
      points: one row per generator and epsilon: mean, lower, upper, num_seeds; sorted by both.
      runs: the single values behind them.
      real: what real rows reach; None where unknown.
      ties: (epsilon, generator, generator): neighbours in rank that cannot be told apart there.
      interval: in words, where lower and upper come from.
    """

    metric: str
    points: pd.DataFrame
    runs: pd.DataFrame
    real: float | None
    ties: tuple[tuple[float, str, str], ...]
    interval: str

    @property
    def generators(self) -> list[str]:
        """Names, the floor last."""
        found = sorted(self.points["generator"].unique(), key=lambda name: (name in FLOORS, name))
        return found


def make_frontier(table: pd.DataFrame, metric: str) -> Frontier:
    """Averages one metric over seeds.

    Interval: from three seeds on, Student's t over the seeds; with two, the deviation is pooled over the
    generator's epsilons; with one seed, the run's own bootstrap interval. Two generators that are neighbours
    in rank at one epsilon cannot be told apart where the gap of their means is at most the root of the sum
    of their squared half widths.
    Edge cases: missing values are left out; a metric without any value -> an empty frontier.

    Args:
      table: as `tidy` makes it, the rows of all runs together.
    """
    from scipy.stats import t as student

    runs = table[(table["metric"] == metric) & np.isfinite(table["value"].astype(float))].copy()
    rows, kinds = [], set()
    for generator, of_generator in runs.groupby("generator", sort=True):
        groups = of_generator.groupby("epsilon", sort=True)
        freedom = int(sum(len(g) - 1 for _, g in groups))
        pooled = (
            math.sqrt(sum(((g["value"] - g["value"].mean()) ** 2).sum() for _, g in groups) / freedom)
            if freedom
            else math.nan
        )
        for epsilon, group in groups:
            count, mean = len(group), float(group["value"].mean())
            lower = upper = math.nan
            if count >= 2:
                deviation = group["value"].std(ddof=1) if count >= 3 else pooled
                degrees = count - 1 if count >= 3 else freedom
                half = student.ppf(0.5 + CONFIDENCE / 2, degrees) * deviation / math.sqrt(count)
                lower, upper = mean - half, mean + half
                kinds.add("over seeds (Student's t)")
            elif group["lower"].notna().all():
                lower, upper = float(group["lower"].iloc[0]), float(group["upper"].iloc[0])
                kinds.add("of the single run (bootstrap over holdout rows)")
            rows.append((generator, float(epsilon), mean, lower, upper, count))
    columns = ["generator", "epsilon", "mean", "lower", "upper", "num_seeds"]
    points = pd.DataFrame(rows, columns=columns)
    interval = f"{CONFIDENCE:.0%} intervals {', else '.join(sorted(kinds))}" if kinds else "no intervals"
    if "ladder" in runs and runs["ladder"].any():
        interval += "; ladder: one training, one noise multiplier for all its ε"
    return Frontier(
        metric=metric,
        points=points,
        runs=runs,
        real=_real_rows(table, metric),
        ties=_ties(points),
        interval=interval,
    )


def _real_rows(table: pd.DataFrame, metric: str) -> float | None:
    reference = names.real_rows_name(metric)
    values = table.loc[table["metric"] == reference, "value"].dropna()
    return float(values.mean()) if len(values) else names.real_rows_value(metric)


def _ties(points: pd.DataFrame) -> tuple[tuple[float, str, str], ...]:
    found = []
    for epsilon, group in points.groupby("epsilon", sort=True):
        ranked = group.sort_values("mean")
        half = ((ranked["upper"] - ranked["lower"]) / 2).to_numpy()
        means, generators = ranked["mean"].to_numpy(), ranked["generator"].tolist()
        for i in range(len(ranked) - 1):
            if means[i + 1] - means[i] <= math.hypot(half[i], half[i + 1]):  # nan: not known, no mark
                found.append((float(epsilon), generators[i], generators[i + 1]))
    return tuple(found)


def summary(frontier: Frontier) -> pd.DataFrame:
    """Returns the frontier as a table for people: one row per epsilon, one column per generator."""
    points = frontier.points
    half = (points["upper"] - points["lower"]) / 2
    cells = [
        f"{mean:.3f}" + (f" ± {width:.3f}" if math.isfinite(width) else "")
        for mean, width in zip(points["mean"], half)
    ]
    wide = points.assign(cell=cells).pivot(index="epsilon", columns="generator", values="cell")
    wide = wide[[name for name in frontier.generators if name in wide]].fillna("")
    wide.insert(0, "ε", [epsilon_label(e) for e in wide.index])
    if frontier.real is not None:
        wide["real rows"] = f"{frontier.real:.3f}"
    return wide.reset_index(drop=True).rename_axis(columns=None)


def default_metrics(table: pd.DataFrame) -> list[str]:
    """Returns the metrics worth a frontier, the main one first; references and worst cases are left out."""
    present = list(dict.fromkeys(table.loc[table["value"].notna(), "metric"]))
    first = ["tstr_last_step_r2", "tstr_last_step_auc", "acf_gap", "cross_correlation_gap"]  # of sequences
    first += ["tstr_auc_boosting", "tstr_r2_boosting", "tv_2way", "tv_1way", "tv_3way_target"]
    shown = [name for name in first if name in present]
    skipped = ("trtr_", "valid_", "real_", "acf_gap_lag_")
    endings = ("_holdout", "_baseline", "_max")
    rest = [n for n in present if not n.startswith(skipped) and not n.endswith(endings)]
    return shown + [name for name in rest if name not in shown]


def epsilon_places(epsilons) -> Mapping[float, float]:
    """Returns where each epsilon stands on a log axis: runs without privacy to the right of all others."""
    finite = sorted({float(e) for e in epsilons if math.isfinite(e)})
    places = {e: math.log10(e) for e in finite}
    if any(math.isinf(e) for e in epsilons):
        span = places[finite[-1]] - places[finite[0]] if len(finite) > 1 else 0.6
        places[math.inf] = (places[finite[-1]] if finite else 0.0) + max(0.25, 0.2 * span)
    return places


def epsilon_label(epsilon: float) -> str:
    """Returns an epsilon as an axis shows it."""
    return "∞ (no DP)" if math.isinf(epsilon) else up(epsilon, 3)
