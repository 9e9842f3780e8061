"""Adaptive joint histograms: who pays for a choice, how far a unit moves a score, what a crash leaves."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dpsynth.data.bought.questions import Proposal, Rounds
from dpsynth.data.bought.statistics import Question
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Categorical, Identifier, Integer, Schema, Unit
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.accounting.accountants import Ingredients, pld_epsilon
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.measuring.answers import Answers
from dpsynth.privacy.measuring.joint_histograms import _score, adaptive_histograms
from dpsynth.privacy.measuring.measure import measure
from dpsynth.privacy.noise.entropy import AesEntropy, Entropy, FixedEntropy
from dpsynth.privacy.noise.mechanisms import exponential_choice
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Request

COLUMNS = (
    Integer(name="age", min=0, max=5),
    Categorical(name="sex", values=("f", "m")),
    Categorical(name="pet", values=("ant", "bee", "cat")),
)
ROWS = Schema(columns=COLUMNS, num_units=300)
PEOPLE = Schema(columns=(Identifier(name="id"), *COLUMNS), unit=Unit(column="id", max_rows=3), num_units=100)
PAIRS = (("age", "sex"), ("age", "pet"), ("sex", "pet"))


def table(num: int = 300) -> pd.DataFrame:
    """Rows in which age and pet hang together."""
    random = np.random.default_rng(0)
    age = random.integers(0, 6, num)
    pet = np.array(["ant", "bee", "cat"], dtype=object)[np.where(random.random(num) < 0.9, age // 2, 0)]
    sex = np.array(["f", "m"], dtype=object)[random.integers(0, 2, num)]
    return pd.DataFrame({"id": np.arange(num) // 3, "age": age, "sex": sex, "pet": pet})


class Independent:
    """Proposes all pairs, and expects nothing to hang together."""

    def __init__(self):
        self.seen: list[int] = []

    def propose(self, statistics, noise_stddev):
        self.seen.append(len(statistics.marginals))
        shares = {name: statistics.probabilities(name) for name in statistics.domain.names}
        return tuple(
            Proposal(
                question=Question(columns=pair),
                expected=np.outer(shares[pair[0]], shares[pair[1]]) * statistics.num_rows,
                penalty=noise_stddev,
            )
            for pair in PAIRS
        )


def plan_of(
    privacy: PrivacyConfig, schema: Schema = ROWS, *, trains: bool = False, rounds: Rounds | None = None
):
    request = Request(trains=trains, rounds=rounds or Rounds(num=2, choices=1))
    return make_plan(privacy, TrainingConfig(steps=20), schema, request)


def shop(folder, privacy, entropy, *, seeker=None, schema=ROWS, rounds=None):
    """Buys everything; returns statistics and the open ledger."""
    plan, path = plan_of(privacy, schema, rounds=rounds), folder / "ledger.jsonl"
    ledger = Ledger.resume(path, plan) if path.exists() else Ledger.create(path, plan)
    kept = folder / "answers.json"
    frame = table() if schema is PEOPLE else table().drop(columns="id")
    private = PrivateTable(frame, schema)
    statistics = measure(private, plan, ledger, entropy, answers=kept)
    encoder = TableEncoder(schema, statistics)
    seeker = seeker or Independent()
    return adaptive_histograms(
        private, statistics, encoder, seeker, plan, ledger, entropy, answers=kept
    ), ledger


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("epsilon", [0.5, 8.0])
def test_choices_are_priced_before_the_first_read_and_meet_the_budget_from_below(trains, epsilon):
    rounds = Rounds(num=3, choices=2, choice_share=0.2)
    plan = plan_of(PrivacyConfig(epsilon=epsilon), trains=trains, rounds=rounds)
    names = [event.name for event in plan.events if event.stage == "marginals"]
    assert names == [f"marginals/{k}/{part}" for k in (1, 2, 3) for part in ("choice", "answers")]
    parts = Ingredients.of(event.event for event in plan.events)
    assert len(parts.choices) == 6 and min(parts.choices) > 0
    assert 0.995 * epsilon <= pld_epsilon(parts, 1e-5) <= epsilon
    choice, answers = plan.event("marginals/1/choice"), plan.event("marginals/1/answers")
    assert answers.noise_multiplier**-2 / choice.noise_multiplier**-2 == pytest.approx(4.0, rel=1e-3)
    assert choice.choice_epsilon == pytest.approx(2 / (choice.noise_multiplier * math.sqrt(2)))


def test_what_the_model_gets_most_wrong_is_bought(tmp_path):
    seeker = Independent()
    none = PrivacyConfig(name="none", epsilon=None)
    statistics, _ = shop(tmp_path, none, AesEntropy(), seeker=seeker)
    assert [m.columns for m in statistics.marginals] == [("age", "pet"), ("age", "pet")]
    assert seeker.seen == [0, 1]  # the second round knows the first one's answers
    rows = table()
    exact = pd.crosstab(rows["age"], rows["pet"]).to_numpy()
    assert np.array_equal(statistics.marginals[0].counts, exact)


def test_questions_of_one_round_differ(tmp_path):
    rounds = Rounds(num=1, choices=3)
    statistics, _ = shop(tmp_path, PrivacyConfig(epsilon=1.0), AesEntropy(), rounds=rounds)
    assert {m.columns for m in statistics.marginals} == set(PAIRS)


@pytest.mark.parametrize("schema", [ROWS, PEOPLE])
def test_no_unit_moves_a_score_by_more_than_the_plan_says(tmp_path, schema):
    """Brute force over thirty neighbours: remove one unit with all its rows."""
    full = table(90)
    frame = full if schema is PEOPLE else full.drop(columns="id")
    plan = plan_of(PrivacyConfig(name="none", epsilon=None), schema)
    ledger = Ledger.create(tmp_path / "ledger.jsonl", plan)
    statistics = measure(PrivateTable(frame, schema), plan, ledger, AesEntropy())
    encoder, bound = TableEncoder(schema, statistics), plan.event("marginals/1/choice").sensitivity
    proposals = [replace(p, weight=w) for p in Independent().propose(statistics, 1.7) for w in (1.0, 0.37)]
    unit = full["id"] if schema is PEOPLE else full.index
    whole = encoder.encode(frame)
    largest = 0.0
    for proposal in proposals:
        before = _score(encoder, proposal, whole)
        for one in range(30):
            moved = abs(_score(encoder, proposal, encoder.encode(frame[np.asarray(unit != one)])) - before)
            largest = max(largest, moved)
    assert largest <= bound
    assert largest > 0.5 * bound  # the bound is no empty promise


def test_a_weight_above_one_would_break_the_bound_and_is_refused(tmp_path):
    class Loud(Independent):
        def propose(self, statistics, noise_stddev):
            return tuple(replace(p, weight=2.0) for p in super().propose(statistics, noise_stddev))

    with pytest.raises(GuaranteeVoid, match="weight"):
        shop(tmp_path, PrivacyConfig(), AesEntropy(), seeker=Loud())


def test_choices_follow_the_exponential_law():
    """1,500 draws; a frequency 4.9 standard errors off happens by chance less than once in 1e6 per value."""
    scores, epsilon, num, entropy = np.array([0.0, 1.0, 3.0]), 1.0, 1_500, AesEntropy()
    wanted = np.exp(epsilon * scores / 4.0)  # sensitivity 2
    wanted /= wanted.sum()
    drawn = [exponential_choice(scores, epsilon, 2.0, entropy=entropy) for _ in range(num)]
    seen = np.bincount(drawn, minlength=3) / num
    off = np.abs(seen - wanted) / np.sqrt(wanted * (1 - wanted) / num)
    assert off.max() < 4.9
    assert abs(np.exp(epsilon * 3 / 2.0) / np.exp(epsilon * scores / 2.0).sum() - wanted[2]) > 0.1  # twin


def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, monkeypatch):
    """The process dies after every purchase in turn; each time the next one goes on."""
    (whole := tmp_path / "whole").mkdir()
    statistics, _ = shop(whole, PrivacyConfig(epsilon=2.0), FixedEntropy())
    (broken := tmp_path / "broken").mkdir()
    honest, allowed = Answers._write, [0]

    def dies(self):
        honest(self)
        allowed[0] -= 1
        if allowed[0] < 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Answers, "_write", dies)
    for _ in range(20):
        allowed[0] = 0
        try:
            again, ledger = shop(broken, PrivacyConfig(epsilon=2.0), FixedEntropy())
            break
        except KeyboardInterrupt:
            continue
    assert (whole / "answers.json").read_bytes() == (broken / "answers.json").read_bytes()
    assert [m.columns for m in again.marginals] == [m.columns for m in statistics.marginals]
    charges = [r["event"] for r in ledger.records if r["kind"] == "charge"]
    assert len(charges) == len(set(charges)) == 5


def test_a_choice_that_no_plan_lists_cannot_be_made(tmp_path, monkeypatch):
    """A ledger whose plan has the answers alone: the purchase stops at the choice, before the read."""
    plan = plan_of(PrivacyConfig())
    kept = tuple(event for event in plan.events if not event.choices)
    plan = replace(plan, events=kept)
    ledger = Ledger.create(tmp_path / "ledger.jsonl", plan)
    private = PrivateTable(table().drop(columns="id"), ROWS)
    statistics = measure(private, plan, ledger, AesEntropy())
    monkeypatch.setattr(PrivateTable, "read", lambda *_: pytest.fail("read without a charge"))
    with pytest.raises(KeyError):
        adaptive_histograms(
            private, statistics, TableEncoder(ROWS, statistics), Independent(), plan, ledger, AesEntropy()
        )


def test_kept_choices_are_hashed_into_the_ledger(tmp_path):
    _, ledger = shop(tmp_path, PrivacyConfig(), AesEntropy())
    ledger.close()
    path = tmp_path / "answers.json"
    answers = json.loads(path.read_text())
    answers["marginals/1/choice"] = [(answers["marginals/1/choice"][0] + 1) % 3]
    path.write_text(json.dumps(answers))
    with pytest.raises(GuaranteeVoid, match="marginals/1/choice"):
        shop(tmp_path, PrivacyConfig(), AesEntropy())


def test_every_source_of_noise_can_choose():
    assert Entropy.noisy_max is AesEntropy.noisy_max
    fixed = [FixedEntropy(1).noisy_max(np.zeros(50), 1.0) for _ in range(2)]
    assert fixed[0] == fixed[1]
