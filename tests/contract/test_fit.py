"""Which method fits which schema: said by its encoder, known without importing it, held everywhere."""

from __future__ import annotations

from dataclasses import replace

import panels
import pytest
from worlds import CONF, SCHEMA, installed

from dpsynth import pipeline
from dpsynth.data.schema import Identifier, Unit
from dpsynth.data.tables.table import PrivateTable
from dpsynth.data.units.units import units_of
from dpsynth.errors import GuaranteeVoid, InvalidInput
from dpsynth.generators.base import load_generator
from dpsynth.methods import encoder_of, fit_problems
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.noise.entropy import FixedEntropy

NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
ENTITIES = replace(
    SCHEMA, columns=(Identifier(name="who"), *SCHEMA.columns), unit=Unit(column="who", max_rows=3)
)
SCHEMAS = {"rows": SCHEMA, "entities": ENTITIES, "sequences": panels.SCHEMA}
REFUSED = [
    (name, kind) for name in NAMES for kind, schema in SCHEMAS.items() if fit_problems(name, schema, NAMES)
]


def recipe(name: str) -> pipeline.Recipe:
    return pipeline.Recipe(
        generator=name,
        settings=load_generator(name).Config(),
        privacy=PrivacyConfig(epsilon=1.0, delta=1e-4),
        training=TrainingConfig(steps=2, sample_rate=0.1, epochs=None),
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_off_a_method_is_what_it_does(name):
    method = load_generator(name).Generator
    assert issubclass(method.encoder_type, encoder_of(name))
    assert method.encoder_type.accepts == encoder_of(name).accepts
    assert {type(units_of(schema)) for schema in SCHEMAS.values()} & set(method.encoder_type.accepts)


def test_some_pairs_are_refused():
    assert ("tvae", "sequences") in REFUSED and ("dgan", "rows") in REFUSED
    assert ("tvae", "entities") not in REFUSED and ("var", "sequences") not in REFUSED


@pytest.mark.parametrize("name, kind", REFUSED, ids="-".join)
def test_a_refused_pair_is_refused_before_a_read(name, kind, tmp_path, monkeypatch):
    """One text by plan and by run; no ledger is opened, so nothing can have been read."""
    monkeypatch.setattr(PrivateTable, "read", lambda *_: pytest.fail("was read"))
    schema, texts = SCHEMAS[kind], []
    frame = units_of(schema).example()
    for ask in (
        lambda: pipeline.plan(schema, recipe(name)),
        lambda: pipeline.request(schema, recipe(name)),
        lambda: pipeline.run(PrivateTable(frame, schema), recipe(name), tmp_path / "run"),
    ):
        with pytest.raises(InvalidInput) as caught:
            ask()
        texts.append(str(caught.value))
    assert len(set(texts)) == 1 and not (tmp_path / "run").exists()
    (problem,) = caught.value.problems
    fitting = [other for other in NAMES if (other, kind) not in REFUSED]
    assert name in problem.rule and units_of(schema).kind in problem.rule
    assert fitting and all(other in problem.fix for other in fitting)


def test_forgetting_the_order_is_a_way_out():
    flat = replace(panels.SCHEMA, sequence=None)
    assert fit_problems("tvae", panels.SCHEMA, NAMES) and not fit_problems("tvae", flat, NAMES)
    found = pipeline.plan(flat, recipe("independent")).event("columns/histograms")
    assert found.sensitivity == pytest.approx(6 * len(flat.modelled) ** 0.5)  # rows of one weigh 1 each


def test_an_encoder_of_other_units_is_void(tmp_path, monkeypatch):
    """The broken twin: a method that encodes rows for a plan that protects entities."""
    method = load_generator("bayes_net").Generator
    honest = method.encoder.__func__

    def forgetful(cls, config, schema, statistics, *, private):
        return honest(cls, config, replace(schema, unit=Unit(column="who")), statistics, private=private)

    monkeypatch.setattr(method, "encoder", classmethod(forgetful))
    frame = units_of(ENTITIES).example(40)
    with pytest.raises(GuaranteeVoid, match="other units"):
        pipeline.run(
            PrivateTable(frame, ENTITIES), recipe("bayes_net"), tmp_path / "run", entropy=FixedEntropy()
        )


def test_methods_that_are_not_installed_are_known_all_the_same():
    assert all(encoder_of(name).accepts for name in NAMES if not installed(name))
