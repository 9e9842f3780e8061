"""The same function on many arguments, in processes of this machine or as Ray tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dpsynth.errors import InvalidInput, Problem

_OBJECT_STORE = 100 * 2**20  # bytes; small tables go in and rows of numbers come out


def mapped(
    function: Callable[..., Any], arguments: Iterable[Sequence[Any]], *, backend: str, jobs: int
) -> list[Any]:
    """Returns what `function` makes of each tuple of arguments, in their order.

    Formal guarantee: none; noise is fresh in every process, since each draws its own key
      (`privacy.noise.entropy`).
    Edge cases: a Ray that is already there is used as it is, a cluster too (`RAY_ADDRESS`); else one is
    started on this machine with `jobs` CPUs, and stopped again.

    Raises:
      InvalidInput: Ray is asked for and not installed.
    """
    if backend == "ray":
        return _by_ray(function, list(arguments), jobs)
    from sklearn.utils.parallel import Parallel, delayed

    return Parallel(n_jobs=jobs)(delayed(function)(*each) for each in arguments)


def _by_ray(function: Callable[..., Any], arguments: list[Sequence[Any]], jobs: int) -> list[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use unless told not to
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError:
        problem = Problem("audit.backend", "is ray, which is not installed.", "pip install 'dpsynth[ray]'.")
        raise InvalidInput("the audit", [problem]) from None
    ours = not ray.is_initialized()
    if ours:
        local = {"num_cpus": jobs, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        ray.init(logging_level="warning", **({} if os.environ.get("RAY_ADDRESS") else local))
    try:
        threads = {"env_vars": {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}}
        remote = ray.remote(num_cpus=1, runtime_env=threads)(function)
        return ray.get([remote.remote(*each) for each in arguments])
    finally:
        if ours:
            ray.shutdown()
