"""What needs real rows alone: computed once, kept by digest, shared by every run of a sweep."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.evaluation import fidelity, utility
from dpsynth.evaluation.binning import make_binning
from dpsynth.evaluation.types import EvaluationConfig, Metric


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Train on real, test on real, and the distance of holdout from train rows (the sampling floor).

    Args:
      digest: of tables, schema, configuration and seed. Internal, like everything here.
    """

    digest: str
    metrics: tuple[Metric, ...]

    def dump(self, path: Path) -> None:
        """Writes JSON; a reader sees the old file or the whole new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        content = {"digest": self.digest, "metrics": [m.to_dict() for m in self.metrics]}
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Inverse of `dump`."""
        content = json.loads(path.read_text())
        return cls(digest=content["digest"], metrics=tuple(Metric.from_dict(m) for m in content["metrics"]))


def make_reference(
    train: pd.DataFrame, holdout: pd.DataFrame, schema: Schema, config: EvaluationConfig, seed: int
) -> Reference:
    """Computes the `trtr_…` metrics and the `tv_…_holdout` ones."""
    metrics = utility.utility(train, holdout, schema, config, seed, prefix="trtr", fitted_on="train")
    if len(holdout):
        binning = make_binning(schema, train, num_bins=config.num_bins)
        metrics += fidelity.fidelity(
            holdout, train, binning, schema, config, seed, against="holdout against train", suffix="_holdout"
        )
    return Reference(digest=_digest(train, holdout, schema, config, seed), metrics=tuple(metrics))


def cached_reference(
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    schema: Schema,
    config: EvaluationConfig,
    seed: int,
    cache: Path | str | None,
) -> Reference:
    """Reads the reference from `cache` where its digest is there, else computes and keeps it."""
    if cache is None:
        return make_reference(train, holdout, schema, config, seed)
    path = Path(cache) / f"reference-{_digest(train, holdout, schema, config, seed)[:32]}.json"
    if path.exists():
        return Reference.load(path)
    reference = make_reference(train, holdout, schema, config, seed)
    reference.dump(path)
    return reference


def _digest(
    train: pd.DataFrame, holdout: pd.DataFrame, schema: Schema, config: EvaluationConfig, seed: int
) -> str:
    total = hashlib.sha256()
    for table in (train, holdout):
        total.update(json.dumps([list(map(str, table.columns)), len(table)]).encode())
        total.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    total.update(json.dumps([schema.digest, asdict(config), seed], default=str).encode())
    return total.hexdigest()
