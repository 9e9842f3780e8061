"""One-off measurements of sequences, in which every entity weighs 1, however many rows it has.

A row of an entity with k rows weighs 1/k. Weights are integers in units of 1/`RESOLUTION` entities, rounded
down, so that noise can be exact and an entity's total never exceeds 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Many
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dpsynth.data.grid import Domain
from dpsynth.data.sequence_questions import RESOLUTION, SequenceQuestion, answer, shape
from dpsynth.data.sequences import SequenceEncoder
from dpsynth.data.statistics import Marginal, Statistics
from dpsynth.data.table import PrivateTable, unit_index
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.answers import Answers, Shop
from dpsynth.privacy.ledger import Ledger
from dpsynth.privacy.noise import Entropy
from dpsynth.privacy.plan import Plan


def entity_histograms(shop: Shop, domain: Domain) -> dict[str, Marginal]:
    """Buys the histogram of every modelled column over its fine cells, in one pass; counts are entities.

    Formal guarantee: an entity adds at most 1 to each column's histogram (L1, hence L2), so all of them
    together change by at most sqrt(number of columns) when it joins or leaves.
    """
    sizes = [cells.fine_size for cells in domain.cells]

    def count(frame: pd.DataFrame) -> np.ndarray:
        units = unit_index(frame, shop.schema)
        share = RESOLUTION // np.bincount(units)[units] if len(units) else units
        codes = domain.fine.codes(frame)
        # float64 sums of integers are exact below 2**53, which is 2**33 entities
        parts = [np.bincount(codes[:, i], weights=share, minlength=size) for i, size in enumerate(sizes)]
        return np.concatenate(parts).astype(np.int64)

    noisy = shop.noisy("columns/histograms", count, scale=RESOLUTION)
    stddev = shop.plan.event("columns/histograms").noise_stddev
    parts = np.split(noisy, np.cumsum(sizes)[:-1])
    return {
        name: Marginal(columns=(name,), counts=part, noise_stddev=stddev)
        for name, part in zip(domain.names, parts)
    }


def sequence_histograms(
    table: PrivateTable,
    statistics: Statistics,
    encoder: SequenceEncoder,
    questions: Many[SequenceQuestion],
    plan: Plan,
    ledger: Ledger,
    entropy: Entropy,
    *,
    answers: str | Path | None = None,
) -> Statistics:
    """Buys histograms of lengths, steps, lags and pairs over the encoder's codes, in one pass.

    Formal guarantee: an entity adds at most 1 to each (L1, hence L2; see `SequenceQuestion`), all of them
    together change by at most sqrt(number of questions); the plan has paid for `num_marginals` of them.
    """
    if len(questions) > plan.request.num_marginals:
        raise GuaranteeVoid(
            f"Expected at most {plan.request.num_marginals} planned histograms; got {len(questions)}."
        )
    if entropy.voids:
        ledger.void("measurements drew fixed noise, which is for tests")
    layout = encoder.layout
    shapes = [shape(question, layout) for question in questions]

    def count(frame: pd.DataFrame) -> np.ndarray:
        units = encoder.encode(frame)
        return np.concatenate([answer(question, layout, units).ravel() for question in questions])

    shop = Shop(table, plan, ledger, entropy, Answers(answers))
    noisy = shop.noisy("marginals", count, scale=RESOLUTION)
    parts = np.split(noisy, np.cumsum([math.prod(s) for s in shapes])[:-1])
    stddev = plan.event("marginals").noise_stddev
    bought = tuple(
        Marginal(columns=question.columns, counts=part.reshape(size), noise_stddev=stddev)
        for question, part, size in zip(questions, parts, shapes)
    )
    return replace(statistics, marginals=statistics.marginals + bought)
