"""A table with a target, and the joint histograms that are bought about it, with seeded noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from worlds import measure

from dpsynth.data.bought.questions import num_refined, pair_questions, refined_questions
from dpsynth.data.bought.statistics import Marginal, Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Categorical, Integer, Schema

SCHEMA = Schema(
    columns=(
        Integer(name="age", min=0, max=39),
        Categorical(name="town", values=tuple("abcdef")),
        Categorical(name="pet", values=("cat", "dog", "none")),
        Integer(name="noise", min=0, max=19),
        Categorical(name="buys", values=("no", "yes")),
    ),
    target="buys",
)


def make_table(num: int, seed: int = 0) -> pd.DataFrame:
    """Age and town hang together; both decide whether one buys; pet and noise are alone."""
    random = np.random.default_rng(seed)
    town = random.choice(6, num, p=[0.3, 0.25, 0.2, 0.15, 0.07, 0.03])
    age = np.clip(random.normal(8 + 5 * town, 4), 0, 39).astype(int)
    buys = random.random(num) < 1 / (1 + np.exp(3 - 0.1 * age - 0.3 * town))
    return pd.DataFrame(
        {
            "age": age,
            "town": np.array(list("abcdef"), dtype=object)[town],
            "pet": random.choice(np.array(["cat", "dog", "none"], dtype=object), num),
            "noise": random.integers(0, 20, num),
            "buys": np.where(buys, "yes", "no").astype(object),
        }
    )


def exact(statistics: Statistics, table: pd.DataFrame, question: Question) -> np.ndarray:
    """The true answer to a question."""
    encoder = TableEncoder(SCHEMA, statistics)
    return encoder.count(question, encoder.encode(table)).astype(np.float64)


def buy(table: pd.DataFrame, *, noise_stddev: float, max_groups: int = 8, seed: int = 2) -> Statistics:
    """Statistics with both rounds of pairs."""
    random = np.random.default_rng(seed)
    statistics = replace(measure(table, SCHEMA, noise_stddev=noise_stddev), max_groups=max_groups)
    questions = pair_questions(SCHEMA)
    for _ in range(2):
        bought = []
        for question in questions:
            counts = exact(statistics, table, question)
            counts = counts + noise_stddev * random.standard_normal(counts.shape)
            bought.append(Marginal(columns=question.columns, counts=counts, noise_stddev=noise_stddev))
        statistics = replace(statistics, marginals=statistics.marginals + tuple(bought))
        questions = refined_questions(statistics, num_refined(SCHEMA))
    return statistics
