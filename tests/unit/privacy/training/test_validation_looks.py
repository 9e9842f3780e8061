"""Looks at the loss: what a bought one may tell, how often, and what it costs; broken twins must fail."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy import stats
from toys import CountingLedger, ToyObjective

from dpsynth.data.schema import Categorical, Integer, Schema
from dpsynth.errors import BudgetExceeded, GuaranteeVoid, InvalidInput
from dpsynth.privacy.accounting.accountants import Ingredients, pld_epsilon
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.noise.entropy import AesEntropy, FixedEntropy
from dpsynth.privacy.plan.make_plan import make_plan
from dpsynth.privacy.plan.plan import Request, TrainingPlan
from dpsynth.privacy.plan.pricing import describe_plan, noise_to_signal
from dpsynth.privacy.training.sampling import as_store
from dpsynth.privacy.training.train import train
from dpsynth.privacy.training.validation_looks import BoughtLook, loss_bound

SCHEMA = Schema(columns=(Integer(name="age", min=0, max=9), Categorical(name="sex", values=("f", "m"))))
VALIDATES = Request(trains=True, validates=True)
PLAN = TrainingPlan(
    sample_rate=0.2,
    steps=20,
    noise_multiplier=1.0,
    max_grad_norm=0.5,
    expected_batch_size=20.0,
    validation_looks=10,
    validation_noise_multiplier=3.0,
)


class Known(ToyObjective):
    """Units carry their own loss in the first column."""

    def validation_losses(self, units, draw):
        return units[:, 0]


def units(losses):
    return torch.tensor(losses, dtype=torch.float32)[:, None].expand(-1, 5).clone()


def look(losses, *, entropy=None, cls=BoughtLook, plan=PLAN, bound=2.0, physical=7):
    made = cls(
        Known(), as_store(units(losses)), plan, entropy or AesEntropy(), physical=physical, bound=bound
    )
    return made(1)


def quiet(plan=PLAN):
    return dataclasses.replace(plan, validation_noise_multiplier=1e-6)


def test_without_noise_a_look_is_the_mean_of_bounded_losses_over_the_public_number():
    # 100 units are expected; losses count from 0 to the bound of 2.
    losses = [0.5, 1.0, 2.5, -1.0, math.nan, math.inf]
    assert look(losses, plan=quiet()) == pytest.approx((0.5 + 1.0 + 2 + 0 + 2 + 2) / 100, abs=1e-6)


@pytest.mark.parametrize("physical", [1, 3, 100])
def test_physical_batches_change_nothing(physical):
    losses = torch.linspace(0.0, 2.0, 50).tolist()
    assert look(losses, plan=quiet(), physical=physical) == pytest.approx(0.5, abs=1e-6)


class Unbounded(BoughtLook):
    """Broken: a loss may count as much as it likes."""

    def _whole_numbers(self, losses, num):
        return int((losses.double() / self._bound * (1 << 20)).sum())


def change(cls, extra):
    """By how much one more unit changes a look, under equal noise, in parts of what is paid for."""
    base = [0.3, 1.7, 0.9]
    after, before = (look(losses, entropy=FixedEntropy(), cls=cls) for losses in ([*base, extra], base))
    return abs(after - before) / (2.0 / 100)  # the bound over the public number


@pytest.mark.parametrize("extra", [0.0, 1.3, 2.0, 50.0, -50.0, math.nan, math.inf])
def test_one_unit_changes_a_look_by_at_most_the_bound(extra):
    assert change(BoughtLook, extra) <= 1.0 + 1e-6


def test_the_check_finds_losses_without_a_bound():
    assert change(Unbounded, 50.0) > 20.0


class Quiet(BoughtLook):
    """Broken: two fifths less noise than was paid for."""

    def __call__(self, number):
        self._plan = dataclasses.replace(self._plan, validation_noise_multiplier=1.8)
        return super().__call__(number)


def noise_is_as_paid(cls):
    """500 looks at no units: rejects true noise with probability 1e-6, and finds two fifths less surely."""
    num, stddev = 500, 3.0 * 2.0 / 100
    made = cls(Known(), as_store(torch.empty(0, 5)), PLAN, AesEntropy(), physical=7, bound=2.0)
    ratio = sum((made(1) / stddev) ** 2 for _ in range(num))
    return stats.chi2.ppf(5e-7, num) < ratio < stats.chi2.isf(5e-7, num)


def test_looks_have_the_noise_that_was_paid_for():
    assert noise_is_as_paid(BoughtLook)
    assert not noise_is_as_paid(Quiet)


def test_a_look_beyond_those_paid_for_is_refused():
    made = BoughtLook(Known(), as_store(units([1.0])), PLAN, AesEntropy(), physical=7, bound=2.0)
    made(10)
    with pytest.raises(GuaranteeVoid, match="not paid for"):
        made(11)


def test_the_bound_comes_from_made_up_units_alone():
    first, again = (loss_bound(Known(), device="cpu", seed=3) for _ in range(2))
    assert first == again and first > 0.0


# -- in training


def run(objective, *, ledger=None, table=None, config=None, plan=PLAN, **settings):
    table = torch.rand(100, 5) if table is None else table
    config = config or TrainingConfig(validation_every=2)
    return train(
        objective, table, plan, ledger or CountingLedger(), AesEntropy(), seed=0, config=config, **settings
    )


def test_looks_are_charged_before_training_and_before_anything_is_read():
    ledger, charged = CountingLedger(), []

    def read(receipt):
        charged.extend(ledger.charged)
        return torch.rand(100, 5)

    log = run(Known(), ledger=ledger, table=read)
    assert charged == ledger.charged == ["validation", "training"]
    assert [step for step, _ in log.validation_losses] == list(range(2, 21, 2))


def test_refused_looks_read_nothing():
    class Poor(CountingLedger):
        def charge(self, event):
            raise BudgetExceeded("nothing left")

    with pytest.raises(BudgetExceeded):
        run(Known(), ledger=Poor(), table=lambda receipt: pytest.fail("read"))


def test_bought_looks_can_stop_training():
    config = TrainingConfig(validation_every=2, early_stop_delta=1e9)
    assert run(Known(), config=config).steps == 8


def test_looks_more_often_than_planned_are_refused():
    with pytest.raises(GuaranteeVoid, match="not paid for"):
        run(Known(), config=TrainingConfig(validation_every=1))


def test_looks_are_either_bought_or_free():
    with pytest.raises(GuaranteeVoid, match="not both"):
        run(Known(), public_validation=torch.rand(5, 5))


# -- in the plan


def plan_of(share=0.2, request=VALIDATES, **training):
    given = {"steps": 100, "validation_every": 30} | training
    return make_plan(PrivacyConfig(validation_share=share), TrainingConfig(**given), SCHEMA, request, 1_000)


def test_looks_are_priced_in_the_plan_and_leave_less_for_training():
    plan, without = plan_of(), plan_of(0.0)
    event = plan.event("validation")
    assert [e.name for e in plan.events][-2:] == ["validation", "training"]
    assert event.event.count == plan.training.validation_looks == 3
    assert event.event.event.noise_multiplier == plan.training.validation_noise_multiplier
    assert event.noise_multiplier == pytest.approx(plan.training.validation_noise_multiplier / math.sqrt(3))
    composed = pld_epsilon(Ingredients.of(e.event for e in plan.events), 1e-5)
    assert 0.99 < composed <= 1.0
    assert plan.training.noise_multiplier > 1.05 * without.training.noise_multiplier
    assert "validation" not in without and without.training.validation_looks == 0
    assert "3 noisy looks" in describe_plan(plan)
    assert noise_to_signal(plan, event) == plan.training.validation_noise_multiplier / 1_000


@pytest.mark.parametrize(
    "settings, where",
    [
        ({"request": Request(trains=True)}, "privacy.validation_share"),
        ({"validation_every": 101}, "training.validation_every"),
        ({"public_validation": __file__}, "privacy.validation_share"),
        ({"validation_share": 0.1}, "training.validation_share"),
        ({"share": 0.0, "early_stop_delta": 0.1}, "training.early_stop_delta"),
    ],
)
def test_looks_that_make_no_sense_are_named(settings, where):
    with pytest.raises(InvalidInput) as error:
        plan_of(**settings)
    assert where in [problem.where for problem in error.value.problems]


def test_early_stopping_under_privacy_needs_a_loss_that_is_public_or_bought():
    assert plan_of(early_stop_delta=0.1).training.validation_looks == 3
    assert plan_of(0.0, early_stop_delta=0.1, public_validation=__file__).training.validation_looks == 0


def test_early_stopping_without_privacy_needs_rows_to_go_by():
    plain = PrivacyConfig(name="none", epsilon=None)
    with pytest.raises(InvalidInput, match="no validation loss"):
        make_plan(plain, TrainingConfig(early_stop_delta=0.1), SCHEMA, VALIDATES)
    for given in ({"validation_share": 0.1}, {"public_validation": __file__}):
        make_plan(plain, TrainingConfig(early_stop_delta=0.1, **given), SCHEMA, VALIDATES)
