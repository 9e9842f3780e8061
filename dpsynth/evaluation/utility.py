"""Train on synthetic (or real) rows, test on real rows that nobody trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.data.schema.axis import is_numeric
from dpsynth.evaluation import scores
from dpsynth.evaluation.binning import as_numbers
from dpsynth.evaluation.features import (
    category_codes,
    code_like,
    linear_design,
    listed_values,
    quietly,
    subsample,
    tree_features,
)
from dpsynth.evaluation.types import EvaluationConfig, Metric

_FAMILIES = {
    "boosting": ("boosting", "boosted trees"),
    "logistic": ("logistic", "logistic regression"),
    "ridge": ("ridge", "ridge regression"),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is predicted, for one pair of tables; rows with an unknown target are left out.

    Args:
      fit_target, test_target: class codes, or numbers.
      classes: labels by code; None for a numeric target.
      positive: code of the rarer of two classes among the test rows, else None.
      features: inputs as trees read them; `codes` says which are categories.
    """

    fit_target: np.ndarray
    test_target: np.ndarray
    classes: tuple | None
    positive: int | None
    features: object
    codes: np.ndarray


def make_task(
    fit: pd.DataFrame, test: pd.DataFrame, schema: Schema, config: EvaluationConfig, seed: int
) -> Task:
    """Splits both tables into inputs and target."""
    target = schema.column(schema.target)
    inputs = [c for c in schema.modelled if c.name != target.name and c.name in test.columns]
    classes = None if is_numeric(target) else listed_values(target, (fit, test))
    sides = []
    for table in (fit, test):
        known = table[table[target.name].notna()]
        if classes is None:
            outcome = as_numbers(known[target.name], target)
        else:
            outcome = category_codes(known[target.name], target, classes)
        usable = np.isfinite(outcome)
        sides.append((known[usable], outcome[usable]))
    fit_rows, fit_target = sides[0]
    if len(fit_rows) > config.max_rows:
        position = pd.DataFrame({"row": np.arange(len(fit_rows))})
        kept = subsample(position, config.max_rows, seed)["row"].to_numpy()
        fit_rows, fit_target = fit_rows.iloc[kept], fit_target[kept]
    test_target = sides[1][1]
    if classes is not None:
        fit_target, test_target = fit_target.astype(np.int64), test_target.astype(np.int64)
    positive = None
    if classes is not None and len(classes) == 2:
        positive = 0 if 0 < (test_target == 0).sum() < (test_target == 1).sum() else 1
    return Task(
        fit_target=fit_target,
        test_target=test_target,
        classes=classes,
        positive=positive,
        features=tree_features(inputs, fit_rows, sides[1][0]),
        codes=code_like(inputs),
    )


def utility(
    fit: pd.DataFrame,
    holdout: pd.DataFrame,
    schema: Schema,
    config: EvaluationConfig,
    seed: int,
    *,
    prefix: str = "tstr",
    fitted_on: str = "synthetic",
) -> list[Metric]:
    """Fits each family on `fit` and scores it on `holdout`, with bootstrap intervals over holdout rows.

    Classes: AUC (two classes, else the mean of one against the rest over the classes that the holdout
    has), average precision and F1 of the rarer class (else the mean), accuracy, recall of the rarest class.
    Numbers: R².
    Edge cases: no target -> no metrics. A target of one class in `fit` -> a constant prediction, AUC 0.5.
    No usable rows on either side -> nan, said in `computed_on`.

    Args:
      prefix: `tstr` (train on synthetic, test on real) or `trtr` (train on real, test on real).
    """
    if schema.target is None or schema.target not in holdout.columns:
        return []
    task = make_task(fit, holdout, schema, config, seed)
    metrics: list[Metric] = []
    weights = scores.bootstrap_weights(len(task.test_target), config.num_bootstraps, seed)
    for model in config.models:
        family = "ridge" if model == "logistic" and task.classes is None else model
        key, words = _FAMILIES[family]
        where = f"{words} fitted on {fitted_on} rows, tested on holdout rows"
        if not len(task.fit_target) or not len(task.test_target):
            side = fitted_on if not len(task.fit_target) else "holdout"
            names = ["r2"] if task.classes is None else ["auc", "ap", "accuracy", "f1", "rare_recall"]
            note = f"{where}: not computed, no {side} rows with a known target"
            metrics += [Metric(name=f"{prefix}_{n}_{key}", value=np.nan, computed_on=note) for n in names]
            continue
        if task.classes is None:
            found = _regression_scores(task, predict_number(task, family, seed))
        else:
            if len(np.unique(task.fit_target)) < 2:
                where += f" (the {fitted_on} target has one class: constant prediction)"
            if task.positive is not None:
                where += f"; positive class {schema.target}={task.classes[task.positive]}"
            found = _class_scores(task, predict_probabilities(task, family, seed))
        if config.num_bootstraps:
            where += f"; {config.confidence:.0%} bootstrap interval over holdout rows"
        for name, score in found.items():
            values = scores.in_blocks(score, weights)
            lower, upper = scores.interval(values, config.confidence)
            metrics.append(
                Metric(
                    name=f"{prefix}_{name}_{key}",
                    value=float(values[0]),
                    lower=lower,
                    upper=upper,
                    computed_on=where,
                )
            )
    return metrics


def predict_probabilities(task: Task, family: str, seed: int) -> np.ndarray:
    """Returns float [row, class] for the test rows; a class that the fit never saw gets 0."""
    seen, codes = np.unique(task.fit_target, return_inverse=True)
    probabilities = np.zeros((len(task.test_target), len(task.classes)))
    if len(seen) == 1 or not len(task.features.names):
        probabilities[:, seen] = np.bincount(codes) / len(codes)
        return probabilities
    if family == "boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            categorical_features=task.features.categorical, early_stopping=False, random_state=seed
        )
        fit, test = _informative(task)
    else:
        from sklearn.linear_model import LogisticRegression

        fit, test = linear_design(task.features, task.codes)
        model = LogisticRegression(solver="newton-cholesky", max_iter=100)
    if not fit.shape[1]:
        probabilities[:, seen] = np.bincount(codes) / len(codes)
        return probabilities
    with quietly():
        probabilities[:, seen] = model.fit(fit, codes).predict_proba(test)
    return probabilities


def predict_number(task: Task, family: str, seed: int) -> np.ndarray:
    """Returns float [row] for the test rows."""
    if family == "boosting":
        from sklearn.ensemble import HistGradientBoostingRegressor

        model = HistGradientBoostingRegressor(
            categorical_features=task.features.categorical, early_stopping=False, random_state=seed
        )
        fit, test = _informative(task)
    else:
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1.0)
        fit, test = linear_design(task.features, task.codes)
    if not fit.shape[1] or len(fit) < 2:
        return np.full(len(task.test_target), task.fit_target.mean())
    with quietly():
        return model.fit(fit, task.fit_target).predict(test)


def _informative(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Trees cannot bin a feature that is missing in every row: such a one becomes a constant."""
    fit, test = task.features.fit.copy(), task.features.test.copy()
    empty = np.isnan(fit).all(axis=0)
    fit[:, empty], test[:, empty] = 0.0, 0.0
    return fit, test


def _class_scores(task: Task, probabilities: np.ndarray) -> dict[str, Callable]:
    truth = task.test_target
    guess = probabilities.argmax(axis=1)
    present = np.unique(truth)

    def mean_over(labels, score):
        def averaged(weights):
            found = [score(truth == label, probabilities[:, label], weights) for label in labels]
            return np.mean(found, axis=0)

        return averaged

    rarest = truth == present[np.argmin([(truth == label).sum() for label in present])]
    focus = present if task.positive is None else np.array([task.positive])
    return {
        "auc": mean_over(focus, scores.weighted_auc),
        "ap": mean_over(focus, scores.weighted_average_precision),
        "accuracy": lambda w: scores.weighted_accuracy(truth, guess, w),
        "f1": lambda w: scores.weighted_f1(truth, guess, focus, w),
        "rare_recall": lambda w: scores.weighted_accuracy(truth[rarest], guess[rarest], w[:, rarest]),
    }


def _regression_scores(task: Task, guess: np.ndarray) -> dict[str, Callable]:
    return {"r2": lambda w: scores.weighted_r2(task.test_target, guess, w)}
