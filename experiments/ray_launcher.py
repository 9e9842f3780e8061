"""`hydra/launcher=ray`: jobs as Ray tasks, on a local Ray or on a cluster.

A launcher of our own: the published plugin, hydra-ray-launcher, asks for cloudpickle < 3, which excludes the
versions that its neighbours here are tested with, and for an AWS client.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

_OBJECT_STORE = 100 * 2**20  # bytes; jobs hand over configurations and results, not tables


class RayLauncher(Launcher):
    """Runs every job in a Ray worker.

    Args:
      address: of a cluster (`auto`, `ray://HOST:10001`); None starts a Ray on this machine.
      num_cpus: that a Ray on this machine may use; None takes all cores.
      cpus_per_job, gpus_per_job: that Ray sets aside for a job; a job has as many threads as CPUs.
    """

    def __init__(self, address: str | None, num_cpus: int | None, cpus_per_job: int, gpus_per_job: float):
        self._address, self._num_cpus = address, num_cpus
        self._cpus_per_job, self._gpus_per_job = cpus_per_job, gpus_per_job

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self._hydra_context, self._task_function, self._config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use unless told not to
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray
        from hydra.core.singleton import Singleton
        from hydra.core.utils import setup_globals

        setup_globals()
        Path(str(self._config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        ours = not ray.is_initialized()
        if ours:
            ray.init(address=self._address, logging_level="warning", **self._local_settings())
        try:
            threads = {"OMP_NUM_THREADS": str(self._cpus_per_job), "RAY_USAGE_STATS_ENABLED": "0"}
            remote = ray.remote(
                num_cpus=self._cpus_per_job,
                num_gpus=self._gpus_per_job,
                max_retries=0,  # a killed job is resumed under its charge, not run anew
                max_calls=1,  # a process per job, as with other launchers
                runtime_env={"env_vars": threads},
            )(run_job_remotely)
            shared = (self._hydra_context, self._config, self._task_function, Singleton.get_state())
            jobs = [
                remote.remote(initial_job_idx + index, list(overrides), *shared)
                for index, overrides in enumerate(job_overrides)
            ]
            return ray.get(jobs)
        finally:
            if ours:
                ray.shutdown()

    def _local_settings(self) -> dict[str, Any]:
        if self._address is not None:
            return {}
        return {
            "num_cpus": self._num_cpus,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE,
        }


def run_job_remotely(
    index: int, overrides: list[str], hydra_context: Any, config: Any, task_function: Any, state: Any
) -> JobReturn:
    """Runs one job in the worker, as Hydra's launchers do."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import run_job, setup_globals
    from omegaconf import open_dict

    setup_globals()
    Singleton.set_state(state)
    sweep_config = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(sweep_config):
        sweep_config.hydra.job.id = f"{sweep_config.hydra.job.name}_{index}"
        sweep_config.hydra.job.num = index
    HydraConfig.instance().set_config(sweep_config)
    return run_job(
        hydra_context=hydra_context,
        config=sweep_config,
        task_function=task_function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
