"""What every generator owes its users: one set of claims over every YAML in conf/generator."""

from __future__ import annotations

import dataclasses
import inspect
import json

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from toys import CountingLedger
from worlds import CONF, build, installed, read_config

from dpsynth.data.units.encoder import OfRows
from dpsynth.errors import InvalidInput
from dpsynth.generators import generator_names
from dpsynth.generators.base import load_generator
from dpsynth.privacy.configs import TrainingConfig
from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.plan.plan import TrainingPlan
from dpsynth.privacy.training.train import train

NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
TABULAR = [
    name
    for name in NAMES
    if installed(name) and issubclass(load_generator(name).Generator.encoder_type, OfRows)
]
TRAINED = [name for name in TABULAR if load_generator(name).Generator.trains]
ALLOWED = (nn.Linear, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.Tanh)


def world(name: str, private: bool, rows_per_unit: int | None = None, **overrides):
    module = load_generator(name)
    config = dataclasses.replace(module.Config(**read_config(name)), **overrides)
    return build(module, config, private=private, rows_per_unit=rows_per_unit)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_config_has_a_module_and_every_module_a_config():
    assert set(NAMES) == set(generator_names())


@pytest.mark.parametrize("name", NAMES)
def test_config_lists_every_setting_with_its_default(name):
    config = load_generator(name).Config
    settings = read_config(name)
    assert list(settings) == [field.name for field in dataclasses.fields(config)]
    loaded = TypeAdapter(config).validate_json(json.dumps(settings), strict=True)
    assert loaded == config()
    assert dataclasses.fields(config) == () or config.__dataclass_params__.frozen


@pytest.mark.parametrize("name", [n for n in TABULAR if hasattr(load_generator(n).Generator, "latent_model")])
def test_latent_model_is_the_mixture_from_which_rows_are_drawn(name):
    """Attacks on weights look at it. 4,000 rows and latents: five deviations are at most 0.06."""
    small = world(name, private=False)
    with torch.no_grad():  # away from uniform
        for parameter in small.generator.network.parameters():
            parameter.mul_(2.0)
    latent = small.generator.latent_model()
    segments, onehots = latent.segments, 1.0 - latent.segments.scalar_ones
    with torch.no_grad():
        logits = latent.logits(latent.draw(4000, draw()))
        shares = segments.probabilities(logits).mean(dim=0)
    rows = torch.from_numpy(small.generator._draw(4000, 1, None))
    drawn = segments.expand(rows).mean(dim=0) * onehots
    assert (shares - drawn).abs().max() < 0.06
    other = segments.probabilities(-logits).mean(dim=0)  # the twin
    assert (other - drawn).abs().max() > 0.06
    if segments.has_scalars and latent.stddev is None:
        made = logits[:, segments.scalars].tanh().mean(dim=0)
        assert (made - rows[:, segments.packed_scalars].mean(dim=0)).abs().max() < 0.06


def test_unknown_generator_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidInput, match="'ctgan'"):
        load_generator("ctgann")


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("name", TABULAR)
def test_sample_is_exact_in_number_and_valid_in_every_cell(name, private):
    small = world(name, private)
    batch = read_config(name).get("sampling_batch_size", 50)
    for num in (0, 1, 7, batch + 1):
        rows = small.generator.sample(num, seed=3)
        assert rows.shape == (num, small.encoder.layout.packed_width)
        assert rows.dtype == np.float32
        for index, segment in enumerate(small.encoder.layout.segments):
            low, high = (0, segment.size - 1) if segment.kind == "onehot" else (-1, 1)
            assert ((rows[:, index] >= low) & (rows[:, index] <= high)).all()
    assert list(small.encoder.decode(rows[:5], seed=0).columns) == list(small.table.columns)


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("name", TABULAR)
def test_equal_seeds_give_equal_bits_and_others_do_not(name, private):
    generator = world(name, private).generator
    first = generator.sample(300, seed=5)
    torch.manual_seed(99)
    assert np.array_equal(first, generator.sample(300, seed=5))
    assert not np.array_equal(first, generator.sample(300, seed=6))


@pytest.mark.parametrize("name", TABULAR)
def test_conditions_hold_in_every_row_also_where_values_were_merged(name):
    small = world(name, True)
    merged = small.encoder.statistics.domain["age"]
    assert merged.size < merged.fine_size
    wanted = {"town": "Dover", "member": True, "age": 41}
    rows = small.generator.sample(23, seed=0, conditions=wanted)
    decoded = small.encoder.decode(rows, seed=0, conditions=wanted)
    assert len(decoded) == 23
    for column, value in wanted.items():
        assert (decoded[column] == value).all()


@pytest.mark.parametrize("name", TABULAR)
def test_impossible_conditions_are_refused_all_at_once(name):
    with pytest.raises(InvalidInput) as error:
        world(name, True).generator.sample(3, seed=0, conditions={"town": "Paris", "shoe": 4})
    assert len(error.value.problems) == 2


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("name", TABULAR)
def test_state_is_the_released_part_and_samples_again_bit_for_bit(name, private):
    small = world(name, private)
    run_steps(small, private, 2)
    state = small.generator.state()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert not [key for key in state if "encoder" in key or "critic" in key or "discriminator" in key]
    again = small.rebuild(seed=77)
    again.load_state(state)
    assert np.array_equal(again.sample(200, seed=1), small.generator.sample(200, seed=1))


def run_steps(small, private: bool, steps: int) -> None:
    """Trains without noise, enough to move every weight."""
    generator, public = small.generator, draw()
    if not generator.trains:
        return
    if not private:
        plain = generator.plain_objective()
        plain.bind(small.units)
        for _ in range(steps):
            assert all(np.isfinite(list(plain.step(public).values())))
        return
    objective = generator.objective()
    optimizer = objective.private_optimizer()
    for step in range(steps):
        optimizer.zero_grad()
        objective.unit_losses(small.units[:50], public).mean().backward()
        optimizer.step()
        objective.after_step()
        objective.public_step(step, public)


@pytest.mark.parametrize("representation", ["bins", "modes"])
@pytest.mark.parametrize("name", TRAINED)
def test_private_module_has_only_layers_whose_gradients_can_be_clipped(name, representation):
    module = world(name, True, representation=representation).generator.objective().private
    leaves = [leaf for leaf in module.modules() if not list(leaf.children())]
    for leaf in leaves:
        assert getattr(leaf, "per_unit_parameter", False) or isinstance(leaf, ALLOWED), leaf
    owned = {id(p) for leaf in leaves for p in leaf.parameters()}
    assert {id(p) for p in module.parameters()} == owned


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("representation", ["bins", "modes"])
@pytest.mark.parametrize("name", TRAINED)
def test_changing_one_unit_changes_exactly_its_own_loss(name, representation, rows):
    small = world(name, True, representation=representation)
    objective, units = small.generator.objective(), small.units[:12].clone()
    if rows:
        units = units.reshape(4, rows, -1)
        units[1, 2] = torch.nan  # padding

    def losses(some: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)  # Dropout
        return objective.unit_losses(some, draw())

    before = losses(units)
    assert before.shape == (len(units),)
    assert before.isfinite().all()
    changed = units.clone()
    other = small.units[(small.units != small.units[6]).all(dim=1)][0]
    changed[2] = other
    different = (losses(changed) - before).abs() > 1e-5
    assert different.nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("name", TRAINED)
def test_a_mean_over_the_batch_would_be_found(name):
    """The broken twin of the test above."""
    small = world(name, True)
    objective, units = small.generator.objective(), small.units[:12]
    changed = units.clone()
    changed[2] = small.units[(small.units != small.units[2]).all(dim=1)][0]

    def centred(some: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        losses = objective.unit_losses(some, draw())
        return losses - losses.mean()

    assert ((centred(changed) - centred(units)).abs() > 1e-5).sum() > 1


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_public_never_asks_for_units(name):
    objective = world(name, True).generator.objective()
    for method in ("generated_losses", "penalty", "public_step"):
        assert "units" not in inspect.signature(getattr(objective, method)).parameters
    fakes = objective.generated_losses(5, draw())
    assert fakes is None or (fakes.shape == (5,) and fakes.requires_grad)
    penalty = objective.penalty(5, draw())
    assert penalty is None or penalty.shape == ()


@pytest.mark.parametrize("name", TRAINED)
def test_example_units_are_valid_codes(name):
    small = world(name, True)
    made = small.generator.objective().example_units(500, draw())
    assert made.shape == (500, *small.units.shape[1:])
    for index, segment in enumerate(small.encoder.layout.segments):
        assert set(made[:, index].tolist()) <= set(range(segment.size))


@pytest.mark.parametrize("rows_per_unit", [None, 3])
@pytest.mark.parametrize("name", TRAINED)
def test_three_private_steps_move_the_released_weights(name, rows_per_unit):
    small = world(name, True, rows_per_unit, **({"critic_steps": 1} if name == "ctgan" else {}))
    assert small.generator.objective().example_units(4, draw()).shape[1:] == small.units.shape[1:]
    before = small.generator.state()
    plan = TrainingPlan(
        sample_rate=0.2, steps=3, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=80.0
    )
    ledger = CountingLedger()
    log = train(
        small.generator.objective(),
        small.units,
        plan,
        ledger,
        FixedEntropy(0),
        seed=0,
        config=TrainingConfig(),
    )
    assert ledger.charged == ["training"]
    assert log.steps == 3
    after = small.generator.state()
    moved = [key for key in before if before[key].is_floating_point() and not before[key].equal(after[key])]
    assert moved
    assert all(value.isfinite().all() for value in after.values())


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("name", TRAINED)
def test_a_stored_objective_continues_where_it_was(name, private):
    def made():
        small = world(name, private)
        objective = small.generator.objective() if private else small.generator.plain_objective()
        if not private:
            objective.bind(small.units)
        return small, objective

    def steps(small, objective, public, num):
        torch.manual_seed(0)
        for step in range(num):
            if not private:
                objective.step(public)
                continue
            optimizer = objective.private_optimizer()
            optimizer.zero_grad()
            objective.unit_losses(small.units[:20], public).mean().backward()
            optimizer.step()
            objective.public_step(step, public)

    small, objective = made()
    steps(small, objective, draw(1), 3)
    stored = objective.state()
    stored = torch.load(_saved(stored), weights_only=True)
    other, continued = made()
    continued.load_state(stored)
    steps(small, objective, draw(2), 2)
    steps(other, continued, draw(2), 2)
    first, second = small.generator.state(), other.generator.state()
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in first)


def _saved(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
