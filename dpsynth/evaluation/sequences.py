"""Synthetic against real sequences: dependence along time, across features and on attributes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from dpsynth.data.schema import Schema
from dpsynth.data.schema.axis import is_numeric
from dpsynth.evaluation import scores
from dpsynth.evaluation.binning import Binning, make_binning
from dpsynth.evaluation.panel import (
    Panel,
    correlation,
    distance,
    feature_columns,
    frequencies,
    has_values,
    make_panel,
)
from dpsynth.evaluation.types import EvaluationConfig, Metric

LAGS = (1, 2, 3, 4, 6, 8, 12)
_MOST_ENTITIES = 5_000
_FEWEST_ENTITIES = 20


def evaluate_sequences(
    synthetic: pd.DataFrame,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    schema: Schema,
    config: EvaluationConfig | None = None,
    seed: int = 0,
) -> list[Metric]:
    """Compares synthetic with real sequences; every entity counts once, however long.

    Edge cases: a feature constant in either table has no correlation and is left out, and a synthetic one
    that is constant where the real one is not counts as correlation 0; fewer than 20 entities in any table
    -> nan for what is fitted, said in `computed_on`.

    Args:
      synthetic: released rows, long, with the schema's entity and time columns.
      train: private, revealed for internal figures. What the generator was fitted on.
      holdout: private, revealed for internal figures. Entities that the generator never saw.
      seed: public; drives subsamples and fits.
    """
    config = config or EvaluationConfig()
    binning = make_binning(schema, train, num_bins=config.num_bins)
    made, real, unseen = (make_panel(t, schema, binning) for t in (synthetic, train, holdout))
    metrics = [
        Metric(name=name, value=value, computed_on=f"synthetic against training sequences: {words}")
        for name, value, words in structure(made, real, binning)
    ]
    metrics += [
        Metric(name=f"real_{name}", value=value, computed_on=f"holdout against training sequences: {words}")
        for name, value, words in structure(unseen, real, binning)
    ]
    metrics.append(_discriminative(made, unseen, config, seed))
    return metrics + _last_step(made, real, unseen, schema, config, seed)


def structure(first: Panel, second: Panel, binning: Binning) -> Iterator[tuple[str, float, str]]:
    """Yields (name, value, words) of every distance that needs no fitted model; 0 is best."""
    gaps = {lag: _gaps(autocorrelations(first, lag), autocorrelations(second, lag)) for lag in LAGS}
    gaps = {lag: gap for lag, gap in gaps.items() if len(gap)}
    every = np.concatenate(list(gaps.values())) if gaps else np.array([])
    yield "acf_gap", _mean(every), "mean |difference| of autocorrelations over features and lags"
    for lag, gap in gaps.items():
        yield f"acf_gap_lag_{lag}", _mean(gap), f"mean |difference| of autocorrelations at lag {lag}"
    cross = [
        _gaps(cross_correlations(p, lag), cross_correlations(q, lag))
        for lag in (0, 1)
        for p, q in [(first, second)]
    ]
    yield "cross_correlation_gap", _mean(cross[0]), "mean |difference| over pairs of features at one step"
    yield "cross_correlation_gap_lag_1", _mean(cross[1]), "the same, one step apart, in both directions"
    steps = second.max_length
    lengths = [np.bincount(p.lengths, minlength=steps + 1) / max(p.num_entities, 1) for p in (first, second)]
    yield "length_tv", distance(*lengths), "total variation of sequence lengths"
    yield "step_marginal_tv", _step_marginals(first, second, binning), "features at each step, binned"
    yield "transition_tv", _transitions(first, second, binning), "pairs (value, next value), binned"
    pairs = [
        distance(*(_attribute_feature(p, a, f, binning) for p in (first, second)))
        for a in second.attributes
        for f in second.codes
    ]
    yield "attribute_feature_tv", _mean(np.array(pairs)), "pairs of an attribute and a feature, binned"
    alone = [
        distance(
            *(
                np.bincount(p.attributes[a], minlength=binning[a].size) / max(p.num_entities, 1)
                for p in (first, second)
            )
        )
        for a in second.attributes
    ]
    yield "attribute_tv", _mean(np.array(alone)), "attributes one by one, binned"


def autocorrelations(panel: Panel, lag: int) -> dict[str, float]:
    """Correlation of each feature with itself `lag` steps later."""
    if lag >= panel.max_length:
        return {}
    return {n: correlation(v[:, :-lag], v[:, lag:]) for n, v in panel.numbers.items()}


def cross_correlations(panel: Panel, lag: int) -> dict[tuple[str, str], float]:
    """Correlation of pairs of features, the second `lag` steps later."""
    if lag >= panel.max_length:
        return {}
    numbers, steps = panel.numbers, panel.max_length
    found = {}
    for a, b in combinations(numbers, 2):
        for x, y in [(a, b)] if lag == 0 else [(a, b), (b, a)]:
            found[x, y] = correlation(numbers[x][:, : steps - lag], numbers[y][:, lag:])
    return found


def _gaps(first: dict, second: dict) -> np.ndarray:
    """|difference| per key known in the second; an undefined correlation in the first counts as 0."""
    pairs = [(first.get(k, np.nan), v) for k, v in second.items() if np.isfinite(v)]
    return np.array([abs((0.0 if np.isnan(a) else a) - b) for a, b in pairs])


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _step_marginals(first: Panel, second: Panel, binning: Binning) -> float:
    """Mean over steps (weighted by how many real sequences reach them) and features."""
    values, weights = [], []
    for name in second.codes:
        size = binning[name].size
        for step in range(second.max_length):
            columns = [p.codes[name][:, step] for p in (first, second)]
            counts = [np.bincount(c[c >= 0], minlength=size) for c in columns]
            if counts[1].sum() == 0:
                continue
            shares = [c / max(c.sum(), 1) for c in counts]
            values.append(distance(*shares) if counts[0].sum() else 1.0)
            weights.append(counts[1].sum())
    return float(np.average(values, weights=weights)) if values else np.nan


def _transitions(first: Panel, second: Panel, binning: Binning) -> float:
    if second.max_length < 2:
        return np.nan
    values = []
    for name in second.codes:
        size = binning[name].size
        tables = [
            frequencies(p.codes[name][:, :-1], p.codes[name][:, 1:], size, size) for p in (first, second)
        ]
        values.append(distance(*tables))
    return _mean(np.array(values))


def _attribute_feature(panel: Panel, attribute: str, feature: str, binning: Binning) -> np.ndarray:
    codes = panel.codes[feature]
    rows = np.broadcast_to(panel.attributes[attribute][:, None], codes.shape)
    return frequencies(rows, codes, binning[attribute].size, binning[feature].size)


def summaries(panel: Panel) -> np.ndarray:
    """Float64 [entity, summary]: attributes, length, and each feature's level, spread, ends and memory."""
    columns = [panel.lengths.astype(np.float64), *(a.astype(np.float64) for a in panel.attributes.values())]
    last = np.maximum(panel.lengths - 1, 0)
    every = np.arange(panel.num_entities)
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, codes in panel.codes.items():
            values = panel.numbers.get(name)
            if values is None:
                values = np.where(codes >= 0, codes, np.nan)
            known = np.isfinite(values)
            count = known.sum(axis=1)
            mean = np.where(known, values, 0).sum(axis=1) / count
            centred = np.where(known, values - mean[:, None], 0)
            variance = (centred**2).sum(axis=1) / count
            memory = (centred[:, 1:] * centred[:, :-1]).sum(axis=1) / count / np.maximum(variance, 1e-12)
            turns = (np.abs(np.diff(values, axis=1)) > 0).sum(axis=1)
            columns += [mean, np.sqrt(variance), values[:, 0], values[every, last], memory, turns]
            columns += [1 - count / panel.lengths]
    return np.stack(columns, axis=1)


def _discriminative(made: Panel, unseen: Panel, config: EvaluationConfig, seed: int) -> Metric:
    """AUC of boosted trees on summaries of whole sequences; 0.5 cannot be told apart."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold

    name, count = "sequence_propensity_auc", min(made.num_entities, unseen.num_entities, _MOST_ENTITIES)
    if count < _FEWEST_ENTITIES:
        return Metric(
            name=name, value=np.nan, computed_on=f"not computed: fewer than {_FEWEST_ENTITIES} sequences"
        )
    rng = np.random.default_rng(seed)
    inputs = np.concatenate(
        [summaries(p)[rng.choice(p.num_entities, count, replace=False)] for p in (made, unseen)]
    )
    label = np.repeat([True, False], count)
    inputs = inputs[:, np.isfinite(inputs).any(axis=0)]
    score = np.zeros(len(label))
    for fit, test in StratifiedKFold(2, shuffle=True, random_state=seed).split(inputs, label):
        model = HistGradientBoostingClassifier(max_iter=60, early_stopping=False, random_state=seed)
        odds = model.fit(_filled(inputs[fit]), label[fit]).decision_function(inputs[test])
        score[test] = np.searchsorted(np.sort(odds), odds) / len(test)
    weights = scores.bootstrap_weights(len(label), config.num_bootstraps, seed)
    values = scores.in_blocks(lambda w: scores.weighted_auc(label, score, w), weights)
    lower, upper = scores.interval(values, config.confidence)
    words = "boosted trees on summaries of whole sequences, synthetic against holdout, two folds"
    return Metric(name=name, value=float(values[0]), lower=lower, upper=upper, computed_on=words)


def _filled(inputs: np.ndarray) -> np.ndarray:
    """A column without any value in a fold becomes 0: the trees refuse it otherwise."""
    inputs = inputs.copy()
    inputs[:, ~np.isfinite(inputs).any(axis=0)] = 0.0
    return inputs


def _last_step(
    made: Panel, real: Panel, unseen: Panel, schema: Schema, config: EvaluationConfig, seed: int
) -> list[Metric]:
    """Predicts the last step of the target from all before: trained on synthetic, and on real sequences."""
    columns = {c.name: c for c in feature_columns(schema)}
    target = schema.target if schema.target in columns else None
    target = target or next((n for n, c in columns.items() if is_numeric(c)), None)
    target = target or next((n for n, c in columns.items() if has_values(c)), None)
    if target is None or schema.sequence.max_length < 2:
        return []
    numeric = is_numeric(columns[target])
    figure = "r2" if numeric else "auc"
    test = _task(unseen, target)
    metrics = []
    for name, panel, words in (("tstr", made, "synthetic"), ("trtr", real, "training")):
        full = f"{name}_last_step_{figure}"
        fit = _task(panel, target)
        if min(len(fit[1]), len(test[1])) < _FEWEST_ENTITIES:
            metrics.append(Metric(name=full, value=np.nan, computed_on="not computed: too few sequences"))
            continue
        guess = _fitted(fit, test[0], numeric, seed)
        weights = scores.bootstrap_weights(len(guess), config.num_bootstraps, seed)

        def score(w, guess=guess):
            if numeric:
                return scores.weighted_r2(test[1], guess, w)
            return scores.weighted_auc(test[1] > 0.5, guess, w)

        values = scores.in_blocks(score, weights)
        lower, upper = scores.interval(values, config.confidence)
        on = f"last `{target}` from earlier steps: boosted trees fitted on {words}, tested on holdout"
        metrics.append(Metric(name=full, value=float(values[0]), lower=lower, upper=upper, computed_on=on))
    return metrics


def _task(panel: Panel, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs before the last step, and the last value, of sequences where it is known."""
    truth = panel.numbers[target][np.arange(panel.num_entities), np.maximum(panel.lengths - 1, 0)]
    cut = np.arange(panel.max_length) < (panel.lengths - 1)[:, None]
    shorter = Panel(
        lengths=panel.lengths - 1,
        numbers={n: np.where(cut, v, np.nan) for n, v in panel.numbers.items()},
        codes={n: np.where(cut, v, -1) for n, v in panel.codes.items()},
        attributes=panel.attributes,
        max_length=panel.max_length,
    )
    usable = (panel.lengths >= 2) & np.isfinite(truth)
    return summaries(shorter)[usable], truth[usable]


def _fitted(fit: tuple[np.ndarray, np.ndarray], inputs: np.ndarray, numeric: bool, seed: int) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    features, truth = fit
    rng = np.random.default_rng(seed)
    if len(truth) > _MOST_ENTITIES:
        rows = rng.choice(len(truth), _MOST_ENTITIES, replace=False)
        features, truth = features[rows], truth[rows]
    if len(np.unique(truth)) == 1:
        return np.full(len(inputs), truth[0])
    settings = {"max_iter": 60, "early_stopping": False, "random_state": seed}
    if numeric:
        return HistGradientBoostingRegressor(**settings).fit(_filled(features), truth).predict(inputs)
    model = HistGradientBoostingClassifier(**settings).fit(_filled(features), truth > 0.5)
    return model.predict_proba(inputs)[:, 1]
