"""Every mistake in a configuration is found, shown at once, and in time: before anything heavy or private."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from dpsynth.config import SECTIONS, RunConfig, parse
from dpsynth.data.units.encoder import OfSequences
from dpsynth.errors import InvalidInput
from dpsynth.generators import generator_names
from dpsynth.methods import encoder_of
from dpsynth.places import CONF
from experiments import overrides

ROOT = Path(__file__).resolve().parents[2]


def composed(*words: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(words))


@pytest.fixture(scope="module")
def plain() -> dict:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(composed("generator=tvae"), resolve=True)


def problems_of(node) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        parse(node)
    return {problem.where: str(problem) for problem in caught.value.problems}


def test_the_default_configuration_becomes_frozen_dataclasses():
    config = parse(composed())
    assert isinstance(config, RunConfig) and config.seed == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.privacy.epsilon = 100.0


CHOICES = [p for group in (*SECTIONS, "generator") for p in CONF.glob(f"{group}/*.yaml")]
# The other audits attack a finished release (experiments.audit), and none has nothing to set.
CHOICES = [p for p in CHOICES if p.parent.name != "audit" or p.stem == "smoke"]

# What a choice about sequences goes together with.
ORDERED = {f"data/{name}.yaml": ["generator=dgan"] for name in ("nlswork", "weather_days")}
ORDERED |= {
    f"generator/{name}.yaml": ["data=nlswork"]
    for name in generator_names()
    if encoder_of(name) is OfSequences
}


@pytest.mark.parametrize("choice", sorted(str(path.relative_to(CONF)) for path in CHOICES))
def test_every_choice_of_every_group_lists_exactly_the_keys_of_its_dataclass(choice):
    group, name = choice.removesuffix(".yaml").split("/")
    node = composed(f"{group}={name}", *ORDERED.get(choice, ()))
    if group == "data" and name == "csv":
        assert set(problems_of(node)) == {"data.path", "data.schema"}
        return
    config = parse(node)
    keys = {field.name for field in dataclasses.fields(getattr(config, group))}
    assert keys == set(node[group]) - ({"name"} if group == "generator" else set())


def test_a_method_that_does_not_fit_the_table_is_refused_with_those_that_do():
    found = problems_of(composed("data=nlswork", "generator=tvae"))
    assert list(found) == ["generator"]
    assert "tvae is for rows" in found["generator"] and "sequences by idcode" in found["generator"]
    assert "Use one of arima, dgan, sequence_independent, var" in found["generator"]
    assert "sequence: null" in found["generator"]
    turned = problems_of(composed("data=hi", "generator=dgan"))["generator"]
    assert "dgan is for sequences" in turned and "declares rows" in turned and "tvae" in turned


def test_all_mistakes_are_shown_at_once_with_the_nearest_name(plain):
    node = copy.deepcopy(plain)
    node["privacy"]["epsilom"] = 1.0
    node["privacy"]["delta"] = 2.0
    node["training"]["steps"] = "many"
    node["data"]["target"] = "whii"
    node["generator"]["name"] = "ctgn"
    node["sead"] = 1
    found = problems_of(node)
    assert len(found) == 6
    assert "Did you mean 'epsilon'?" in found["privacy.epsilom"]
    assert "delta=2.0" in found["privacy.delta"]
    assert "integer" in found["training.steps"] and "'many'" in found["training.steps"]
    assert "Did you mean 'whi'?" in found["data.target"]
    assert "'ctgn' is not a generator" in found["generator"]
    assert "Did you mean 'seed'?" in found["sead"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("privacy.epsilon", "1"),
        ("privacy.epsilon", True),
        ("privacy.epsilon", -1.0),
        ("privacy.name", "maybe"),
        ("training.steps", 1.5),
        ("training.max_grad_norm", 0.0),
        ("evaluation.confidence", 1.5),
        ("evaluation.models", "boosting"),
        ("tracking.experiment", ""),
        ("sweep.resume", 3),
        ("holdout_share", 1.0),
        ("seed", -1),
        ("seed", "0"),
        ("num_rows", 0),
    ],
)
def test_wrong_types_and_ranges_name_the_key(plain, key, value):
    node = copy.deepcopy(plain)
    group, _, leaf = key.rpartition(".")
    (node[group] if group else node)[leaf] = value
    found = problems_of(node)
    assert len(found) == 1 and next(iter(found)) in (key, group)


def test_settings_flatten_to_what_one_types():
    flat = parse(composed("privacy.epsilon=2.5", "generator=tvae")).flat()
    assert flat["privacy.epsilon"] == 2.5 and flat["generator.name"] == "tvae" and flat["seed"] == 0


def test_the_digest_tells_runs_apart_but_not_where_they_are_recorded():
    base = parse(composed()).digest
    assert base == parse(composed("tracking=none", "sweep.resume=somewhere")).digest
    changed = {
        parse(composed(word)).digest for word in ("seed=1", "privacy.epsilon=2", "generator=independent")
    }
    assert len(changed | {base}) == 4


@pytest.mark.parametrize("name", generator_names())
def test_a_generators_settings_do_not_wait_for_torch(name):
    code = f"import sys, dpsynth.generators.{name} as method; method.Config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    method = importlib.import_module(f"dpsynth.generators.{name}")
    assert method.Generator.name == name and not hasattr(method, "Generators")


def checked(*words: str, multirun: bool = False):
    from hydra._internal.utils import get_args_parser

    args = get_args_parser().parse_args([*words, *(["-m"] if multirun else [])])
    return overrides.check(args, "train", lambda node: parse(node))


def mistakes(*words: str, multirun: bool = False) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        checked(*words, multirun=multirun)
    return {problem.where: str(problem) for problem in caught.value.problems}


def test_a_command_line_shows_hydras_mistakes_and_ours_together():
    found = mistakes(
        "generator=tvea", "privacy.epsilom=1", "a=[1", "seed=-1", "foo.bar=1", "data.target=whii"
    )
    assert len(found) == 6
    assert "Did you mean 'tvae'?" in found["generator=tvea"]
    assert "Did you mean 'epsilon'?" in found["privacy.epsilom"]


def test_a_mistake_in_any_point_of_a_sweep_is_found_before_the_first_job():
    found = mistakes("privacy.epsilon=1,x,2", "generator=tvae,tvea,independent", "seed=0,1", multirun=True)
    assert set(found) == {"privacy.epsilon", "generator=tvea"}
    found = mistakes("generator=tvae,independent", "generator.loss_factor=1,2", multirun=True)
    assert set(found) == {"generator.loss_factor (with generator=independent)"}


def test_mistakes_that_only_a_combination_has_are_found():
    found = mistakes("privacy.epsilon=null,1", "privacy.noise_multiplier=null,1.0", multirun=True)
    assert any("privacy" in where for where in found)


def test_a_list_of_values_without_multirun_says_what_to_add():
    assert "Add -m" in mistakes("seed=0,1")["seed"]


def test_points_are_counted():
    command = checked("generator=tvae,independent", "privacy.epsilon=1,2,4", "seed=range(0,5)", multirun=True)
    assert command.num_points == 30 and command.first.generator_name == "tvae"
    assert checked("seed=3").first.seed == 3


def test_deleted_and_added_keys_are_judged_by_the_dataclasses():
    assert set(mistakes("~seed")) == {"seed"}
    assert set(mistakes("+privacy.epsilom=1")) == {"privacy.epsilom"}


HEAVY = {"torch", "mlflow", "opacus", "pandas", "sklearn", "scipy", "dp_accounting"}


def imports_to_answer(words: list[str], code: int, folder: Path) -> set[str]:
    """Runs the command in a fresh process; returns the top-level modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "experiments.train", *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    lines = (line.rsplit("|", 1) for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {name.strip().split(".")[0] for _, name in lines}


@pytest.mark.parametrize(
    ("words", "code"), [(["--help"], 0), (["privacy.epsilom=1", "generator=tvea", "data.target=whii"], 2)]
)
def test_help_and_mistakes_wait_for_nothing_heavy(words, code, tmp_path):
    """Importing torch or mlflow costs seconds; without them an answer takes about one."""
    imported = imports_to_answer(words, code, tmp_path)
    assert "hydra" in imported and not imported & HEAVY
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("entry", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_no_key_of_an_entry_point_has_the_name_of_a_group_of_another(entry):
    """Hydra would take `release=DIR` for a choice of a group, wherever that group is used."""
    content = yaml.safe_load((CONF / f"{entry}.yaml").read_text(encoding="utf-8"))
    own = {key for item in content.get("defaults", ()) if isinstance(item, dict) for key in item}
    groups = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    assert not (set(content) & groups) - own
