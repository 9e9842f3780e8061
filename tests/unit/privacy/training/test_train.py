"""The DP-SGD loop: what a step does, what is charged, what resumes, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn
from toys import CountingLedger, ToyObjective, flat_parameters

from dpsynth.errors import BudgetExceeded, DpsynthError, GuaranteeVoid, InvalidInput
from dpsynth.privacy.configs import TrainingConfig
from dpsynth.privacy.noise.entropy import AesEntropy, FixedEntropy, make_entropy
from dpsynth.privacy.plan.plan import TrainingPlan
from dpsynth.privacy.training.checkpoint import Checkpoint
from dpsynth.privacy.training.sampling import MappedUnits
from dpsynth.privacy.training.schedule import WeightAverage, learning_rate_factor
from dpsynth.privacy.training.train import train
from dpsynth.privacy.training.without_privacy import train_without_privacy

PLAN = TrainingPlan(
    sample_rate=0.2, steps=5, noise_multiplier=1.0, max_grad_norm=0.5, expected_batch_size=20.0
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def toy(**settings):
    torch.manual_seed(1)
    return ToyObjective(**settings)


def units(num=100, width=5):
    return torch.randn(num, width, generator=torch.Generator().manual_seed(2))


def run(objective, table, plan=PLAN, ledger=None, entropy=None, **settings):
    return train(
        objective,
        table,
        plan,
        ledger or CountingLedger(),
        entropy or FixedEntropy(3),
        **{"seed": 0, **settings},
    )


class Sgd(ToyObjective):
    """Plain SGD with rate 1 and no randomness, so that one step shows the gradient it was given."""

    def __init__(self, **settings):
        super().__init__(dropout=0.0, **settings)
        self.optimizer = torch.optim.SGD(self.private.parameters(), lr=1.0)

    def unit_losses(self, units, draw):
        output = self.head(self.net(units)) * self.scale(len(units))
        return ((output - units) ** 2).sum(1)


def test_without_noise_and_bound_one_step_is_plain_gradient_descent():
    torch.manual_seed(1)
    objective, table = Sgd(), units(30)
    before = flat_parameters(objective.private)
    loss = objective.unit_losses(table, None).sum() / 20.0
    gradient = torch.autograd.grad(loss, list(objective.private.parameters()))
    plan = dataclasses.replace(PLAN, sample_rate=1.0, steps=1, noise_multiplier=0.0, max_grad_norm=1e9)
    run(objective, table, plan)
    expected = before - torch.cat([g.reshape(-1) for g in gradient])
    torch.testing.assert_close(flat_parameters(objective.private), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num", [0, 3])
def test_empty_batches_still_add_noise_and_step(num):
    objective = Sgd()
    before = flat_parameters(objective.private)
    plan = dataclasses.replace(PLAN, sample_rate=0.0, steps=4)
    log = run(objective, units(num), plan, entropy=AesEntropy())
    moved = flat_parameters(objective.private) - before
    # Four steps of noise N(0, (z C / divisor)²) on 100 parameters: the root mean square is known to 40 %.
    expected = math.sqrt(4) * 1.0 * 0.5 / 20.0
    assert 0.6 * expected < float(moved.square().mean().sqrt()) < 1.4 * expected
    assert log.conformance.steps == 4 and log.conformance.units_drawn == 0


def test_one_step_moves_by_clipped_sum_plus_noise_over_the_constant():
    torch.manual_seed(1)
    objective, table = Sgd(), units(30)
    before = flat_parameters(objective.private)
    parameters = list(objective.private.parameters())
    total = torch.zeros_like(before)
    for loss in objective.unit_losses(table, None):
        gradient = torch.cat(
            [g.reshape(-1) for g in torch.autograd.grad(loss, parameters, retain_graph=True)]
        )
        total += gradient * min(1.0, 0.5 / float(gradient.norm()))
    noise = FixedEntropy(3).normal_(torch.empty_like(before), 1.0)
    run(objective, table, dataclasses.replace(PLAN, sample_rate=1.0, steps=1))
    expected = before - (total + 0.5 * noise) / 20.0
    torch.testing.assert_close(flat_parameters(objective.private), expected, rtol=1e-4, atol=1e-6)


def test_physical_batches_change_nothing():
    ends = []
    for physical in (1, 7, 1000):
        torch.manual_seed(1)
        objective = Sgd()
        log = run(objective, units(), dataclasses.replace(PLAN, physical_batch_size=physical))
        assert log.physical_batch_size == physical
        ends.append(flat_parameters(objective.private))
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ends[1], ends[2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["opacus_ghost", "opacus_hooks", "vmap"])
def test_back_ends_train_to_the_same_weights(backend):
    ends = []
    for name in ("fast", backend):
        objective = toy()
        run(objective, units(), dataclasses.replace(PLAN, backend=name))
        ends.append(flat_parameters(objective.private))
        assert not any(module._forward_hooks for module in objective.private.modules())
    # Adam's first steps divide by the gradient's own size, which turns 1e-6 relative into about 1e-5.
    torch.testing.assert_close(ends[0], ends[1], rtol=2e-4, atol=2e-5)


def test_the_log_holds_the_mechanism_against_the_plan():
    plan = dataclasses.replace(PLAN, steps=60)
    log = run(toy(), units(400), plan, entropy=AesEntropy())
    found = log.conformance
    # 60 * 107 noise values: stddev known to 4 %; 60 * 400 coins: rate 0.2 known to 0.013 (five sigmas).
    assert abs(found.noise_stddev / (plan.noise_multiplier * plan.max_grad_norm) - 1) < 0.05
    assert abs(found.inclusion_rate - plan.sample_rate) < 0.014
    assert found.max_clipped_norm <= plan.max_grad_norm * (1 + 1e-6)
    assert found.divisor == plan.expected_batch_size and found.steps == log.steps == 60


def test_training_charges_once_before_it_reads():
    ledger, order = CountingLedger(), []

    def read(receipt):
        order.append(("read", list(ledger.charged), receipt.label))
        return units()

    run(toy(), read, ledger=ledger)
    assert order == [("read", ["training"], "training")]
    assert ledger.charged == ["training"]


def test_a_refused_charge_reads_nothing_and_moves_nothing():
    class Refusing(CountingLedger):
        def charge(self, event):
            raise BudgetExceeded("no")

    objective = toy()
    before = flat_parameters(objective.private)
    with pytest.raises(BudgetExceeded):
        run(objective, lambda receipt: pytest.fail("read without paying"), ledger=Refusing())
    assert torch.equal(before, flat_parameters(objective.private))


def test_fixed_noise_voids_the_ledger():
    ledger = CountingLedger()
    run(toy(), units(), ledger=ledger, entropy=FixedEntropy(0))
    assert ledger.voided
    ledger = CountingLedger()
    run(toy(), units(), ledger=ledger, entropy=AesEntropy())
    assert not ledger.voided


def test_public_draws_repeat_and_private_ones_do_not():
    first, second = toy(), toy()
    for objective in (first, second):
        run(objective, units(), entropy=AesEntropy())
    assert first.public_steps == second.public_steps and len(first.public_steps) == PLAN.steps
    assert not torch.equal(flat_parameters(first.private), flat_parameters(second.private))


def test_the_global_generator_is_left_as_it_was():
    objective, before = toy(), torch.get_rng_state()
    run(objective, units())
    assert torch.equal(before, torch.get_rng_state())


def test_units_from_a_mapped_file_train_to_the_same_weights():
    ends = []
    for table in (units(), MappedUnits([units().numpy()])):
        objective = toy()
        run(objective, table)
        ends.append(flat_parameters(objective.private))
    assert torch.equal(*ends)


def test_progress_counts_every_step():
    seen = []
    run(toy(), units(), on_step=seen.append)
    assert [(p.steps_done, p.steps) for p in seen] == [(i + 1, 5) for i in range(5)]
    assert all("loss" in p.internal for p in seen)


# -- generated terms and penalties


class Critic(Sgd):
    """D(real) is private; fakes and a penalty are not."""

    fakes = torch.linspace(-3.0, 3.0, 100).reshape(20, 5)

    def generated_losses(self, num, draw):
        return self.unit_losses(self.fakes[:num], draw)

    def penalty(self, num, draw):
        return sum(p.square().sum() for p in self.private.parameters())


def test_fakes_are_clipped_averaged_and_not_noised_and_the_penalty_is_plain():
    torch.manual_seed(1)
    objective = Critic()
    parameters = list(objective.private.parameters())
    before = flat_parameters(objective.private)
    expected = 2 * before  # of the penalty
    for loss in objective.unit_losses(objective.fakes, None):
        pieces = torch.autograd.grad(loss, parameters, retain_graph=True)
        gradient = torch.cat([g.reshape(-1) for g in pieces])
        expected = expected + gradient * min(1.0, 0.5 / float(gradient.norm())) / 20
    plan = dataclasses.replace(PLAN, sample_rate=0.0, steps=1, noise_multiplier=0.0)
    run(objective, units(), plan)
    torch.testing.assert_close(before - flat_parameters(objective.private), expected, rtol=1e-4, atol=1e-6)


# -- what the validator refuses, before anything is charged


class BatchMean(ToyObjective):
    def unit_losses(self, units, draw):
        losses = super().unit_losses(units, draw)
        return losses + losses.mean().detach()


class DividedByCount(ToyObjective):
    def unit_losses(self, units, draw):
        return super().unit_losses(units, draw) / len(units)


class FunctionalBatchNorm(ToyObjective):
    def unit_losses(self, units, draw):
        return super().unit_losses(nn.functional.batch_norm(units, None, None, training=True), draw)


class Packed(ToyObjective):
    def unit_losses(self, units, draw):
        return super().unit_losses((units + units.roll(1, 0)) / 2, draw)


class AroundItsLayer(ToyObjective):
    def unit_losses(self, units, draw):
        return super().unit_losses(units, draw) + (self.head.weight**2).sum()


class Reduced(ToyObjective):
    def unit_losses(self, units, draw):
        return super().unit_losses(units, draw).mean()


class Remembering(ToyObjective):
    def __init__(self):
        super().__init__()
        self.private.register_buffer("seen", torch.zeros(5))

    def unit_losses(self, units, draw):
        self.private.seen += units.detach().sum(0)
        return super().unit_losses(units, draw)


@pytest.mark.parametrize(
    "broken, message",
    [
        (BatchMean, "another"),
        (DividedByCount, "Leaving one unit out"),
        (FunctionalBatchNorm, "another"),
        (Packed, "another"),
        (AroundItsLayer, "head.weight"),
        (Reduced, "one loss per unit"),
        (Remembering, "buffer"),
    ],
)
def test_an_objective_that_couples_units_is_refused_before_the_charge(broken, message):
    ledger = CountingLedger()
    with pytest.raises(GuaranteeVoid, match=message):
        run(broken(), units(), ledger=ledger)
    assert ledger.charged == []


@pytest.mark.parametrize("settings", [{}, {"rows": 3}, {"twice": True}, {"dropout": 0.0}])
def test_sound_objectives_pass(settings):
    objective = toy(**settings)
    run(objective, torch.randn(50, *objective.shape))


def test_batch_norm_is_named_before_the_charge():
    objective, ledger = toy(), CountingLedger()
    objective.private["norm"] = nn.BatchNorm1d(5)
    with pytest.raises(InvalidInput, match="norm"):
        run(objective, units(), ledger=ledger)
    assert ledger.charged == []


def test_an_optimizer_over_other_parameters_is_refused():
    objective, ledger = toy(), CountingLedger()
    objective.optimizer = torch.optim.Adam(objective.head.parameters())
    with pytest.raises(GuaranteeVoid, match="exactly the trainable parameters"):
        run(objective, units(), ledger=ledger)
    assert ledger.charged == []


def test_gradient_accumulation_points_to_the_physical_batch_size():
    with pytest.raises(GuaranteeVoid, match="physical_batch_size"):
        run(toy(), units(), config=TrainingConfig(gradient_accumulation=2))


def test_a_plan_without_divisor_is_refused():
    ledger = CountingLedger()
    with pytest.raises(GuaranteeVoid, match="divisor"):
        run(toy(), units(), dataclasses.replace(PLAN, expected_batch_size=None), ledger)
    assert ledger.charged == []


def test_divergence_is_an_error():
    objective = toy()
    objective.after_step = lambda: objective.head.bias.data.fill_(math.inf)
    with pytest.raises(DpsynthError, match="diverged"):
        run(objective, units())


# -- schedules, averages, stopping


def test_schedules_follow_the_step_number():
    def factors(schedule, warmup):
        return [learning_rate_factor(s, steps=10, schedule=schedule, warmup_steps=warmup) for s in range(10)]

    assert factors("constant", 0) == [1.0] * 10
    assert factors("linear", 0) == pytest.approx([1 - s / 10 for s in range(10)])
    assert factors("cosine", 0)[0] == 1.0 and factors("cosine", 0)[5] == pytest.approx(0.5)
    assert factors("constant", 4)[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    with pytest.raises(ValueError, match="schedule"):
        factors("steps", 0)


def test_the_learning_rate_is_scaled_while_training():
    objective = toy()
    rates = []
    config = TrainingConfig(schedule="linear", warmup_steps=1)
    run(
        objective,
        units(),
        config=config,
        on_step=lambda p: rates.append(objective.optimizer.param_groups[0]["lr"]),
    )
    assert rates == pytest.approx([0.005, 0.01, 0.0075, 0.005, 0.0025])


def test_released_weights_are_averaged_over_steps():
    plain, averaged, seen = toy(), toy(), []
    run(plain, units(), on_step=lambda p: seen.append(flat_parameters(plain.head)))
    run(averaged, units(), config=TrainingConfig(ema_decay=0.5))
    expected = flat_parameters(toy().head)
    for count, weights in enumerate(seen, 1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(flat_parameters(averaged.head), expected)


def test_an_average_of_nothing_changes_nothing():
    objective = toy()
    before = flat_parameters(objective.head)
    WeightAverage(objective, 0.9).apply()
    assert torch.equal(before, flat_parameters(objective.head))


def test_public_validation_units_can_stop_training():
    class Flat(ToyObjective):
        def validation_loss(self, units, draw):
            return 1.0

    config = TrainingConfig(validation_every=2, early_stop_delta=0.1)
    plan = dataclasses.replace(PLAN, steps=50)
    log = run(Flat(), units(), plan, config=config, public_validation=units(10))
    assert log.steps == 8  # the first look sets the mark, three more fail to beat it
    assert log.validation_losses == [(2, 1.0), (4, 1.0), (6, 1.0), (8, 1.0)]


# -- checkpoints


class Crash(Exception):
    pass


def crash_at(step):
    def on_step(progress):
        if progress.steps_done == step:
            raise Crash

    return on_step


def test_a_resumed_run_continues_the_same_event_and_takes_exactly_the_planned_steps(tmp_path):
    plan, checkpoint = dataclasses.replace(PLAN, steps=10), Checkpoint(path=tmp_path / "state.pt", every=3)
    config = TrainingConfig(ema_decay=0.9, schedule="cosine")
    with pytest.raises(Crash):
        run(toy(), units(), plan, checkpoint=checkpoint, config=config, on_step=crash_at(8))
    steps, objective = [], toy()
    log = run(
        objective,
        units(),
        plan,
        checkpoint=checkpoint,
        config=config,
        on_step=lambda p: steps.append(p.steps_done),
    )
    assert log.resumed_at == 6 and steps == [7, 8, 9, 10]
    whole = toy()
    run(whole, units(), plan, config=config)
    assert objective.public_steps == whole.public_steps  # public draws go on where they stopped


def test_without_noise_and_coins_resumption_is_exact(tmp_path):
    plan = dataclasses.replace(PLAN, steps=6, sample_rate=1.0, noise_multiplier=0.0)
    config = TrainingConfig(ema_decay=0.9)
    whole, first, second = Sgd(), Sgd(), Sgd()
    for objective in (whole, first, second):
        objective.private.load_state_dict(whole.private.state_dict())
        objective.optimizer = torch.optim.Adam(objective.private.parameters(), lr=1e-2)
    run(whole, units(), plan, config=config)
    checkpoint = Checkpoint(path=tmp_path / "state.pt", every=2)
    with pytest.raises(Crash):
        run(first, units(), plan, config=config, checkpoint=checkpoint, on_step=crash_at(5))
    run(second, units(), plan, config=config, checkpoint=checkpoint)
    assert torch.equal(flat_parameters(whole.private), flat_parameters(second.private))


def test_a_resumed_run_draws_fresh_noise(tmp_path):
    plan, checkpoint = dataclasses.replace(PLAN, steps=4), Checkpoint(path=tmp_path / "state.pt", every=2)
    with pytest.raises(Crash):
        run(toy(), units(), plan, entropy=AesEntropy(), checkpoint=checkpoint, on_step=crash_at(3))
    saved = checkpoint.path.read_bytes()
    ends = []
    for _ in range(2):
        checkpoint.path.write_bytes(saved)
        objective = toy()
        run(objective, units(), plan, entropy=AesEntropy(), checkpoint=checkpoint)
        ends.append(flat_parameters(objective.private))
    assert not torch.equal(*ends)


def test_a_finished_checkpoint_trains_no_further(tmp_path):
    checkpoint = Checkpoint(path=tmp_path / "state.pt")
    objective = toy()
    run(objective, units(), checkpoint=checkpoint)
    again = toy()
    log = run(again, units(), checkpoint=checkpoint)
    assert log.resumed_at == PLAN.steps and log.conformance.steps == 0
    assert torch.equal(flat_parameters(objective.private), flat_parameters(again.private))


@pytest.mark.parametrize("change", ["ledger", "plan"])
def test_a_checkpoint_of_another_ledger_or_plan_is_refused_before_the_charge(tmp_path, change):
    checkpoint, ledger, plan = Checkpoint(path=tmp_path / "state.pt", every=2), CountingLedger(), PLAN
    run(toy(), units(), checkpoint=checkpoint)
    if change == "ledger":
        ledger.id = "other"
    else:
        plan = dataclasses.replace(PLAN, noise_multiplier=0.9)
    with pytest.raises(GuaranteeVoid, match=change):
        run(toy(), units(), plan, ledger, checkpoint=checkpoint)
    assert ledger.charged == []


def test_checkpoints_hold_no_entropy(tmp_path):
    checkpoint = Checkpoint(path=tmp_path / "state.pt")
    run(toy(), units(), checkpoint=checkpoint, entropy=AesEntropy())
    state = torch.load(checkpoint.path, weights_only=True)
    assert set(state) == {"version", "step", "ledger", "event", "plan", "objective", "parts", "torch"}
    assert set(state["parts"]) == {"draw", "average", "stopping"}


# -- without privacy


class Plain:
    """A published training that remembers how it was driven."""

    def __init__(self):
        self.net = nn.Linear(5, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.draws = []

    def bind(self, units):
        self.units = units

    @property
    def steps_per_epoch(self):
        return 4

    def step(self, draw):
        self.draws.append(float(torch.rand((), generator=draw)))
        loss = self.net(self.units).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}

    def optimizers(self):
        return [self.optimizer]

    def averaged(self):
        return self.net

    def validation_loss(self, units, draw):
        return float(self.net(units).square().mean())


def test_training_without_privacy_runs_epochs_or_steps_and_repeats():
    first, second = Plain(), Plain()
    second.net.load_state_dict(first.net.state_dict())
    config = TrainingConfig(epochs=3.0)
    logs = [train_without_privacy(o, units(), config, seed=4) for o in (first, second)]
    assert logs[0].steps == 12 and first.draws == second.draws
    assert torch.equal(flat_parameters(first.net), flat_parameters(second.net))
    assert train_without_privacy(Plain(), units(), TrainingConfig(steps=2), seed=4).steps == 2


def test_accumulated_gradients_of_two_batches_make_one_step_on_their_mean():
    torch.manual_seed(1)
    objective = Plain()
    first = flat_parameters(objective.net)
    gradient = torch.autograd.grad(objective.net(units()).square().mean(), list(objective.net.parameters()))
    config = TrainingConfig(steps=3, gradient_accumulation=2)
    ends = []
    train_without_privacy(
        objective, units(), config, seed=0, on_step=lambda p: ends.append(flat_parameters(objective.net))
    )
    # Full batches: both halves have this gradient. The third batch waits for a fourth.
    after = first - 0.1 * torch.cat([g.reshape(-1) for g in gradient])
    assert torch.equal(ends[0], first)
    torch.testing.assert_close(ends[1], after)
    assert torch.equal(ends[2], ends[1])
    assert "step" not in vars(objective.optimizer)


def test_averages_take_batch_norm_statistics_along():
    objective = toy()
    norm = nn.BatchNorm1d(3)
    objective.averaged = lambda: norm
    average = WeightAverage(objective, 0.5)
    norm(torch.full((4, 3), 7.0) + torch.randn(4, 3))
    average.update()
    moved = norm.running_mean.clone()
    average.apply()
    torch.testing.assert_close(norm.running_mean, moved * (1 - 2 / 11))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("noise", ["aes", "torch"])
def test_training_runs_on_a_gpu_with_the_same_mechanism(noise):
    class OnGpu(Sgd):
        def example_units(self, num, draw):
            return torch.randn(num, *self.shape, generator=draw, device="cuda")

    ends = []
    for device, kind in (("cpu", Sgd), ("cuda", OnGpu)):
        torch.manual_seed(1)
        objective = kind()
        objective.private.to(device)
        objective.optimizer = torch.optim.SGD(objective.private.parameters(), lr=1.0)
        plan = dataclasses.replace(PLAN, device=device, noise_multiplier=0.0, sample_rate=1.0, steps=2)
        run(objective, units(), plan)
        ends.append(flat_parameters(objective.private).cpu())
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-5)
    log = run(
        objective,
        units(),
        dataclasses.replace(PLAN, device="cuda", steps=40),
        entropy=make_entropy(noise, "cuda"),
    )
    assert abs(log.conformance.noise_stddev / 0.5 - 1) < 0.06


def test_a_validation_share_is_held_out_and_may_stop_training():
    objective = Plain()
    config = TrainingConfig(
        steps=100, validation_share=0.2, validation_every=5, early_stop_delta=1e9, epochs=None
    )
    log = train_without_privacy(objective, units(), config, seed=0)
    assert len(objective.units) == 80
    assert log.steps == 20 and [step for step, _ in log.validation_losses] == [5, 10, 15, 20]
