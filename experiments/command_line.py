"""Runs a Hydra entry point whose command line was checked; a mistake ends in a message and exit code 2."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from string import Template
from typing import Any

from omegaconf import DictConfig

from dpsynth.config import SUBJECT, RunConfig, parse
from dpsynth.errors import DpsynthError, InvalidInput, Problem, described, trace
from dpsynth.places import CONF, as_typed_here

from .overrides import CommandLine, check, choices_of, compose_point, folders_of, spell_out


class JobFailed(DpsynthError):
    """A job failed, and has already said why. Holds text alone, so that it can cross processes."""


def _guarded(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Lets a job fail without taking other jobs, or their process pool, down with it."""

    @functools.wraps(task)
    def job(node: DictConfig) -> Any:
        try:
            return task(node)
        except DpsynthError as error:
            print(f"\n{error.shown}\n", file=sys.stderr)
            raise JobFailed(str(error)) from None
        except Exception as error:  # another library's message may quote a value
            print(f"\n{trace(error)}", file=sys.stderr)
            raise JobFailed(described(error)) from None

    return job


def _help(args: Namespace, config_name: str) -> None:
    """Prints the help that the configuration describes.

    Hydra's own takes a tenth of a second per group that exists, and lists those of other entry points too.
    """
    from omegaconf import OmegaConf

    problems: list[Problem] = []
    node = compose_point(args, config_name, args.overrides, problems)
    if node is None:
        raise InvalidInput(SUBJECT, problems)
    groups = sorted(key for key in node.hydra.runtime.choices if not key.startswith("hydra/"))
    listed = "\n".join(f"{key}: {', '.join(sorted(choices_of(key, folders_of(args))))}" for key in groups)
    own = OmegaConf.masked_copy(node, [key for key in node if key != "hydra"])
    template = OmegaConf.create({"hydra": node.hydra}).hydra.help.template
    words = {"APP_CONFIG_GROUPS": f"{listed}\n", "CONFIG": OmegaConf.to_yaml(own)}
    print(as_typed_here(Template(template).safe_substitute(words)))


def _stop(number: int, _: Any) -> None:
    """Ends like an interruption, so that runs under way are recorded as killed."""
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _process(arguments: Sequence[str]) -> Iterator[None]:
    """Gives Hydra its arguments, and has it raise errors instead of printing them and exiting."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [before[0], *arguments], "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _register_plugins() -> None:
    """Makes our sweeper and launcher known, by names in the one package that Hydra takes plugins from."""
    from hydra.core.plugins import Plugins

    known = Plugins.instance()
    for path in ("private_sweeper.PrivateSweeper", "ray_launcher.RayLauncher"):
        module, _, name = path.partition(".")
        plugin = getattr(importlib.import_module(f".{module}", __package__), name)
        known.register(plugin)
        known.class_name_to_class[f"hydra_plugins.dpsynth.{name}"] = plugin


def check_run(node: DictConfig) -> RunConfig:
    """Checks the configuration of one training run without importing what it will need."""
    config = parse(node)
    if config.release.sign_key is not None:
        from dpsynth.privacy.release.signing import read_private_key

        read_private_key(config.release.sign_key)
    return config


def run(
    task: Callable[[DictConfig], Any],
    config_name: str,
    *,
    checked: Callable[[DictConfig], Any] = check_run,
    around: Callable[[CommandLine], contextlib.AbstractContextManager[Sequence[str]]] | None = None,
) -> None:
    """Runs an entry point from the command line.

    Args:
      task: one job; receives the composed node.
      config_name: the top file in `conf/`.
      checked: see `overrides.check`.
      around: a context that lasts as long as all jobs and yields further overrides for them.
    """
    import hydra
    from hydra._internal.utils import get_args_parser

    from dpsynth.tracking import without_passwords, without_telemetry

    without_telemetry()  # before any launcher starts what would call home
    arguments = spell_out(without_passwords(sys.argv[1:]))
    args = get_args_parser().parse_args(arguments)
    asks_only = args.hydra_help or args.cfg or args.info or args.shell_completion
    entry = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(_guarded(task))
    try:
        if args.help:
            _help(args, args.config_name or config_name)
            return
        if asks_only:
            with _process(arguments):
                entry()
            return
        command = check(args, args.config_name or config_name, checked)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        if args.multirun:
            _register_plugins()
        with around(command) if around else contextlib.nullcontext(()) as extra:
            with _process([*arguments, *extra]):
                entry()
    except InvalidInput as error:
        print(error.shown, file=sys.stderr)
        sys.exit(2)
    except ValueError as error:
        if not asks_only:
            raise
        print(error, file=sys.stderr)  # Hydra's own: flags that exclude each other
        sys.exit(2)
    except JobFailed:
        sys.exit(1)
    except DpsynthError as error:
        print(error.shown, file=sys.stderr)
        sys.exit(1)
