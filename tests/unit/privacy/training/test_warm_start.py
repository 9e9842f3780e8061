"""Warm start: the private network learns from made rows before it sees a unit, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import joints
import pytest
import torch

from dpsynth import pipeline
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import InvalidInput
from dpsynth.generators.base import load_generator
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.training.warm_start import warm_started

SMALL = {"size": "small", "anchor_steps": 30, "anchor_batch_size": 200, "fit_pool": 2_000}
WARM = TrainingConfig(warm_start="anchored", warm_start_steps=40)


def made(name: str):
    """A generator that has been fitted to bought pairs."""
    module, statistics = load_generator(name), joints.buy(joints.make_table(2_000), noise_stddev=5.0)
    config = module.Config(**SMALL, **({"warm_steps": 0} if name == "tvae" else {}))
    encoder = module.Generator.encoder(config, joints.SCHEMA, statistics, private=True)
    generator = module.Generator(config, encoder, statistics, seed=0, private=True)
    generator.fit_public()
    return generator


def weights(objective) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in objective.private.state_dict().items()}


def test_the_loss_on_real_rows_falls_before_any_was_read():
    real = joints.make_table(500, seed=1)

    def loss(config: TrainingConfig) -> float:
        generator = made("tvae")
        objective = warm_started(generator, config, seed=0)
        units = torch.from_numpy(generator.encoder.encode(real))
        return float(objective.unit_losses(units, torch.Generator().manual_seed(0)).mean().detach())

    assert loss(replace(WARM, warm_start_steps=200)) < loss(TrainingConfig()) - 0.5  # nats


@pytest.mark.parametrize("name", ["tvae", "ctgan"])
def test_equal_seeds_give_equal_weights_and_the_private_network_moves(name):
    first, again, cold = (
        weights(warm_started(made(name), config, seed=0)) for config in (WARM, WARM, TrainingConfig())
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], cold[key]) for key in first)


@pytest.mark.parametrize("name", ["tvae", "ctgan"])
def test_a_run_with_a_warm_start_buys_the_same_and_is_released(name, tmp_path):
    schema = replace(joints.SCHEMA, num_units=500)
    recipe = pipeline.Recipe(
        generator=name,
        settings=load_generator(name).Config(**SMALL),
        privacy=PrivacyConfig(epsilon=2.0, delta=1e-4),
        training=replace(WARM, steps=3, epochs=None),
    )
    cold = replace(recipe, training=TrainingConfig(steps=3, epochs=None))
    assert pipeline.plan(schema, recipe).to_dict() == pipeline.plan(schema, cold).to_dict()
    run = pipeline.run(PrivateTable(joints.make_table(500), schema), recipe, tmp_path)
    assert len(run.release.synthetic) > 0 and run.training.steps == 3


def test_units_of_several_rows_are_made_of_one_and_empty_ones():
    from dpsynth.privacy.training.warm_start import _as_units

    class Objective:
        def example_units(self, num, draw):
            return torch.zeros(num, 3, 2)

    units = _as_units(torch.ones(4, 2), Objective(), "cpu")
    assert units.shape == (4, 3, 2) and units[:, 0].eq(1).all() and units[:, 1:].isnan().all()


@pytest.mark.parametrize(
    "name, settings, privacy, rule",
    [
        ("tvae", {"anchor_weight": 0.0}, {}, "needs a network to train"),
        ("marginal_net", {}, {}, "needs a network to train"),
        ("tvae", {}, {"name": "none"}, "there is none"),
    ],
)
def test_a_warm_start_without_anything_to_warm_is_refused(name, settings, privacy, rule):
    recipe = pipeline.Recipe(
        generator=name,
        settings=load_generator(name).Config(**settings),
        privacy=PrivacyConfig(**privacy),
        training=WARM,
    )
    with pytest.raises(InvalidInput, match=rule):
        pipeline.plan(replace(joints.SCHEMA, num_units=500), recipe)
