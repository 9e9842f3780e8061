"""Prints the resident memory before some training steps, and the peak: `memory_probe KIND B`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path


def main() -> None:
    import torch

    from .contenders import NUM_UNITS, Contender, adult

    kind, largest = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)

    def steps(batch_size: int):
        given = {"size": "medium", "representation": "modes", "batch_size": batch_size}
        contender = Contender(name="tvae", settings=given, private=kind != "plain", schema=adult())
        units = contender.units(NUM_UNITS)
        if kind == "plain":
            return contender.plain_step(units)
        return contender.private_step(batch_size, units, physical=1 << (13 if kind == "private" else 20))

    steps(16)()  # imports and first uses are not what is measured
    start = reset_peak()
    step = steps(largest)
    for _ in range(4):
        step()
    print(json.dumps({"start": start, "peak": peak_megabytes()}))


def reset_peak() -> float:
    """Forgets the peak so far, where Linux lets us, and returns the resident memory in MB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident_megabytes()


def peak_megabytes() -> float:
    return _status("VmHWM")


def resident_megabytes() -> float:
    return _status("VmRSS")


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key)) / 1024


if __name__ == "__main__":
    main()
