"""The command lines of plan and verify, without their process."""

from __future__ import annotations

import pytest

from dpsynth import pipeline
from dpsynth.data.schema import Categorical, Integer, Schema
from dpsynth.data.tables.table import PrivateTable
from dpsynth.errors import InvalidInput
from dpsynth.generators import independent
from dpsynth.places import CONF
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from experiments import plan as plan_entry
from experiments import verify as verify_entry

SCHEMA = Schema(columns=(Integer(name="age", min=0, max=9), Categorical(name="sex", values=("f", "m"))))


@pytest.fixture
def release(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"age": [1, 2, 3] * 40, "sex": ["f", "m", "f"] * 40})
    recipe = pipeline.Recipe(
        generator="independent",
        settings=independent.Config(),
        privacy=PrivacyConfig(),
        training=TrainingConfig(),
    )
    pipeline.run(PrivateTable(frame, SCHEMA), recipe, tmp_path)
    return tmp_path / "release"


def test_verify_prints_its_checks_and_leaves_with_their_verdict(release, capsys):
    verify_entry.main({"release": str(release)})
    assert "verified: epsilon=1, delta=1e-05" in capsys.readouterr().out
    with open(release / "release.json", "ab") as file:
        file.write(b" ")
    with pytest.raises(SystemExit) as left:
        verify_entry.main({"release": str(release)})
    assert left.value.code == 1
    assert "FAIL  hashes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "node", [{"release": None}, {"release": "/no/such/folder"}, {"release": ".", "relase": 1}]
)
def test_verify_names_what_is_wrong_with_its_command_line(node):
    with pytest.raises(InvalidInput):
        verify_entry.checked(node)


def test_a_run_is_priced_without_reading_its_table(monkeypatch):
    from hydra import compose, initialize_config_dir

    from dpsynth.config import parse

    monkeypatch.setattr("dpsynth.data.tables.datasets.load", lambda *_: pytest.fail("the table was read"))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("plan", overrides=["generator=independent", "privacy.epsilon=2"])
    text = plan_entry.text_of(parse(node))
    assert "Claim: epsilon=2" in text and "columns/histograms" in text
