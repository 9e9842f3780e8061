"""Python in a process of its own, with an environment that does not look like a test run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Telemetry is always off where these say that tests run, or where the tests' own process turned it off.
_HIDDEN = ("PYTEST", "CI", "GITHUB", "DO_NOT_TRACK", "MLFLOW", "RAY")


def environment(**more: str) -> dict[str, str]:
    """Returns this process's environment without what marks it as a test run."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(_HIDDEN)}
    return {**clean, "PYTHONPATH": str(ROOT), **more}


def python(code: str, cwd: Path, **more: str) -> str:
    """Runs code in a fresh process and returns the last line that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]
