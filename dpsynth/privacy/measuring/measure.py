"""One-off measurements: the count, histograms, and what the schema leaves open.

Each function charges one planned event, reads the table against the receipt and returns a noisy answer.
Noise is exact (`noise.exact_gaussian`); what is not in the answer is forgotten. Without privacy the same
code runs with noise 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dpsynth.data.bought.grid import Domain, coarsen, fine_domain
from dpsynth.data.bought.questions import max_groups
from dpsynth.data.bought.statistics import STRATA, Marginal, Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.data.units.units import Units, units_of
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.ledger.lines import canonical
from dpsynth.privacy.measuring.answers import Answers, Shop
from dpsynth.privacy.measuring.undeclared import undeclared_bounds, undeclared_values
from dpsynth.privacy.noise.entropy import Entropy
from dpsynth.privacy.plan.plan import Plan

_HISTOGRAMS = "columns/histograms"


def measure(
    table: PrivateTable,
    plan: Plan,
    ledger: Ledger,
    entropy: Entropy,
    *,
    answers: str | Path | None = None,
    max_cells: int = 32,
    fine_cells: int = 512,
) -> Statistics:
    """Buys everything that models and encoders may know, as planned.

    Formal guarantee: each event is one Gaussian mechanism on a joint vector whose L2 sensitivity the plan
    states (for undeclared values, followed by a threshold that pays its own delta); questions depend on the
    schema and on earlier answers alone.
    Edge cases: an empty table gives noise; a resumed run takes kept answers and reads nothing again.

    Args:
      answers: file for the bought answers, beside the ledger; None keeps them in memory.
      max_cells: coarse cells per column, for models.
      fine_cells: cells per number or date in the bought histogram.
    Raises:
      BudgetExceeded: the ledger refuses; nothing was read.
    """
    schema = table.schema
    if canonical(plan.to_dict()) != canonical(ledger.plan):
        raise GuaranteeVoid("The ledger was opened for another plan.")
    if entropy.voids:
        ledger.void("measurements drew fixed noise, which is for tests")
    kept = Answers(answers)
    shop = Shop(table, plan, ledger, entropy, kept)
    num_units = noisy_count(shop) if "count" in plan else float(plan.num_units)
    bounds = undeclared_bounds(shop) if "columns/range" in plan else {}
    values = undeclared_values(shop) if "columns/values" in plan else {}
    domain = fine_domain(schema, bounds, values, max_cells=fine_cells)
    crossed: dict[str, Marginal] = {}
    fine: dict[str, Marginal] = {}
    if "columns/histograms" not in plan:
        pass
    elif plan.request.crossed and len(domain.cells) > 1:
        crossed = crossed_histograms(shop, domain, plan.request.crossed)
        fine = sums(domain, crossed, plan.request.crossed)
    else:
        fine = histograms(shop, domain)
    bought = Statistics(num_units=num_units, num_rows=num_units, domain=domain, fine=fine, crossed=crossed)
    return derived(bought, schema, plan, max_cells)


def derived(bought: Statistics, schema: Schema, plan: Plan, max_cells: int) -> Statistics:
    """Adds what follows from bought answers: the number of rows, groups of cells. Free, and repeatable."""
    if not bought.fine:
        return bought
    ordered, fine = units_of(schema).ordered, bought.fine
    num_rows = bought.num_units if ordered else _total_rows(fine)  # sequences weigh 1 each
    coarse = coarsen(bought.domain, fine, max_cells, num_rows=num_rows, crossed=bought.crossed)
    bought = replace(bought, num_rows=num_rows, domain=coarse)
    joints = [event for event in plan.events if event.stage == "marginals" and not event.choices]
    if not joints:
        return bought
    target = None if ordered else schema.target
    return replace(bought, max_groups=_num_groups(bought, joints[0].noise_stddev, target))


def _num_groups(statistics: Statistics, noise_stddev: float, target: str | None) -> int:
    """Groups of cells per column in joint histograms, by their planned noise. Free."""
    num_strata = 1
    if target in statistics.domain.names:
        num_strata = int(statistics.axis(STRATA + target)[1].max()) + 1
    return max_groups(statistics.num_rows, noise_stddev, num_strata)


def noisy_count(shop: Shop) -> float:
    """Buys the number of units; at least 1.

    Formal guarantee: one unit changes the count by 1.
    """

    def count(frame: pd.DataFrame) -> np.ndarray:
        return np.array([shop.units.num(frame)])

    return max(1.0, float(shop.noisy("count", count)[0]))


def histograms(shop: Shop, domain: Domain) -> dict[str, Marginal]:
    """Buys the histogram of every modelled column over its fine cells, in one pass.

    Formal guarantee: a unit changes each column's histogram by at most its mass (L1, hence L2), all of them
    together by sqrt(number of columns) times that.
    """
    sizes = [cells.fine_size for cells in domain.cells]

    def count(frame: pd.DataFrame) -> np.ndarray:
        codes = domain.fine.codes(frame)
        return _weighted(shop.units, frame, [(codes[:, i], size) for i, size in enumerate(sizes)])

    noisy = shop.noisy("columns/histograms", count, scale=shop.units.resolution)
    stddev = shop.plan.event("columns/histograms").noise_stddev
    parts = np.split(noisy, np.cumsum(sizes)[:-1])
    return {
        name: Marginal(columns=(name,), counts=part, noise_stddev=stddev, event=_HISTOGRAMS)
        for name, part in zip(domain.names, parts)
    }


def crossed_histograms(shop: Shop, domain: Domain, target: str) -> dict[str, Marginal]:
    """Buys the histogram of every other column's fine cells by the target's cells, in one pass.

    Formal guarantee: a unit changes each by at most its mass (L1, hence L2), all of them together by
    sqrt(number of columns - 1) times that.
    """
    fine, last = domain.fine, domain.names.index(target)
    others = [i for i in range(len(domain.cells)) if i != last]
    shapes = [(fine.sizes[i], fine.sizes[last]) for i in others]

    def count(frame: pd.DataFrame) -> np.ndarray:
        codes = fine.codes(frame).astype(np.int64)
        flat = [codes[:, i] * shape[1] + codes[:, last] for i, shape in zip(others, shapes)]
        return _weighted(shop.units, frame, [(f, math.prod(s)) for f, s in zip(flat, shapes)])

    noisy = shop.noisy("columns/histograms", count, scale=shop.units.resolution)
    stddev = shop.plan.event("columns/histograms").noise_stddev
    parts = np.split(noisy, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    return {
        domain.names[i]: Marginal(
            columns=(domain.names[i], target),
            counts=part.reshape(shape),
            noise_stddev=stddev,
            event=_HISTOGRAMS,
        )
        for i, part, shape in zip(others, parts, shapes)
    }


def _weighted(units: Units, frame: pd.DataFrame, columns: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """Histograms of codes, each with its number of cells, behind each other; int64 in 1/`resolution`.

    Float64 sums of integers are exact below 2**53, which is 2**33 sequences.
    """
    weights = units.weights(units.owners(frame))
    parts = [np.bincount(codes, weights=weights, minlength=size) for codes, size in columns]
    return np.concatenate(parts).astype(np.int64)


def sums(domain: Domain, crossed: Mapping[str, Marginal], target: str) -> dict[str, Marginal]:
    """The 1-way histograms that crossed ones imply. Free. The target's is averaged over all, by precision."""
    fine = {}
    for name in domain.names:
        if name != target:
            stddev = crossed[name].noise_stddev * math.sqrt(domain[target].fine_size)
            counts = crossed[name].counts.sum(1)
            fine[name] = Marginal(columns=(name,), counts=counts, noise_stddev=stddev, event=_HISTOGRAMS)
            continue
        precisions = np.array([1.0 / len(marginal.counts) for marginal in crossed.values()])
        totals = np.stack([marginal.counts.sum(0) for marginal in crossed.values()])
        stddev = next(iter(crossed.values())).noise_stddev / math.sqrt(precisions.sum())
        counts = precisions @ totals / precisions.sum()
        fine[name] = Marginal(columns=(name,), counts=counts, noise_stddev=stddev, event=_HISTOGRAMS)
    return fine


def _total_rows(fine: Mapping[str, Marginal]) -> float:
    """The number of rows, from the bought histograms' totals weighted by their precision. Free."""
    variances = np.array([len(m.counts) * max(m.noise_stddev, 1e-9) ** 2 for m in fine.values()])
    totals = np.array([marginal.counts.sum() for marginal in fine.values()])
    return max(1.0, round(float(np.average(totals, weights=1.0 / variances)), 6))  # 400 rows are not 399.99…
