"""Runs that leave out a part of privacy do what they say, and are stamped NON-PRIVATE."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dpsynth import pipeline
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import InvalidInput
from dpsynth.generators import ctgan, tvae
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.plan.pricing import describe_plan
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.verify import verify
from tests.support.worlds import SCHEMA, make_table

FREE = {"size": "small", "anchor_steps": 2, "fit_pool": 2_000}
SETTINGS = {"tvae": tvae.Config(warm_steps=2, **FREE), "ctgan": ctgan.Config(**FREE)}


def recipe(privacy: str, name: str = "tvae") -> pipeline.Recipe:
    return pipeline.Recipe(
        generator=name,
        settings=SETTINGS[name],
        privacy=PrivacyConfig(name=privacy, epsilon=1.0, delta=1e-4),
        training=TrainingConfig(steps=4, sample_rate=0.2, max_grad_norm=0.5),
    )


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("privacy", ["clipping", "encoding"])
def test_a_part_of_privacy_is_stamped_non_private_and_can_be_sampled_again(name, privacy, tmp_path):
    run = pipeline.run(PrivateTable(make_table(400), SCHEMA), recipe(privacy, name), tmp_path)
    release = Release.load(tmp_path / "release")
    assert release.claim == "NON-PRIVATE" and not release.private and release.certificate["delta"] is None
    assert verify(tmp_path / "release").passed and "Protects nobody" in describe_plan(run.plan)
    again = pipeline.sample(release, len(release.synthetic), seed=0)
    pd.testing.assert_frame_equal(again, release.synthetic)


def test_clipping_alone_clips_and_adds_no_noise(tmp_path):
    run = pipeline.run(PrivateTable(make_table(400), SCHEMA), recipe("clipping"), tmp_path)
    done = run.training.conformance
    assert done.steps == 4 and done.noise_stddev == 0.0 and 0.0 < done.max_clipped_norm <= 0.5
    counts = [marginal.counts for marginal in run.release.statistics.fine.values()]
    assert all(np.array_equal(count, np.round(count)) and count.min() >= 0 for count in counts)
    # The twin: with noise, the same figures show it.
    private = pipeline.run(PrivateTable(make_table(400), SCHEMA), recipe("dp"), tmp_path / "dp")
    assert private.training.conformance.noise_stddev > 0.1
    assert any((marginal.counts < 0).any() for marginal in private.release.statistics.fine.values())


def test_bought_statistics_alone_cost_what_they_cost_under_privacy():
    encoding, private = (pipeline.plan(SCHEMA, recipe(name)) for name in ("encoding", "dp"))
    assert encoding.training is None and not encoding.private
    for event in encoding.events:
        expected = 0.0 if event.stage == "training" else private.event(event.name).noise_multiplier
        assert event.noise_multiplier == expected


def test_bought_statistics_need_a_budget():
    with pytest.raises(InvalidInput, match="privacy.epsilon"):
        PrivacyConfig(name="encoding", epsilon=None)
    assert PrivacyConfig(name="clipping", epsilon=None).total_epsilon == float("inf")
