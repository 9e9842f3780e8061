"""What a generator is, how one is found by name, and how exactly n rows are drawn from it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from dpsynth.errors import InvalidInput, Problem, nearest
from dpsynth.generators import generator_names

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dpsynth.data.bought.questions import Ballot, Proposal, Rounds
    from dpsynth.data.bought.statistics import Statistics
    from dpsynth.data.rows.encoder import TableEncoder
    from dpsynth.data.schema import Schema
    from dpsynth.data.units.encoder import Encoder
    from dpsynth.generators.parts.latent import LatentModel

_ROUNDS = 20  # batches tried for one batch of rows that meet the conditions


class Generator(Protocol):
    """A method that makes rows. Its module has this class as `Generator` and its settings as `Config`.

    Formal guarantee: sees the layout, bought statistics and, through its objective, the training core's
    batches; never the table, the sampler, the optimiser of its private parameters, or the ledger.
    """

    name: ClassVar[str]
    trains: ClassVar[bool]
    encoder_type: ClassVar[type[Encoder]]  # says which schemas the method fits

    @classmethod
    def encoder(cls, config: Any, schema: Schema, statistics: Statistics, *, private: bool) -> Encoder:
        """The encoder of the units that this configuration learns; an `encoder_type`."""
        ...

    @classmethod
    def questions(cls, config: Any, schema: Schema, *, private: bool) -> tuple[Any, ...]:
        """The joint histograms to buy beside the 1-way ones. Public: known before anything is bought."""
        ...

    def __init__(
        self, config: Any, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ): ...

    def to(self, device: torch.device | str) -> Generator:
        """Moves its networks, in place."""
        ...

    def fit_public(self) -> None:
        """Fits to bought statistics alone, before any training; free. Does nothing where there is no way."""
        ...

    def objective(self) -> Any:
        """The `PrivateObjective` for the training core, or None for a method that does not train."""
        ...

    def plain_objective(self) -> Any:
        """The `PlainObjective`: the published training without privacy, or None."""
        ...

    def fit_release(self) -> None:
        """Fits what is drawn from the trained generator to bought statistics; free. May do nothing."""
        ...

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        """Draws exactly `num` packed rows, float32 [num, packed]; equal seeds give equal bits.

        Rows that cannot be made to meet the conditions by drawing again get the conditions' codes written in.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """The released weights alone."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None: ...


class Latent(Protocol):
    """What a method has besides, where a network makes its rows, so that audits can attack its weights."""

    def latent_model(self) -> LatentModel:
        """The released network: a function of `state`, public settings and bought statistics."""
        ...


class Adaptive(Protocol):
    """What a method has besides, where it asks further questions by what its model gets wrong."""

    @classmethod
    def rounds(cls, config: Any, schema: Schema, *, private: bool) -> Rounds | None:
        """How many questions it will ask; public: known before anything is bought. None asks none."""
        ...

    @classmethod
    def seeker(cls, config: Any, encoder: Any, *, seed: int) -> Seeker:
        """Makes the model that asks."""
        ...


class Seeker(Protocol):
    """A model that knows where it is unsure; one that proposes ballots has `questions` besides."""

    def propose(
        self, statistics: Statistics, noise_stddev: float
    ) -> tuple[Proposal, ...] | tuple[Ballot, ...]:
        """Questions that it would have answered next; equal statistics in equal order give equal ones.

        Args:
          statistics: all that was bought so far.
          noise_stddev: of each count of an answer.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a method needs from the budget beside its questions; public.

    Args:
      trains: on units.
      measures: it uses the 1-way histograms.
      refines: pairs are bought a second time, chosen by what was bought.
      rounds: of further questions, or None.
    """

    trains: bool
    measures: bool
    refines: bool
    rounds: Rounds | None


def wishes(method: Any, config: Any, schema: Schema, *, private: bool) -> Wishes:
    """Asks a method what its settings need; `trains_with`, `measures_with` and `rounds` are optional."""
    trains, measures, rounds = method.trains, getattr(method, "measures", True), None
    if hasattr(method, "trains_with"):
        trains = method.trains_with(config, private=private)
    if hasattr(method, "measures_with"):
        measures = method.measures_with(config)
    if hasattr(method, "rounds"):
        rounds = method.rounds(config, schema, private=private)
    refines = getattr(method, "refines", True) and getattr(config, "adaptive_rounds", None) != 0
    return Wishes(trains=trains, measures=measures, refines=refines and rounds is None, rounds=rounds)


def load_generator(name: str) -> ModuleType:
    """Imports a method's module, with `Config` and `Generator`.

    Raises:
      InvalidInput: unknown name; the message has the nearest one.
    """
    names = generator_names()
    if name not in names:
        rule = f"{name!r} is not a generator."
        raise InvalidInput("the configuration", [Problem("generator.name", rule, nearest(name, names))])
    return importlib.import_module(f"dpsynth.generators.{name}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Makes weights from a public seed, and puts torch's generator back as it was."""
    import torch

    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def public_draw(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    import torch

    return torch.Generator(device=device).manual_seed(seed)


def collect_rows(
    num: int,
    draw_batch: Callable[[int], np.ndarray],
    *,
    width: int,
    batch_size: int,
    codes: Mapping[int, int] | None = None,
) -> np.ndarray:
    """Collects exactly `num` packed rows, `width` numbers each, in batches, so that memory stays flat.

    With `codes` (packed index -> code), keeps rows that have them; after 20 batches per batch of
    rows, the rows that are missing get the codes written in.

    Args:
      draw_batch: makes that many packed rows, float32 [row, packed].
    """
    wanted = dict(codes or {})
    result = np.empty((num, width), dtype=np.float32)
    filled, tries = 0, _ROUNDS * (1 + num // batch_size)
    while filled < num:
        rows = draw_batch(batch_size if wanted else min(batch_size, num - filled))
        if wanted and tries > 0:
            rows = rows[np.all([rows[:, index] == code for index, code in wanted.items()], axis=0)]
        tries -= 1
        rows = rows[: num - filled]
        result[filled : filled + len(rows)] = rows
        filled += len(rows)
    for index, code in wanted.items():
        result[:, index] = code
    return result


def check_settings(*rules: tuple[bool, str]) -> None:
    """Raises one ValueError with every broken rule; for `Config.__post_init__`."""
    broken = [message for holds, message in rules if not holds]
    if broken:
        raise ValueError(" ".join(broken))
