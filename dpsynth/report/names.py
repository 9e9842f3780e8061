"""Metrics in words: what a name means, which way is better, and what real rows would reach."""

from __future__ import annotations

import re

_SCORES = {
    "auc": "AUC",
    "ap": "average precision",
    "accuracy": "accuracy",
    "f1": "F1",
    "rare_recall": "recall of the rarest class",
    "r2": "R²",
}
_MODELS = {"boosting": "boosted trees", "logistic": "logistic regression", "ridge": "ridge regression"}
_OTHERS = {
    "tv_1way": "total variation, 1-way",
    "tv_2way": "total variation, 2-way",
    "tv_3way_target": "total variation, pairs with the target",
    "js_1way": "Jensen-Shannon divergence, 1-way (bits)",
    "js_2way": "Jensen-Shannon divergence, 2-way (bits)",
    "kl_1way": "KL divergence, 1-way (bits)",
    "kl_2way": "KL divergence, 2-way (bits)",
    "propensity_auc": "propensity AUC",
    "pmse_ratio": "pMSE ratio",
    "category_coverage": "categories covered",
    "rare_category_recall": "rare categories kept",
    "pearson_gap": "gap in Pearson's r",
    "cramer_gap": "gap in Cramér's V",
    "mi_2way_gap": "gap in mutual information (bits)",
    "mi_target_gap": "gap in information on the target (bits)",
    "mmd": "squared MMD",
    "precision": "precision of rows",
    "recall": "recall of rows",
    "density": "density",
    "coverage": "coverage",
    "closer_to_train_share": "closer to train than to holdout rows",
    "nearest_train_median": "median distance to the nearest train row",
    "copied_share": "rows equal to a train row",
    "acf_gap": "gap in autocorrelation",
    "cross_correlation_gap": "gap in correlation across features",
    "cross_correlation_gap_lag_1": "gap in correlation across features, one step apart",
    "length_tv": "total variation of lengths",
    "step_marginal_tv": "total variation of features at each step",
    "transition_tv": "total variation of pairs (value, next value)",
    "attribute_feature_tv": "total variation of pairs (attribute, feature)",
    "attribute_tv": "total variation of attributes",
    "sequence_propensity_auc": "propensity AUC of whole sequences",
    "valid_rows": "rows that keep the schema",
    "valid_cells": "cells that keep the schema",
}
_LOWER = re.compile(
    r"(tv_|js_|kl_|mmd|.*_gap|.*_tv$|.*propensity_auc|pmse_ratio|copied_share|closer_to_train)"
)
# What a fresh sample of the real distribution would have, where no metric of its own says so.
_FIXED = {
    "propensity_auc": 0.5,
    "sequence_propensity_auc": 0.5,
    "pmse_ratio": 1.0,
    "closer_to_train_share": 0.5,
    "mmd": 0.0,
}
_OF_SEQUENCES = {
    "acf_gap",
    "cross_correlation_gap",
    "cross_correlation_gap_lag_1",
    "length_tv",
    "step_marginal_tv",
    "transition_tv",
    "attribute_feature_tv",
    "attribute_tv",
}


def label(name: str) -> str:
    """Returns a metric in words, for titles and tables; an unknown name as it is."""
    ending, worst = "", ""
    if name.startswith("real_"):  # of sequences: holdout against training entities
        name, ending = name.removeprefix("real_"), ", real rows"
    if lag := re.fullmatch(r"acf_gap_lag_(\d+)", name):
        return f"{_OTHERS['acf_gap']}, lag {lag[1]}{ending}"
    for suffix, words in (("_holdout", ", holdout rows"), ("_baseline", ", real rows")):
        if name.endswith(suffix):
            name, ending = name.removesuffix(suffix), words
    if name.endswith("_max") and name.removesuffix("_max") in _OTHERS:
        name, worst = name.removesuffix("_max"), " (worst)"
    if last := re.fullmatch(r"(tstr|trtr)_last_step_(r2|auc)", name):
        fitted = "synthetic" if last[1] == "tstr" else "real"
        return f"{_SCORES[last[2]]} of the last step, boosted trees fitted on {fitted} sequences"
    found = re.fullmatch(r"(tstr|trtr)_(.+)_(boosting|logistic|ridge)", name)
    if found:
        fitted = "synthetic" if found[1] == "tstr" else "real"
        return f"{_SCORES.get(found[2], found[2])}, {_MODELS[found[3]]} fitted on {fitted} rows"
    return _OTHERS.get(name, name) + worst + ending


def higher_is_better(name: str) -> bool:
    """Says which way is better; unknown names are taken as scores."""
    return _LOWER.match(name) is None


def real_rows_name(name: str) -> str | None:
    """Returns the metric that says what real rows reach: the ceiling of a score, the floor of a distance."""
    if name in _OF_SEQUENCES or name.startswith("acf_gap_lag_"):
        return f"real_{name}"
    if name.startswith("tstr_"):
        return "trtr_" + name.removeprefix("tstr_")
    if name.startswith("tv_") and not name.endswith("_holdout"):
        return f"{name}_holdout"
    return f"{name}_baseline" if f"{name}_baseline" not in _OTHERS and name in _OTHERS else None


def real_rows_value(name: str) -> float | None:
    """Returns what real rows reach where theory says so."""
    return _FIXED.get(name)
