"""A game against the whole command: tell by what leaves whether one unit was in the file.

Neighbouring files go through `experiments.train`'s job many times. Everything that a release holds becomes
numbers, a score is learnt on half of the runs and judged on the other half, against the trade-off curve of
the claim. Nothing here knows what a purchase, a holdout or a ledger is: only the folder is looked at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from scipy.stats import beta, rankdata

Leave = Callable[[str, Path], Path]  # (path of a private file, empty folder) -> folder of what leaves


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judged half of the runs says about a claim.

    Args:
      auc: of the learnt score, on runs that it was not learnt from.
      ceiling: the AUC that the claim leaves to any attack.
      p_value: of the hypothesis that the claim holds, by the AUC.
      epsilon: lower bound by Clopper and Pearson at the claim's delta; its threshold is of the other half.
    """

    auc: float
    ceiling: float
    p_value: float
    epsilon: float

    def violates(self, epsilon: float, alpha: float) -> bool:
        """Says whether either test rejects the claim; false alarms have chance at most 3 alpha."""
        return self.p_value < alpha or self.epsilon > epsilon


def play(leave: Leave, files: tuple[str, str], folder: Path, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (features [run, feature], whether the run had the second file), `trials` runs of each."""
    rows, sides = [], []
    for trial in range(trials):
        for side, file in enumerate(files):
            place = folder / f"{trial}-{side}"
            place.mkdir(parents=True)
            rows.append(dict(facts(leave(file, place))))
            sides.append(side)
    return _matrix(rows), np.array(sides)


def facts(folder: Path) -> Iterator[tuple[str, float]]:
    """Yields everything in a folder as named numbers: JSON leaf by leaf, rows as shares of their values."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".json", ".jsonl"):
            for number, line in enumerate(_documents(path)):
                yield from _leaves(f"{name}[{number}]", line)
        elif path.suffix == ".parquet":
            yield from _rows(name, pd.read_parquet(path))
        elif path.is_file():
            yield f"{name}: bytes", float(path.stat().st_size)


def _documents(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]


def _leaves(name: str, node: Any) -> Iterator[tuple[str, float]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(f"{name}.{key}", value)
    elif isinstance(node, list):
        yield f"{name}: length", float(len(node))
        for place, value in enumerate(node):
            yield from _leaves(f"{name}[{place}]", value)
    elif isinstance(node, bool) or node is None or isinstance(node, str):
        yield f"{name} = {node!r}", 1.0
    elif isinstance(node, (int, float)):
        yield name, float(np.clip(node, -1e12, 1e12)) if math.isfinite(node) else 0.0
        yield f"{name} looks {node!r}"[:200], 1.0  # 0.0 and -0.0 are equal, and look different


def _rows(name: str, frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    yield f"{name}: rows", float(len(frame))
    for column in frame:
        yield f"{name}.{column}: dtype {frame[column].dtype}", 1.0
        shares = frame[column].astype(object).map(repr).value_counts(normalize=True)
        yield from ((f"{name}.{column} {value}", float(share)) for value, share in shares.items())


def _matrix(rows: list[dict[str, float]]) -> np.ndarray:
    """Drops what is equal everywhere, and what fewer than a twentieth of the runs have: names, hashes."""
    table = pd.DataFrame(rows).fillna(0.0)
    kept = [c for c in table if table[c].std() > 0 and (table[c] != 0).mean() >= 0.05]
    return table[kept].to_numpy(dtype=float)


def judge(
    features: np.ndarray, sides: np.ndarray, *, mu: float, epsilon: float, delta: float, alpha: float
) -> Verdict:
    """Learns a score on every other pair of runs and tests the claim on the rest.

    Args:
      mu: of the claim's Gaussian curve: any attack's AUC is at most Phi(mu / sqrt 2) (Dong, Roth & Su, 2022).
      epsilon, delta: the claim itself.
    """
    half = (np.arange(len(sides)) // 2) % 2 == 0
    if not features.shape[1]:
        return Verdict(auc=0.5, ceiling=float(ndtr(mu / math.sqrt(2))), p_value=1.0, epsilon=0.0)
    score = _learnt(features[half], sides[half])
    known, judged = score(features[half]), score(features[~half])
    auc, stderr = _auc(judged[sides[~half] == 1], judged[sides[~half] == 0])
    ceiling = float(ndtr(mu / math.sqrt(2)))
    num = int((~half).sum() // 2)
    stderr = max(stderr, _gaussian_stderr(mu, num))
    bounds = [
        _lower_bound(sign * known, sides[half] == side, sign * judged, sides[~half] == side, delta, alpha)
        for sign, side in ((1, 1), (-1, 0))
    ]
    p_value = float(ndtr((ceiling - auc) / stderr))
    return Verdict(auc=auc, ceiling=ceiling, p_value=p_value, epsilon=max(bounds))


def _learnt(features: np.ndarray, sides: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Takes the better of a linear and a tree model, by cross-validation on these runs alone."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        for strength in (0.003, 0.03, 0.3)
    ]
    models.append(RandomForestClassifier(n_estimators=200, min_samples_leaf=5, random_state=0))

    def quality(model: Any) -> float:
        scores = cross_val_predict(model, features, sides, cv=5, method="predict_proba")[:, 1]
        return _auc(scores[sides == 1], scores[sides == 0])[0]

    best = max(models, key=quality).fit(features, sides)
    return lambda rows: best.predict_proba(rows)[:, 1]


def _auc(ins: np.ndarray, outs: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve, ties one half, with DeLong's error (DeLong et al., 1988)."""
    n, m = len(ins), len(outs)
    ranks = rankdata(np.concatenate([ins, outs]))
    below = (ranks[:n] - rankdata(ins)) / m
    above = 1.0 - (ranks[n:] - rankdata(outs)) / n
    return float(below.mean()), math.sqrt(below.var(ddof=1) / n + above.var(ddof=1) / m)


def _gaussian_stderr(mu: float, num: int) -> float:
    """Error of the AUC of the best attack on a Gaussian curve (Hanley & McNeil, 1982), `num` runs a side."""
    u = (np.arange(4000) + 0.5) / 4000
    power, area = ndtr(mu + ndtri(u)), ndtr(mu / math.sqrt(2))
    two = np.mean(power**2)  # equal in both directions, by symmetry
    return math.sqrt(max(area * (1 - area) + 2 * (num - 1) * (two - area**2), 1e-12) / num**2)


def _lower_bound(
    known: np.ndarray,
    known_in: np.ndarray,
    judged: np.ndarray,
    judged_in: np.ndarray,
    delta: float,
    alpha: float,
) -> float:
    """Epsilon below which P(score > t | in) <= e^epsilon P(score > t | out) + delta is refuted."""

    def bound(hits: int, of: int, false: int, among: int) -> float:
        low = beta.ppf(alpha / 2, hits, of - hits + 1) if hits else 0.0
        high = beta.ppf(1 - alpha / 2, false + 1, among - false) if false < among else 1.0
        return math.log(max(low - delta, 1e-300) / high)

    def at(threshold: float, scores: np.ndarray, side: np.ndarray) -> float:
        return bound(
            int((scores[side] > threshold).sum()), int(side.sum()), int((scores[~side] > threshold).sum()),
            int((~side).sum()),
        )  # fmt: skip

    best = max(np.unique(known), key=lambda t: at(t, known, known_in))
    return max(0.0, at(float(best), judged, judged_in))
