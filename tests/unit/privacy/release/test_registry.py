"""The entry for a register is the certificate's, and says all that the register asks."""

from __future__ import annotations

import json

import pytest
import yaml

from dpsynth.errors import InvalidInput
from experiments import report
from experiments.registry import write_entry
from tests.unit.privacy.release.test_statement import released  # noqa: F401  fixture


@pytest.mark.parametrize("name", ["entry.yaml", "entry.json"])
def test_an_entry_repeats_the_certificate(released, tmp_path, name):  # noqa: F811
    write_entry(released, tmp_path / name)
    text = (tmp_path / name).read_text()
    found = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
    stated = json.loads((released / "certificate.json").read_text())
    assert found["privacy"]["flavor"] == stated["definition"]
    assert found["accounting"]["events"] == stated["events"] and found["files"] == stated["files"]
    assert found["implementation"]["versions"]["commit"]
    assert found["deployment"]["intended_use"] == "teaching" and found["deployment"]["curator"] is None


def test_an_entry_needs_a_release_and_an_ending(released, tmp_path):  # noqa: F811
    plain = {"real": False, "tracking": {"name": "none"}}
    for wrong in ({"release": str(released), "registry": "x.txt"}, {"sweep": "1", "registry": "x.yaml"}):
        with pytest.raises(InvalidInput, match="registry"):
            report.checked(plain | wrong)


def test_what_was_spent_is_said_rounded_up():
    from dpsynth.privacy.many_runs.costs import Spent

    said = Spent(epsilon=1.00001, delta=1e-5, num_runs=2, num_open=0).text()
    assert "epsilon=1.001 at delta=1e-05" in said


@pytest.mark.parametrize("name", ["verify", "sample", "report", "audit", "evaluate"])
def test_release_names_a_folder_on_every_command(name):
    """A group of that name in conf/ would take the word away from them."""
    from hydra import compose, initialize_config_dir

    from dpsynth.places import CONF

    assert not (CONF / "release").exists()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose(name, overrides=["release=/some/where"]).release == "/some/where"
