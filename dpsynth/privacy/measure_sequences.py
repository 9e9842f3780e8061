"""One-off measurements of sequences, in which every entity weighs 1, however many rows it has.

A row of an entity with k rows weighs 1/k. Weights are integers in units of 1/`RESOLUTION` entities, rounded
down, so that noise can be exact and an entity's total never exceeds 1.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dpsynth.data.grid import Domain
from dpsynth.data.sequence_questions import RESOLUTION
from dpsynth.data.statistics import Marginal
from dpsynth.data.table import unit_index
from dpsynth.privacy.answers import Shop


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
        name: Marginal(columns=(name,), counts=part, noise_stddev=stddev, event="columns/histograms")
        for name, part in zip(domain.names, parts)
    }
