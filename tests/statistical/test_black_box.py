"""The claim tested from outside: the whole command on tiny neighbouring files, judged by what leaves.

Each game learns a score on half of its runs and tests the claim on the other half, by
`tests/support/black_box.py`. A sound mechanism raises an alarm with chance at most 3e-4 a game. Power: with
250 runs a side at epsilon 4, noise halved gives an AUC of 0.89 where the claim allows 0.743, p = 2e-7; faults
that tell the unit outright (AUC 1) are seen from 60 runs a side on, p below 1e-5.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from scipy.optimize import brentq
from scipy.special import ndtr

from dpsynth.data.tables import split as splitting
from dpsynth.privacy.measuring import answers
from experiments import train
from tests.support.black_box import Verdict, judge, play

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
EPSILON, DELTA, ALPHA = 4.0, 1e-5, 1e-4
TRIALS, FEW = 250, 80  # runs on each of both files
ALL = ["generator=independent", "holdout_share=0"]
QUIET = ["audit=none", "tracking=none", "evaluation.num_bootstraps=0", "evaluation.propensity=false"]
QUIET += ["evaluation.models=[logistic]", f"privacy.epsilon={EPSILON}", f"privacy.delta={DELTA}"]


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The Gaussian mechanism that is exactly (epsilon, delta)-private has this signal over noise."""

    def excess(mu: float) -> float:
        return ndtr(-epsilon / mu + mu / 2) - math.exp(epsilon) * ndtr(-epsilon / mu - mu / 2) - delta

    return float(brentq(excess, 1e-3, 50.0))


def command(schema: Path, *words: str):
    """The command's own job, in this process; returns what it leaves to be published."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        node = compose(
            "train", ["data=csv", f"data.schema={schema}", *QUIET, *words], return_hydra_config=True
        )

    def leave(file: str, folder: Path) -> Path:
        whole = node.copy()
        with open_dict(whole):
            whole.hydra.runtime.output_dir = str(folder)
            whole.data.path = file
            whole.privacy.dataset_ledger = str(folder / "spent.sqlite")
        HydraConfig.instance().set_config(whole)
        with open_dict(whole):
            del whole["hydra"]
        train.job(whole)
        return folder / "release"

    return leave


def game(
    tmp_path: Path,
    with_unit: pd.DataFrame,
    without: pd.DataFrame,
    schema: str,
    *words: str,
    trials: int = TRIALS,
) -> Verdict:
    files = tmp_path / "without.csv", tmp_path / "with.csv"
    without.to_csv(files[0], index=False)
    with_unit.to_csv(files[1], index=False)
    (tmp_path / "schema.yaml").write_text(schema, encoding="utf-8")
    leave = command(tmp_path / "schema.yaml", *words)
    features, sides = play(leave, (str(files[0]), str(files[1])), tmp_path / "runs", trials)
    mu = gaussian_mu(EPSILON, DELTA)
    found = judge(features, sides, mu=mu, epsilon=EPSILON, delta=DELTA, alpha=ALPHA)
    print(found, features.shape)
    return found


DECLARED = """
version: 1
num_units: 40
target: y
columns:
  - {name: x, kind: categorical, values: [a, b]}
  - {name: y, kind: boolean}
"""


def declared_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"x": ["a"] * 40, "y": rng.random(40) < 0.5})
    first = pd.DataFrame({"x": ["b"], "y": [True]})
    return pd.concat([first, rows], ignore_index=True), rows


def test_one_row_of_a_declared_table(tmp_path):
    assert not game(
        tmp_path, *declared_tables(), DECLARED, "generator=independent", "holdout_share=0"
    ).violates(EPSILON, ALPHA)


def test_halved_noise_is_seen(tmp_path, monkeypatch):
    whole = answers.exact_gaussian
    monkeypatch.setattr(answers, "exact_gaussian", lambda v, s, **k: whole(v, s / 2, **k))
    assert game(tmp_path, *declared_tables(), DECLARED, "generator=independent", "holdout_share=0").violates(
        EPSILON, ALPHA
    )


def test_holdout_coins_that_somebody_knows_are_seen(tmp_path, monkeypatch):
    """Rows whose coin says "held out" say b: one row fewer at the top hands each of them another coin."""
    share, known = 0.2, b"everybody knows"
    held = splitting.coins(81, share, known)
    rows = pd.DataFrame({"x": np.where(held, "b", "a"), "y": True})
    whole = splitting.split
    monkeypatch.setattr(splitting, "split", lambda f, s, h, secret: whole(f, s, h, known))
    words = ["generator=independent", f"holdout_share={share}"]
    assert game(tmp_path, rows, rows.iloc[1:], DECLARED, *words, trials=FEW).violates(EPSILON, ALPHA)


def test_a_number_of_rows_that_nobody_paid_for_is_seen(tmp_path, monkeypatch):
    job = train.job

    def telling(node):
        with open_dict(node):
            node.num_rows = len(pd.read_csv(node.data.path))
        return job(node)

    monkeypatch.setattr(train, "job", telling)
    found = game(tmp_path, *declared_tables(), DECLARED, "generator=independent", trials=FEW)
    assert found.violates(EPSILON, ALPHA)


OPEN = """
version: 1
target: sick
columns:
  - {name: town, kind: categorical}
  - {name: dose, kind: categorical, dtype: float64}
  - {name: age, kind: integer, nullable: true}
  - {name: sick, kind: boolean, nullable: true}
"""


def open_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """One unit more that is everything at once: first, a new value, an alias, an extreme, with a gap."""
    rng = np.random.default_rng(4)
    rows = pd.DataFrame(
        {
            "town": rng.choice(["aa", "bb"], 60),
            "dose": rng.choice(["0.0", "1.5"], 60),
            "age": rng.integers(20, 60, 60).astype(str),
            "sick": rng.choice(["true", "false"], 60),
        }
    )
    first = pd.DataFrame({"town": ["zz"], "dose": ["-0.0"], "age": ["4000000"], "sick": [""]})
    return pd.concat([first, rows], ignore_index=True), rows


def test_one_row_of_a_table_that_leaves_everything_open(tmp_path):
    found = game(tmp_path, *open_tables(), OPEN, "generator=independent", trials=FEW)
    assert not found.violates(EPSILON, ALPHA)


PANEL = """
version: 1
unit: {column: who, max_rows: 3}
sequence: {time: t, max_length: 3, min_length: 1}
num_units: 20
columns:
  - {name: who, kind: identifier}
  - {name: t, kind: integer, min: 0, max: 30}
  - {name: x, kind: categorical, values: [a, b]}
  - {name: z, kind: continuous, min: 0, max: 1}
"""


def panel_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """One entity more, whose rows are all alike and unlike the others'."""
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(
        {
            "who": np.repeat(np.arange(20) + 1, 3),
            "t": np.tile([0, 1, 2], 20),
            "x": "a",
            "z": rng.random(60) * 0.5,
        }
    )
    first = pd.DataFrame({"who": [0] * 3, "t": [0, 1, 2], "x": ["b"] * 3, "z": [0.99] * 3})
    return pd.concat([first, rows], ignore_index=True), rows


def test_one_entity_of_a_table_of_sequences(tmp_path):
    words = ["generator=sequence_independent", "holdout_share=0"]
    found = game(tmp_path, *panel_tables(), PANEL, *words, trials=FEW)
    assert not found.violates(EPSILON, ALPHA)
