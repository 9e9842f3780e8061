"""The notebooks run from top to bottom, and what they show is there."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def executed(path: Path, folder: Path, monkeypatch) -> nbformat.NotebookNode:
    """Runs a notebook in an empty folder; an error in a cell fails the test with its traceback."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    return notebook


def shown(notebook: nbformat.NotebookNode) -> str:
    """Everything that the cells printed or displayed as text."""
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    return "\n".join(o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs)


def test_there_is_a_quickstart():
    assert "01_quickstart.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_hold_no_errors_and_no_local_paths(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error" and output.get("name") != "stderr"
    assert "/home/" not in shown(notebook) and "/tmp/" not in shown(notebook)


def test_quickstart_trains_samples_describes_predicts_and_certifies(tmp_path, monkeypatch):
    notebook = executed(ROOT / "notebooks/01_quickstart.ipynb", tmp_path, monkeypatch)
    text = shown(notebook)
    pictures = [
        o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 4
    assert "Claim: epsilon=1" in text and "verified: epsilon=1" in text
    scores = [line.split() for line in text.splitlines() if line.startswith("fitted on ")]
    synthetic, real = (float(words[-1]) for words in scores)
    # the floor, which knows no dependence, is at 0.5; real rows are at 0.88
    assert 0.7 < synthetic < real
    assert not any(o.get("name") == "stderr" for cell in notebook.cells for o in cell.get("outputs", []))


def test_sequences_trains_generates_and_compares(tmp_path, monkeypatch):
    notebook = executed(ROOT / "notebooks/02_sequences.ipynb", tmp_path, monkeypatch)
    text = shown(notebook)
    pictures = [
        o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 1 and "Claim: epsilon=4" in text
    assert "epsilon=4, delta=1e-05 ; waves of the first three" in text  # arrays with a budget
    gaps = {
        words[0]: float(words[1]) for words in map(str.split, text.splitlines()) if words[2:3] == ["real"]
    }
    assert gaps["acf_gap"] < 0.3  # steps without memory are at 0.47
    assert gaps["length_tv"] < 0.2


def test_audit_clears_a_release_and_catches_copies_and_every_broken_step(tmp_path, monkeypatch):
    text = shown(executed(ROOT / "notebooks/03_audit.ipynb", tmp_path, monkeypatch))  # 25 s on one core
    assert "CONSISTENT - Nothing contradicts `epsilon=1" in text
    assert "VIOLATION - The claim `epsilon=1" in text
    steps = [line for line in text.splitlines() if "VIOLATION  " in line]
    assert len(steps) == 6 and any("noise_halved" in line for line in steps)
