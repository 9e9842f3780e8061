"""The one function that runs an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dpsynth.data.units.units import units_of
from dpsynth.evaluation.types import Evaluation, EvaluationConfig, Metric

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from dpsynth.data.schema import Schema
    from dpsynth.evaluation.reference import Reference


@dataclass
class _Stages:
    metrics: list[Metric] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, compute) -> None:
        import time

        start = time.perf_counter()
        self.metrics.extend(compute())
        self.seconds[name] = time.perf_counter() - start


def evaluate(
    synthetic: pd.DataFrame,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    schema: Schema,
    config: EvaluationConfig | None = None,
    seed: int = 0,
    *,
    reference: Reference | None = None,
    cache: Path | str | None = None,
) -> Evaluation:
    """Compares synthetic with real rows.

    Edge cases: no declared target, or no holdout rows with a known one -> no utility metrics; a synthetic
    target of one class -> a constant prediction, and `computed_on` says so; tables too small for a fit ->
    nan and the reason in `computed_on`.

    Args:
      synthetic: released rows; columns of `schema.modelled` are compared.
      train: private, revealed for internal figures. Rows that the generator was fitted on.
      holdout: private, revealed for internal figures. Rows that the generator never saw.
      seed: public; drives subsamples, fits and bootstraps.
      reference: what needs the real rows alone, from `make_reference`; computed when None.
      cache: a folder where references are kept by digest across the runs of a sweep (internal).
    """
    from threadpoolctl import threadpool_limits

    from dpsynth.evaluation import fidelity, propensity, utility
    from dpsynth.evaluation import reference as references
    from dpsynth.evaluation.binning import make_binning

    config = config or EvaluationConfig()
    stages = _Stages()
    with threadpool_limits(config.num_threads):

        def real_rows_alone():
            nonlocal reference
            if reference is None:
                reference = references.cached_reference(train, holdout, schema, config, seed, cache)
            return reference.metrics

        binning = make_binning(schema, train, num_bins=config.num_bins)
        stages.run("fidelity", lambda: fidelity.fidelity(synthetic, train, binning, schema, config, seed))
        stages.run("utility", lambda: utility.utility(synthetic, holdout, schema, config, seed))
        if config.propensity:
            stages.run("propensity", lambda: propensity.propensity(synthetic, holdout, schema, config, seed))
        if config.extended:
            from dpsynth.evaluation import extended

            stages.run(
                "extended",
                lambda: extended.extended(synthetic, train, holdout, binning, schema, config, seed),
            )
        if units_of(schema).ordered:
            from dpsynth.evaluation import sequences

            stages.run(
                "sequences",
                lambda: sequences.evaluate_sequences(synthetic, train, holdout, schema, config, seed),
            )
        stages.run("reference", real_rows_alone)
    return Evaluation(stages.metrics, stages.seconds)
