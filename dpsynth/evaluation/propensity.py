"""Can a classifier tell synthetic rows from real ones that the generator never saw?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.evaluation import scores
from dpsynth.evaluation.features import (
    Features,
    code_like,
    linear_design,
    quietly,
    subsample,
    tree_features,
)
from dpsynth.evaluation.types import EvaluationConfig, Metric

_MOST_ROWS = 10_000
_FEWEST_ROWS = 20


def propensity(
    synthetic: pd.DataFrame, holdout: pd.DataFrame, schema: Schema, config: EvaluationConfig, seed: int
) -> list[Metric]:
    """AUC of boosted trees, and the mean squared propensity error of a logistic model over its null value.

    Both compare equally many synthetic and holdout rows. AUC: 0.5 cannot be told apart, 1 always can; it
    comes from rows left out of the fit (two folds). pMSE ratio: about 1 for a fresh sample of the real
    distribution, in the main effects alone.
    Edge cases: fewer than 20 rows on either side -> nan, said in `computed_on`.
    """
    count = min(len(synthetic), len(holdout), _MOST_ROWS, config.max_rows)
    words = "equally many synthetic and holdout rows"
    if count < _FEWEST_ROWS:
        note = f"not computed: fewer than {_FEWEST_ROWS} synthetic or holdout rows"
        return [Metric(name=n, value=np.nan, computed_on=note) for n in ("propensity_auc", "pmse_ratio")]
    columns = [c for c in schema.modelled if c.name in holdout.columns]
    names = [c.name for c in columns]
    halves = [subsample(table, count, seed)[names].astype(object) for table in (synthetic, holdout)]
    pooled = pd.concat(halves, ignore_index=True)
    label = np.repeat([True, False], count)
    features = tree_features(columns, pooled, pooled.iloc[:1])
    score = _left_out_scores(features, label, seed)
    weights = scores.bootstrap_weights(2 * count, config.num_bootstraps, seed)
    values = scores.in_blocks(lambda w: scores.weighted_auc(label, score, w), weights)
    lower, upper = scores.interval(values, config.confidence)
    ratio = pmse_ratio(features, code_like(columns), label)
    return [
        Metric(
            name="propensity_auc",
            value=float(values[0]),
            lower=lower,
            upper=upper,
            computed_on=f"boosted trees, two folds, {words}",
        ),
        Metric(name="pmse_ratio", value=ratio, computed_on=f"logistic regression on main effects, {words}"),
    ]


def _left_out_scores(features: Features, label: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    inputs = features.fit.copy()
    inputs[:, np.isnan(inputs).all(axis=0)] = 0.0
    score = np.zeros(len(label))
    if not inputs.shape[1]:
        return score
    for fit, test in StratifiedKFold(2, shuffle=True, random_state=seed).split(inputs, label):
        fold = inputs[fit].copy()
        fold[:, np.isnan(fold).all(axis=0)] = 0.0
        model = HistGradientBoostingClassifier(
            categorical_features=features.categorical, early_stopping=False, random_state=seed, max_iter=50
        )
        with quietly():
            log_odds = model.fit(fold, label[fit]).decision_function(inputs[test])
        # the folds' models differ in scale; ranks within a fold make them comparable
        score[test] = np.searchsorted(np.sort(log_odds), log_odds, side="left") / len(test)
    return score


def pmse_ratio(features: Features, codes: np.ndarray, label: np.ndarray) -> float:
    """Mean squared distance of fitted propensities from the share of synthetic rows, over its null mean.

    Null: both halves are independent samples of one distribution. With k parameters beside the intercept,
    N rows and a share c of synthetic ones, N·pMSE/(c(1−c)) is then chi-squared with k degrees of freedom, so
    the null mean is k·c(1−c)/N. (Snoke et al. have another factor 1−c: there synthetic rows are drawn from
    a model of the very rows they are compared with, and only one side's sampling varies.)
    Edge cases: no usable column -> 1 (nothing can be told apart).

    Source: Woo, Reiter, Oganian & Karr (2009); Snoke, Raab, Nowok, Dibben & Slavkovic (2018), section 3.
    """
    from sklearn.linear_model import LogisticRegression

    design, _ = linear_design(features, codes, min_count=10)
    if not design.shape[1]:
        return 1.0
    centred = design - design.mean(axis=0)
    rank = int(np.linalg.matrix_rank(centred.T @ centred, hermitian=True))
    if rank == 0:
        return 1.0
    model = LogisticRegression(solver="newton-cholesky", C=1e4, max_iter=100)
    with quietly():
        fitted = model.fit(design, label).predict_proba(design)[:, 1]
    share = label.mean()
    return float(((fitted - share) ** 2).mean() / (rank * share * (1 - share) / len(label)))
