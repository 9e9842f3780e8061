"""The benchmark measures what it says, in turns, and records it."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from dpsynth.errors import InvalidInput
from dpsynth.places import CONF
from experiments.benchmark import checked, main
from experiments.benchmarks import sequences, speed
from experiments.benchmarks.harness import Figure, interleave, milliseconds, ratio

TINY = {
    "repeats": 2,
    "steps": 1,
    "batch_sizes": [50],
    "sampler_units": [2000],
    "large_units": 9000,
    "large_steps": 1,
    "encode_rows": 500,
    "sample_rows": 300,
}


def node(rows, **tracking):
    suite = OmegaConf.to_container(OmegaConf.load(CONF / "suite" / "speed.yaml")) | TINY
    recorded = OmegaConf.to_container(OmegaConf.load(CONF / "tracking" / "none.yaml")) | tracking
    return OmegaConf.create({"suite": suite, "rows": rows, "tracking": recorded})


def test_contenders_take_turns_and_warm_up():
    order = []
    tasks = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = interleave(tasks, 3, "wall")
    assert order == ["a", "b"] * 5
    assert [len(times) for times in seconds.values()] == [3, 3]


def test_a_task_may_bring_its_own_time():
    assert interleave({"peer": lambda: 7.0}, 2, "cpu") == {"peer": [7.0, 7.0]}


def test_ratios_are_taken_within_a_round():
    # A machine that slows down by a factor of ten between rounds changes no ratio.
    found = ratio("row", "name", [2.0, 20.0, 200.0], [1.0, 10.0, 100.0], goal=2.0)
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0) and found.met
    assert not ratio("row", "name", [2.1], [1.0], goal=2.0).met
    assert ratio("row", "name", [2.1], [1.0], goal=2.0, at_least=True).met
    assert milliseconds("row", "name", [0.5, 0.5], per=10).value == pytest.approx(50.0)


def test_a_figure_without_goal_has_no_verdict():
    figure = Figure(row="row", name="name", value=1.0, unit="MB")
    assert figure.met is None and figure.cells()[-1] == ""


def test_unknown_rows_and_keys_are_named_together():
    broken = node(["tvae_stap", "sampler"])
    broken.suite["repeat"] = 3
    with pytest.raises(InvalidInput) as caught:
        checked(broken)
    assert "tvae_step" in str(caught.value) and "suite.repeat" in str(caught.value)
    assert len(caught.value.problems) == 2


def test_every_row_has_a_function():
    from experiments.benchmarks import speed_steps, speed_tables

    assert all(hasattr(speed_steps, row) or hasattr(speed_tables, row) for row in speed.ROWS)


def test_rows_that_cannot_be_measured_say_why(monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.peers.importlib.util.find_spec", lambda name: None)
    skipped = dict(speed.measure(("tvae_peer", "ctgan_epoch"), speed.Settings()))
    assert all("ctgan package" in why for why in skipped.values()) and len(skipped) == 2


@pytest.mark.parametrize("row", ["step", "generate"])
def test_rows_of_sequences_are_measured_at_a_tiny_size(row):
    tiny = {"repeats": 1, "steps": 1, "batch_size": 20, "num_units": 50, "max_length": 4, "generate": 30}
    ((name, figures),) = sequences.measure((row,), sequences.Settings(**tiny, threads=1))
    assert name == row and all(f.row == row for f in figures) and len(figures) >= 2


def test_sequences_say_what_the_peer_needs(monkeypatch):
    monkeypatch.setattr("experiments.benchmarks.peers.importlib.util.find_spec", lambda name: None)
    ((_, why),) = sequences.measure(("peer",), sequences.Settings())
    assert "gretel-synthetics" in why
    asked = OmegaConf.to_container(OmegaConf.load(CONF / "suite" / "sequences.yaml"))
    assert sequences.Settings(**asked) == sequences.Settings()


@pytest.mark.parametrize("row", ["tvae_step", "critic_step", "sampler", "large", "encode", "sample"])
def test_local_rows_are_measured_at_a_tiny_size(row):
    ((name, figures),) = speed.measure((row,), checked(node([row])).suite)
    assert name == row and all(f.value >= 0.0 and f.row == row for f in figures) and figures


def test_figures_are_printed_and_recorded(tmp_path, capsys):
    store = {"name": "mlflow", "uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    main(node(["sampler"], **store))
    printed = capsys.readouterr().out
    assert "DPDataLoader / ours" in printed and "goals missed" in printed
    import mlflow

    client = mlflow.MlflowClient(store["uri"])
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert any(name.startswith("public/sampler/") for name in run.data.metrics)
