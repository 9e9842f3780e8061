"""Finds every mistake on a Hydra command line, and shows them all at once.

Hydra stops at the first mistake, and in a sweep at the first job that meets it. Here the overrides are parsed
with Hydra's own grammar, and all points of a sweep are checked before the first one starts. Nothing heavy is
imported and no data is read.
"""

from __future__ import annotations

import itertools
import math
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpsynth.config import SUBJECT
from dpsynth.errors import InvalidInput, Problem, nearest
from dpsynth.places import CONF

# More points than this are checked one axis at a time; each job checks itself again anyway.
_MOST_POINTS_CHECKED = 200
TYPED = "typed:"  # before a word that Hydra is not to parse


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """What the user typed, checked.

    Args:
      config_name: the top file in `conf/`.
      arguments: as typed, without the program.
      multirun: a sweep.
      first: the configuration of the first point.
      points: those of all points that were checked: of every point where a sweep has few enough.
      num_points: how many points the sweep has; None when a sweeper decides as it goes.
      hydra: Hydra's own composed node.
    """

    config_name: str
    arguments: tuple[str, ...]
    multirun: bool
    first: Any
    points: tuple[Any, ...]
    num_points: int | None
    hydra: DictConfig


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One override: a group's choices or a key's values, as Hydra would hand them to the jobs one by one."""

    key: str
    is_group: bool
    kind: str  # "set", "add", "delete"
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    discrete: bool


def folders_of(args: Namespace) -> list[Path]:
    return [CONF, *([Path(args.config_dir).resolve()] if args.config_dir else [])]


def choices_of(group: str, folders: Sequence[Path]) -> set[str]:
    return {file.stem for folder in folders for file in (folder / group).glob("*.yaml")}


def _axis(text: str, folders: Sequence[Path]) -> _Axis:
    """Parses one override with Hydra's own grammar."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(text)
    key = override.key_or_group
    is_group = key.startswith("hydra/") or any((folder / key).is_dir() for folder in folders)
    kind = (
        "delete" if override.is_delete() else "add" if override.is_add() or override.is_force_add() else "set"
    )
    if override.is_delete():
        return _Axis(key=key, is_group=is_group, kind=kind, values=(None,), texts=(text,), discrete=True)
    if not override.is_sweep_override():
        values = (override.value(),)
        return _Axis(key=key, is_group=is_group, kind=kind, values=values, texts=(text,), discrete=True)
    head = override.get_key_element()
    if not override.is_discrete_sweep():  # an interval, for a sweeper that searches: its ends are checked
        sweep = override.value()
        ends = (sweep.start, sweep.end)
        texts = tuple(f"{head}={end}" for end in ends)
        return _Axis(key=key, is_group=is_group, kind=kind, values=ends, texts=texts, discrete=False)
    texts = tuple(f"{head}={value}" for value in override.sweep_string_iterator())
    values = tuple(OverridesParser.create().parse_override(point).value() for point in texts)
    return _Axis(key=key, is_group=is_group, kind=kind, values=values, texts=texts, discrete=True)


def _parsed(overrides: Sequence[str], folders: Sequence[Path], problems: list[Problem]) -> list[_Axis]:
    """Parses all overrides; a later one replaces an earlier one of the same key, as in Hydra."""
    from hydra.errors import HydraException

    axes: dict[str, _Axis] = {}
    for text in overrides:
        try:
            axis = _axis(text, folders)
        except HydraException as error:
            problems.append(
                Problem(text, str(error).split("\n")[0] + ".", "Write key=value, or key=1,2 with -m.")
            )
            continue
        axes[axis.key] = axis
    return list(axes.values())


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Writes the short form of a ladder as settings: its epsilons are one run's, not an axis of a sweep.

    `training=ladder privacy.epsilon=1,2,4,8` becomes `privacy.epsilon=8 training.ladder=[1,2,4]`, with and
    without -m; likewise for `privacy.max_epsilon`. Everything else stays as typed.
    """
    arguments = [_as_text(word) for word in arguments]
    if "training=ladder" not in arguments:
        return arguments
    spelled = []
    for word in arguments:
        key, _, values = word.partition("=")
        rungs = values.split(",")
        if key in ("privacy.epsilon", "privacy.max_epsilon") and len(rungs) > 1:
            word = f"{key}={rungs[-1]}"
            spelled.append(f"training.ladder=[{','.join(rungs[:-1])}]")
        spelled.append(word)
    return spelled


def _as_text(word: str) -> str:
    """Carries conditions past Hydra, whose grammar takes few names and values as they are typed."""
    key, mark, text = word.partition("=")
    return f"{key}={TYPED}{quote(text, safe='')}" if key == "conditions" and mark else word


def as_typed(value: Any) -> Any:
    """Returns what was typed of a word that `spell_out` carried past Hydra."""
    carried = isinstance(value, str) and value.startswith(TYPED)
    return unquote(value.removeprefix(TYPED)) if carried else value


def _check_group(axis: _Axis, folders: Sequence[Path], problems: list[Problem]) -> _Axis | None:
    """Keeps the choices that exist and reports the others."""
    if axis.key.startswith("hydra/") or axis.kind == "delete":
        return axis
    options = choices_of(axis.key, folders)
    good = [(v, t) for v, t in zip(axis.values, axis.texts) if v is None or str(v) in options]
    problems.extend(
        Problem(f"{axis.key}={value}", "is not a choice.", nearest(str(value), sorted(options)))
        for value in axis.values
        if value is not None and str(value) not in options
    )
    if not good:
        return None
    values, texts = zip(*good)
    return replace(axis, values=values, texts=texts)


def compose_point(
    args: Namespace, config_name: str, overrides: Sequence[str], problems: list[Problem]
) -> Any:
    """Composes with Hydra; a message of Hydra becomes a problem."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    extra = [f"hydra.searchpath=[file://{folder}]" for folder in folders_of(args)[1:]]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(config_name, overrides=[*overrides, *extra], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        problems.append(Problem(" ".join(overrides) or config_name, " ".join(lines[:3]), ""))
        return None


def _unknown_keys(node: DictConfig, axes: Sequence[_Axis], choice: str) -> list[Problem]:
    """Reports keys that the composed configuration does not have."""
    problems = []
    for axis in axes:
        folder, _, leaf = axis.key.rpartition(".")
        branch = OmegaConf.select(node, folder) if folder else node
        if axis.kind == "add" or (OmegaConf.is_dict(branch) and leaf in branch):
            continue
        if not OmegaConf.is_dict(branch):
            branch, leaf = node, axis.key.split(".")[0]
        where = f"{axis.key} (with {choice})" if choice and folder == "generator" else axis.key
        problems.append(Problem(where, "is not a known key.", nearest(leaf, sorted(map(str, branch)))))
    return problems


def _apply(node: DictConfig, axes: Sequence[_Axis], picks: Sequence[int]) -> DictConfig:
    """Returns a copy of the composed node with one value of each axis."""
    node = OmegaConf.create(OmegaConf.to_container(node, resolve=False))
    for axis, pick in zip(axes, picks):
        if axis.kind == "delete":
            branch, _, leaf = axis.key.rpartition(".")
            (OmegaConf.select(node, branch) if branch else node).pop(leaf, None)
        else:
            OmegaConf.update(node, axis.key, axis.values[pick], force_add=True)
    return node


def _one_at_a_time(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Varies one axis while the others stay at their first value."""
    yield tuple(0 for _ in sizes)
    for position, size in enumerate(sizes):
        for pick in range(1, size):
            yield tuple(pick if i == position else 0 for i in range(len(sizes)))


def _without_hydra(node: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(node, [key for key in node if key != "hydra"])


def check(args: Namespace, config_name: str, checked: Callable[[DictConfig], Any]) -> CommandLine:
    """Checks every point that the command line asks for.

    Args:
      args: parsed by Hydra's own parser.
      checked: turns one composed node into the entry point's configuration, or raises InvalidInput.
    Raises:
      InvalidInput: every mistake of every point, once each.
    """
    problems: list[Problem] = []
    folders = folders_of(args)
    axes = _parsed(args.overrides, folders, problems)
    for axis in axes:
        if len(axis.values) > 1 and not args.multirun:
            problems.append(Problem(axis.key, f"has {len(axis.values)} values.", "Add -m to run a sweep."))
    groups = [g for axis in axes if axis.is_group for g in [_check_group(axis, folders, problems)] if g]
    own = [text for axis in axes if axis.key.startswith("hydra.") for text in axis.texts[:1]]
    base = compose_point(args, config_name, [*(g.texts[0] for g in groups), *own], problems)
    if base is None:
        raise InvalidInput(SUBJECT, problems)
    # Axes that a preset sweeps over stand before those of the command line, and yield to them.
    preset = OmegaConf.select(base, "hydra.sweeper.params") if args.multirun else None
    typed = {axis.key for axis in axes}
    texts = [f"{key}={value}" for key, value in (preset or {}).items() if key.lstrip("+~") not in typed]
    swept = _parsed(texts, folders, problems)
    groups += [g for axis in swept if axis.is_group for g in [_check_group(axis, folders, problems)] if g]
    settings = [a for a in [*swept, *axes] if not a.is_group and not a.key.startswith("hydra.")]

    first, points = None, []
    for picks in _one_at_a_time([len(g.values) for g in groups]):
        chosen = [group.texts[pick] for group, pick in zip(groups, picks)]
        composed = (
            base if not any(picks) and not swept else compose_point(args, config_name, chosen + own, problems)
        )
        if composed is None:
            continue
        node = _without_hydra(composed)
        choice = next((text for text in chosen if text.startswith("generator=")), "")
        unknown = _unknown_keys(node, settings, choice)
        problems.extend(unknown)
        usable = [axis for axis in settings if not any(p.where.split(" ")[0] == axis.key for p in unknown)]
        sizes = [len(axis.values) for axis in usable]
        few = dict.fromkeys(_one_at_a_time(sizes))
        every = itertools.product(*map(range, sizes)) if math.prod(sizes) <= _MOST_POINTS_CHECKED else ()
        # What is wrong by itself shows when one setting changes at a time; other points only tell it again.
        for values in itertools.chain(few, (point for point in every if point not in few and not problems)):
            try:
                point = checked(_apply(node, usable, values))
            except InvalidInput as error:
                problems.extend(error.problems)
            else:
                first = point if first is None else first
                points.append(point)
    if problems:
        raise InvalidInput(SUBJECT, dict.fromkeys(problems))
    countable = all(axis.discrete for axis in [*groups, *settings])
    return CommandLine(
        config_name=config_name,
        arguments=tuple(args.overrides),
        multirun=args.multirun,
        first=first,
        points=tuple(points),
        num_points=math.prod(len(a.values) for a in [*groups, *settings]) if countable else None,
        hydra=base.hydra,
    )
