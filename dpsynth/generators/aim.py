"""AIM: joint histograms chosen round by round, and a Markov random field that explains them, by mbi."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dpsynth.data.bought.questions import Proposal, Rounds, crossing
from dpsynth.data.bought.statistics import Question, Statistics
from dpsynth.data.rows.encoder import TableEncoder
from dpsynth.data.schema import Schema
from dpsynth.data.units.encoder import Encoder, OfRows
from dpsynth.errors import DpsynthError
from dpsynth.generators.base import check_settings, collect_rows
from dpsynth.generators.marginals.junction_tree import Clique
from dpsynth.generators.marginals.random_field import Field, draw_rows
from dpsynth.generators.parts.networkless import Untrained

if TYPE_CHECKING:
    from torch import Tensor


_SAMPLED = 50_000  # rows by which the field answers questions that are not among its cliques


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of AIM.

    Args:
      rounds: each chooses joint histograms by the exponential mechanism and buys them.
      choices: joint histograms per round (None: two fifths of the number of columns).
      choice_share: of a round's budget for the choice.
      max_model_mb: of the largest field; questions that would outgrow it are not asked. It grows with the
        rounds, as in the paper.
      iterations: of L-BFGS for each weight of the entropy, after each round.
      sampling_batch_size: rows made at once.
    """

    fits: ClassVar[type[Encoder]] = OfRows
    rounds: int = 8
    choices: int | None = None
    choice_share: float = 0.1
    max_model_mb: float = 80.0
    iterations: int = 100
    sampling_batch_size: int = 50_000

    def __post_init__(self) -> None:
        counts = ("rounds", "iterations", "sampling_batch_size")
        check_settings(
            *((getattr(self, k) > 0, f"Expected {k}={getattr(self, k)} above 0.") for k in counts),
            (self.choices is None or self.choices > 0, f"Expected choices={self.choices} above 0."),
            (0 < self.choice_share < 1, f"Expected choice_share={self.choice_share} in (0, 1)."),
            (self.max_model_mb > 0, f"Expected max_model_mb={self.max_model_mb} above 0."),
        )


class Generator(Untrained):
    """Draws rows from a Markov random field over the cells of columns.

    Formal guarantee: post-processing of bought statistics; reads no private unit.
    Source: McKenna, Mullins, Sheldon & Miklau (2022), AIM: an adaptive and iterative mechanism for
      differentially private synthetic data; inference by McKenna, Sheldon & Miklau (2019). Deviations: rounds
      and their noise are planned before the first read, in place of annealing; a round chooses several
      histograms; a declared target joins every pair in the workload, and its pairs come from the first
      purchase; errors of cliques outside the field are measured on rows drawn from it.
    """

    name: ClassVar[str] = "aim"
    encoder_type: ClassVar[type[TableEncoder]] = TableEncoder

    @classmethod
    def encoder(
        cls, config: Config, schema: Schema, statistics: Statistics, *, private: bool
    ) -> TableEncoder:
        return TableEncoder(schema, statistics)

    @classmethod
    def questions(cls, config: Config, schema: Schema, *, private: bool) -> tuple[Question, ...]:
        return ()

    @classmethod
    def rounds(cls, config: Config, schema: Schema, *, private: bool) -> Rounds | None:
        _check_installed()
        columns = [column.name for column in schema.modelled]
        num = _num_choices(config, columns, _candidates(columns, crossing(schema)))
        return Rounds(num=config.rounds, choices=num, choice_share=config.choice_share) if num else None

    @classmethod
    def seeker(cls, config: Config, encoder: TableEncoder, *, seed: int) -> _Seeker:
        return _Seeker(config, encoder, seed)

    def __init__(
        self, config: Config, encoder: TableEncoder, statistics: Statistics, *, seed: int, private: bool
    ):
        self.config, self.encoder, self._statistics = config, encoder, statistics
        names = encoder.statistics.domain.names
        self._potentials: dict[Clique, np.ndarray] = {
            (name,): np.log(encoder.frequencies(name) + 1e-12) for name in names
        }

    def fit_public(self) -> None:
        """Fits the field to all that was bought; free."""
        field = Field(self.encoder.statistics.domain)
        field.fit(self._statistics, self.config.iterations)
        self._potentials = field.potentials

    def sample(self, num: int, *, seed: int, conditions: Mapping[str, Any] | None = None) -> np.ndarray:
        layout, random = self.encoder.layout, np.random.default_rng(seed)

        def batch(size: int) -> np.ndarray:
            made = draw_rows(
                self._potentials, self.encoder.statistics.domain, size, int(random.integers(2**32))
            )
            rows = np.zeros((size, layout.packed_width), dtype=np.float32)
            for name, codes in made.items():
                rows[:, layout.onehot(name)] = codes[:size]
            return rows

        return collect_rows(
            num,
            batch,
            width=layout.packed_width,
            batch_size=self.config.sampling_batch_size,
            codes=self.encoder.condition_codes(conditions or {}),
        )

    def state(self) -> dict[str, Tensor]:
        import torch

        return {
            _key(clique, self.encoder.statistics.domain.names): torch.from_numpy(values.copy())
            for clique, values in self._potentials.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        names = self.encoder.statistics.domain.names
        self._potentials = {
            tuple(names[int(place)] for place in key.split(".")[1:]): values.numpy().copy()
            for key, values in state.items()
        }


def _key(clique: Clique, names: Sequence[str]) -> str:
    return ".".join(["potential", *(str(names.index(name)) for name in clique)])


def _check_installed() -> None:
    if find_spec("mbi") is None:
        raise DpsynthError(
            "generator=aim needs the library mbi. Install it: pip install 'dpsynth[marginal]'."
        )


def _candidates(columns: Sequence[str], target: str | None) -> dict[Clique, float]:
    """Cliques that may be asked for, with their weight in the workload, at most 1.

    The workload has every pair of columns, within the target where there is one; candidates are its cliques
    and their parts of two columns, weighted by how many columns they share with each of its cliques.
    """
    others = [name for name in columns if name != target]
    last = () if target is None else (target,)
    workload = [(*pair, *last) for pair in combinations(others, 2)]
    cliques = {*workload, *combinations(others, 2)}
    weights = {
        clique: float(sum(len(set(clique) & set(asked)) for asked in workload)) for clique in sorted(cliques)
    }
    most = max(weights.values(), default=1.0)
    return {clique: weight / most for clique, weight in weights.items()}


def _num_choices(config: Config, columns: Sequence[str], candidates: Mapping[Clique, float]) -> int:
    """Joint histograms per round; public."""
    return min(len(candidates), config.choices or math.ceil(0.4 * len(columns)))


class _Seeker:
    """Asks for the cliques on which the field is most wrong, as far as it could hold them."""

    def __init__(self, config: Config, encoder: TableEncoder, seed: int):
        self._config, self._encoder, self._seed, self._round = config, encoder, seed, 0
        self._field = Field(encoder.statistics.domain)

    def propose(self, statistics: Statistics, noise_stddev: float) -> tuple[Proposal, ...]:
        self._round += 1
        self._field.fit(statistics, self._config.iterations)
        target = next((m.columns[1] for m in statistics.crossed.values()), None)
        candidates = _candidates(statistics.domain.names, target)
        limit = self._config.max_model_mb * self._round / self._config.rounds
        sizes = {clique: self._field.size_with(clique) for clique in candidates}
        least = sorted(sizes.values())[_num_choices(self._config, statistics.domain.names, candidates) - 1]
        made = draw_rows(self._field.potentials, statistics.domain, _SAMPLED, self._seed + self._round)
        total = max(statistics.num_rows, 1.0)
        return tuple(
            self._proposal(clique, weight, made, total, noise_stddev)
            for clique, weight in candidates.items()
            if sizes[clique] <= max(limit, least)
        )

    def _proposal(
        self,
        clique: Clique,
        weight: float,
        made: Mapping[str, np.ndarray],
        total: float,
        noise_stddev: float,
    ) -> Proposal:
        shape = tuple(self._encoder.statistics.domain[name].size for name in clique)
        expected, spread = self._field.answer(clique), 0.0
        if expected is None:
            flat = np.ravel_multi_index([made[name] for name in clique], shape)
            expected = np.bincount(flat, minlength=math.prod(shape)).reshape(shape) * (total / len(flat))
            spread = float(np.sqrt(expected * total / len(flat)).sum())
        penalty = math.sqrt(2.0 / math.pi) * (noise_stddev * math.prod(shape) + spread)
        return Proposal(question=Question(columns=clique), expected=expected, weight=weight, penalty=penalty)
