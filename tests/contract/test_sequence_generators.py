"""What every generator of sequences owes its users: the entity with all its rows is the unit."""

from __future__ import annotations

import dataclasses
import inspect
import io

import numpy as np
import panels
import pytest
import torch
from toys import CountingLedger
from worlds import CONF, read_config

from dpsynth.data.units.encoder import OfSequences
from dpsynth.data.units.units import RESOLUTION
from dpsynth.errors import InvalidInput
from dpsynth.generators.base import load_generator
from dpsynth.privacy.configs import TrainingConfig
from dpsynth.privacy.noise.entropy import FixedEntropy
from dpsynth.privacy.plan.plan import TrainingPlan
from dpsynth.privacy.training.train import train

NAMES = sorted(
    path.stem
    for path in CONF.glob("*.yaml")
    if issubclass(load_generator(path.stem).Generator.encoder_type, OfSequences)
)
SCHEMAS = {"variable": panels.SCHEMA, "fixed": panels.CALENDAR}
SMALL = {"attribute_num_units": 8, "feature_num_units": 8, "batch_size": 16, "private_batch_size": 64}
SMALL |= {"adversarial_weight": 1.0}  # of critics, which read units
ALLOWED = (torch.nn.Linear,)

every_name = pytest.mark.parametrize("name", NAMES)
every_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
both_ways = pytest.mark.parametrize("private", [True, False])


def world(name: str, private: bool, schema=panels.SCHEMA, *, small: bool = True, **more) -> panels.World:
    module = load_generator(name)
    known = {field.name for field in dataclasses.fields(module.Config)}
    settings = read_config(name) | ({key: v for key, v in SMALL.items() if key in known} if small else {})
    return panels.build(module, module.Config(**settings), private=private, schema=schema, **more)


# Methods without a network have questions, and so histograms, without privacy too: they always buy.
TRAINED = [name for name in NAMES if load_generator(name).Generator.trains]


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@every_schema
@both_ways
@every_name
def test_sample_is_exact_in_number_and_valid_in_every_cell(name, private, schema):
    small = world(name, private, schema)
    layout = small.encoder.layout
    for num in (0, 1, 7, 61):
        units = small.generator.sample(num, seed=3)
        assert units.shape == (num, layout.packed_width) and units.dtype == np.float32
    attributes, additional, lengths, features = layout.split(units)
    low = 0.0 if layout.normalization == "ZERO_ONE" else -1.0
    for group, segments in ((attributes, layout.attributes), (features, layout.features)):
        for index, segment in enumerate(segments):
            values = group[..., index]
            top = 1.0 if segment.kind == "scalar" else segment.size - 1
            assert ((values >= low) & (values <= top)).all()
            assert segment.kind == "scalar" or (values == np.round(values)).all()
    assert np.isfinite(additional).all()
    table = small.encoder.decode(units, seed=0)
    assert list(table.columns) == list(small.table.columns)
    counts = table.groupby("who").size()
    assert len(counts) == 61
    assert counts.between(schema.sequence.min_length, schema.sequence.max_length).all()
    assert (table.groupby("who")["group"].nunique() == 1).all()
    assert table["wage"].between(0, 100).all() and np.isfinite(table["wage"]).all()
    assert (table["year"].groupby(table["who"]).diff().dropna() > 0).all()


@every_name
def test_noise_alone_gives_valid_sequences_too(name):
    small = world(name, True, noise_stddev=300.0)
    table = small.encoder.decode(small.generator.sample(40, seed=0), seed=0)
    assert table["who"].nunique() == 40 and table["wage"].between(0, 100).all()


@both_ways
@every_name
def test_equal_seeds_give_equal_bits_and_others_do_not(name, private):
    generator = world(name, private).generator
    first = generator.sample(50, seed=5)
    torch.manual_seed(99)
    assert np.array_equal(first, generator.sample(50, seed=5))
    assert not np.array_equal(first, generator.sample(50, seed=6))


@both_ways
@every_name
def test_conditions_on_attributes_hold_in_every_row(name, private):
    small, wanted = world(name, private), {"group": "b", "born": 1961}
    units = small.generator.sample(23, seed=0, conditions=wanted)
    table = small.encoder.decode(units, seed=0, conditions=wanted)
    assert table["who"].nunique() == 23
    assert (table["group"] == "b").all() and (table["born"] == 1961).all()


@every_name
def test_impossible_conditions_are_refused_all_at_once(name):
    wanted = {"group": "z", "born": 1800, "wage": 1.0, "shoe": 4}
    with pytest.raises(InvalidInput) as error:
        world(name, True).generator.sample(3, seed=0, conditions=wanted)
    assert len(error.value.problems) == 4


@every_schema
@every_name
def test_an_entity_adds_at_most_one_to_every_histogram_that_is_bought(name, schema):
    small = world(name, True, schema)
    for question in world(name, True, schema, small=False).generator.questions(
        load_generator(name).Config(), schema, private=True
    ):
        for unit in small.units[:20].numpy():
            counts = small.encoder.count(question, unit[None])
            assert counts.min() >= 0 and counts.sum() <= RESOLUTION, question


@both_ways
@every_name
def test_state_is_the_released_part_and_samples_again_bit_for_bit(name, private):
    small = world(name, private)
    run_steps(small, private, 2)
    state = small.generator.state()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert not [key for key in state if "critic" in key or "whole" in key or "context" in key]
    again = small.rebuild(seed=77 if state else 0)
    again.load_state(state)
    assert np.array_equal(again.sample(40, seed=1), small.generator.sample(40, seed=1))


def run_steps(small: panels.World, private: bool, steps: int) -> None:
    """Trains without noise, enough to move every weight."""
    generator, public = small.generator, draw()
    if not generator.trains:
        return
    objective = generator.objective() if private else generator.plain_objective()
    take_steps(objective, small.units, private, public, steps)


def take_steps(objective, units: torch.Tensor, private: bool, public: torch.Generator, steps: int) -> None:
    if not private:
        objective.bind(units)
        for _ in range(steps):
            assert all(np.isfinite(list(objective.step(public).values())))
        return
    optimizer = objective.private_optimizer()
    for step in range(steps):
        optimizer.zero_grad()
        objective.unit_losses(units[:30], public).mean().backward()
        optimizer.step()
        objective.after_step()
        objective.public_step(step, public)


@pytest.mark.parametrize("name", TRAINED)
def test_private_module_has_only_layers_whose_gradients_can_be_clipped(name):
    module = world(name, True).generator.objective().private
    leaves = [leaf for leaf in module.modules() if not list(leaf.children())]
    assert all(isinstance(leaf, ALLOWED) for leaf in leaves), leaves
    owned = {id(p) for leaf in leaves for p in leaf.parameters()}
    assert {id(p) for p in module.parameters()} == owned


def changed_losses(name: str, schema, losses_of) -> list[int]:
    """Numbers of the units whose loss changes when unit 2 takes the place of another entity."""
    small = world(name, True, schema)
    objective, units = small.generator.objective(), small.units[:12]
    changed = units.clone()
    changed[2] = next(other for other in small.units[12:] if (other != units[2]).sum() > 5)
    before, after = (losses_of(objective, some) for some in (units, changed))
    assert before.shape == (12,) and before.isfinite().all()
    return ((after - before).abs() > 1e-5).nonzero().flatten().tolist()


@every_schema
@pytest.mark.parametrize("name", TRAINED)
def test_changing_one_entity_changes_exactly_its_own_loss(name, schema):
    assert changed_losses(name, schema, lambda objective, some: objective.unit_losses(some, draw())) == [2]


@pytest.mark.parametrize("name", TRAINED)
def test_a_mean_over_the_batch_would_be_found(name):
    """The broken twin of the test above."""

    def centred(objective, some: torch.Tensor) -> torch.Tensor:
        losses = objective.unit_losses(some, draw())
        return losses - losses.mean()

    assert len(changed_losses(name, panels.SCHEMA, centred)) > 1


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_public_never_asks_for_units(name):
    objective = world(name, True).generator.objective()
    for method in ("generated_losses", "penalty", "public_step"):
        assert "units" not in inspect.signature(getattr(objective, method)).parameters
    fakes = objective.generated_losses(5, draw())
    assert fakes is None or (fakes.shape == (5,) and fakes.requires_grad)
    penalty = objective.penalty(5, draw())
    assert penalty is None or penalty.shape == ()


@every_schema
@pytest.mark.parametrize("name", TRAINED)
def test_example_units_are_valid(name, schema):
    small = world(name, True, schema)
    made = small.generator.objective().example_units(200, draw()).numpy()
    assert made.shape == (200, small.units.shape[1])
    again = small.encoder.encode(small.encoder.decode(made, seed=0))
    _, _, lengths, features = small.encoder.layout.split(made)
    assert np.array_equal(small.encoder.layout.split(again)[2], lengths)
    for index, segment in enumerate(small.encoder.layout.features):
        assert set(np.unique(features[..., index])) <= set(range(segment.size))


@every_schema
@pytest.mark.parametrize("name", TRAINED)
def test_three_private_steps_are_one_event_and_move_the_released_weights(name, schema):
    small = world(name, True, schema)
    before, ledger = small.generator.state(), CountingLedger()
    plan = TrainingPlan(
        sample_rate=0.2, steps=3, noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=12.0
    )
    objective = small.generator.objective()
    log = train(objective, small.units, plan, ledger, FixedEntropy(0), seed=0, config=TrainingConfig())
    assert ledger.charged == ["training"] and log.steps == 3
    after = small.generator.state()
    moved = [key for key in before if before[key].is_floating_point() and not before[key].equal(after[key])]
    assert moved and all(value.isfinite().all() for value in after.values())


@both_ways
@pytest.mark.parametrize("name", TRAINED)
def test_a_stored_objective_continues_where_it_was(name, private):
    def made():
        small = world(name, private)
        return small, small.generator.objective() if private else small.generator.plain_objective()

    small, objective = made()
    take_steps(objective, small.units, private, draw(1), 3)
    torch.save(objective.state(), buffer := io.BytesIO())
    buffer.seek(0)
    other, continued = made()
    if not private:
        continued.bind(other.units)
    continued.load_state(torch.load(buffer, weights_only=True))
    for one, its in ((objective, small), (continued, other)):
        public = draw(2)
        if private:
            take_steps(one, its.units, True, public, 2)
        else:
            for _ in range(2):
                one.step(public)
    first, second = small.generator.state(), other.generator.state()
    assert all(torch.equal(first[key], second[key]) for key in first)
