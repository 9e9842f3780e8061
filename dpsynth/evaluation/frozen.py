"""A score of real rows that is frozen before it sees one: for choices that are paid for by the row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dpsynth.data.schema import Column, Schema
from dpsynth.data.schema.axis import is_numeric
from dpsynth.evaluation.binning import as_numbers
from dpsynth.evaluation.features import category_codes, listed_values, quietly
from dpsynth.evaluation.types import EvaluationConfig
from dpsynth.evaluation.utility import Task, make_task

_LARGEST = np.finfo(np.float64).max


@dataclass(frozen=True, kw_only=True)
class FrozenScore:
    """How well a model that was fitted on synthetic rows predicts the target of a real one, in [0, 1].

    Classes: 1 - (1 - p)**2 with p the probability of the true class. Numbers: 1 - (error / range)**2, at
    least 0, with the range of the synthetic targets.

    Formal guarantee: a row's score is a function of that row, the synthetic rows and the schema; other real
    rows, their number, order and values do not enter. It is finite for every row.
    Edge cases: a row with no target, or with a class that is neither declared nor synthetic -> 0. A value of
    an input that is neither counts as missing. No synthetic row with a target -> 0 for all rows.

    Args:
      inputs, target: columns; `values` lists categories, by the name of their column.
      predict: takes inputs [row, feature]; returns probabilities [row, class], or numbers [row]. None where
        there was nothing to fit on.
      width: the range of a numeric target; None for classes.
    """

    inputs: tuple[Column, ...]
    target: Column
    values: dict[str, tuple]
    predict: Callable[[np.ndarray], np.ndarray] | None
    width: float | None

    @classmethod
    def fit(cls, synthetic: pd.DataFrame, schema: Schema, config: EvaluationConfig, seed: int) -> FrozenScore:
        """Fits boosted trees on synthetic rows, with the categories that are declared or synthetic."""
        task = make_task(synthetic, synthetic.iloc[:0], schema, config, seed)
        target = schema.column(schema.target)
        inputs = tuple(schema.column(name) for name in task.features.names)
        values = {c.name: listed_values(c, (synthetic,)) for c in (*inputs, target) if not is_numeric(c)}
        fit = task.features.fit.copy()
        fit[:, np.isnan(fit).all(axis=0)] = 0.0  # trees cannot bin a feature that is always missing
        usable = len(task.fit_target) > 0
        width = max(float(np.ptp(task.fit_target)), 1e-12) if usable and task.classes is None else None
        predict = _fitted(fit, task, seed) if usable else None
        return cls(inputs=inputs, target=target, values=values, predict=predict, width=width)

    def __call__(self, rows: pd.DataFrame) -> np.ndarray:
        """Scores rows, float64 [row] in [0, 1]. Private, as the rows are."""
        truth, scores = self._coded(rows, self.target), np.zeros(len(rows))
        known = np.isfinite(truth)
        if self.predict is None or not known.any():
            return scores
        features = [self._coded(rows[known], column) for column in self.inputs]
        packed = np.stack(features, axis=1) if features else np.zeros((int(known.sum()), 0))
        guess = self.predict(np.clip(packed, -_LARGEST, _LARGEST))
        if self.width is None:
            chance = guess[np.arange(len(guess)), truth[known].astype(np.int64)]
            scores[known] = 1.0 - (1.0 - chance) ** 2
        else:
            error = np.clip(truth[known], -_LARGEST / 4, _LARGEST / 4) - guess
            scores[known] = 1.0 - np.minimum(np.abs(error) / self.width, 1.0) ** 2
        return scores

    def _coded(self, rows: pd.DataFrame, column: Column) -> np.ndarray:
        series = rows[column.name]
        if not is_numeric(column):
            return category_codes(series, column, self.values[column.name])
        if pd.api.types.is_numeric_dtype(series) or pd.api.types.is_datetime64_any_dtype(series):
            return as_numbers(series, column)
        codes, found = pd.factorize(
            series
        )  # parsed together, the first text would decide how others are read
        alone = [as_numbers(pd.Series([value], dtype=object), column)[0] for value in found]
        return np.array([*alone, np.nan], dtype=np.float64)[codes]


def _fitted(fit: np.ndarray, task: Task, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the predictions of a model; the most frequent facts alone where there is nothing to learn."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    settings = {"categorical_features": task.features.categorical, "early_stopping": False}
    settings["random_state"] = seed
    if task.classes is None:
        if not fit.shape[1] or len(fit) < 2:
            return lambda rows: np.full(len(rows), task.fit_target.mean())
        with quietly():
            return HistGradientBoostingRegressor(**settings).fit(fit, task.fit_target).predict
    seen, codes = np.unique(task.fit_target, return_inverse=True)
    shares = np.zeros(len(task.classes))
    shares[seen] = np.bincount(codes) / len(codes)
    if len(seen) == 1 or not fit.shape[1]:
        return lambda rows: np.tile(shares, (len(rows), 1))
    with quietly():
        model = HistGradientBoostingClassifier(**settings).fit(fit, codes)

    def probabilities(rows: np.ndarray) -> np.ndarray:
        found = np.zeros((len(rows), len(shares)))
        found[:, seen] = model.predict_proba(rows)
        return found

    return probabilities
