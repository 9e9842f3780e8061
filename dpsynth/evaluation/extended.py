"""The further figures of an evaluation, in one list."""

from __future__ import annotations

import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.evaluation.binning import Binning
from dpsynth.evaluation.dependence import dependence
from dpsynth.evaluation.divergence import coverage, divergences
from dpsynth.evaluation.neighbours import distances_between_rows
from dpsynth.evaluation.types import EvaluationConfig, Metric
from dpsynth.evaluation.validity import validity


def extended(
    synthetic: pd.DataFrame,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    binning: Binning,
    schema: Schema,
    config: EvaluationConfig,
    seed: int,
) -> list[Metric]:
    """Divergences, coverage, dependence, distances between rows, and validity."""
    codes = [binning.codes(table) for table in (synthetic, train)]
    return [
        *divergences(*codes, binning, config, seed),
        *coverage(*codes, binning),
        *dependence(synthetic, train, binning, schema, config, seed),
        *distances_between_rows(synthetic, train, holdout, schema, config, seed),
        *validity(synthetic, schema),
    ]
