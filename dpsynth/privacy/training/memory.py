"""What a training takes of the machine: units that pass through at once, and threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from dpsynth.privacy.plan.plan import TrainingPlan
from dpsynth.privacy.training.objective import PrivateObjective

_PROBE = 16
_MEMORY_SHARE = 0.25  # of what is free when training starts
_LARGEST = {"cpu": 1 << 13, "cuda": 1 << 17}  # beyond it nothing gets faster
_SMALLEST = 64
_PASSES = 3.0  # output gradients and scaled copies beside what autograd saves


def physical_batch_size(plan: TrainingPlan, objective: PrivateObjective, *, seed: int) -> int:
    """Returns the units per forward pass: as configured, or for "auto" a power of two from free memory.

    Formal guarantee: measured on made-up units; reads nothing private and has no effect on the mechanism.
    """
    if plan.physical_batch_size != "auto":
        size = int(plan.physical_batch_size)
        if size < 1:
            raise ValueError(f"Expected training.physical_batch_size={size} of at least 1.")
        return size
    device = torch.device(plan.device)
    budget = _MEMORY_SHARE * _free_bytes(device) / (_PASSES * bytes_per_unit(objective, device, seed))
    size = max(_SMALLEST, min(int(budget), _LARGEST.get(device.type, 1 << 13)))
    return 1 << (size.bit_length() - 1)


def bytes_per_unit(objective: PrivateObjective, device: torch.device | str, seed: int) -> float:
    """Returns what autograd saves per unit for one pass of `unit_losses`, in bytes."""
    draw = torch.Generator(device).manual_seed(seed)
    units = objective.example_units(_PROBE, draw).to(device)
    known = {p.data_ptr() for p in objective.private.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = objective.unit_losses(units, draw)
    del losses
    return max(1.0, sum(saved.values()) / _PROBE)


@contextmanager
def cpu_threads(number: int | Literal["auto"]) -> Iterator[None]:
    """Gives torch so many threads, and puts its own number back after; "auto" leaves its own."""
    before = torch.get_num_threads()
    if number != "auto":
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 << 30
