"""How CTGAN's two players learn: with privacy in the critic's real term, or as published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dpsynth.generators.ctgan.conditions import Choice, Conditions, Frequencies, independent_rows
from dpsynth.generators.marginals.anchor import Anchor
from dpsynth.generators.parts.gradient_penalty import slope_penalty
from dpsynth.generators.parts.lipschitz import LipschitzProjection
from dpsynth.generators.parts.nn import Segments, flat_rows, normal, per_unit, uniform

if TYPE_CHECKING:
    from dpsynth.generators.ctgan.settings import Config


class Players:
    """The generator and the critic with what both need; knows how to make fakes and to judge rows.

    Args:
      embedding: width of the latent noise.
      frequencies: bought shares of all cells.
      training_frequencies: shares by which conditions are drawn while training.
      anchor: distance to bought joint histograms, or None.
    """

    def __init__(
        self,
        config: Config,
        network: nn.Module,
        critic: nn.Module,
        segments: Segments,
        conditions: Conditions,
        *,
        embedding: int,
        frequencies: Frequencies,
        training_frequencies: Frequencies,
        anchor: Anchor | None = None,
    ):
        self.anchor = anchor
        self.config, self.network, self.critic = config, network, critic
        self.segments, self.conditions, self.embedding = segments, conditions, embedding
        self.frequencies, self.training_frequencies = frequencies, training_frequencies
        self.project = None
        if config.lipschitz != "penalty":
            self.project = LipschitzProjection(critic, config.lipschitz, config.weight_bound)

    def choose(self, num: int, draw: torch.Generator, *, training: bool = True) -> Choice | None:
        """Conditions for `num` rows; None where no column can be asked for."""
        if self.conditions.num_columns == 0:
            return None
        return self.conditions.draw(num, self.training_frequencies if training else self.frequencies, draw)

    def ask(self, num: int, codes: Mapping[int, int], draw: torch.Generator) -> Choice | None:
        """Conditions that ask for given cells (packed index -> code), one of them at random per row."""
        places = self.conditions.packed.tolist()
        asked = [(places.index(index), code) for index, code in codes.items() if index in places]
        if not asked:
            return None
        table = torch.tensor(asked, device=draw.device)
        picked = table[torch.randint(len(asked), (num,), generator=draw, device=draw.device)]
        return Choice(picked[:, 0], picked[:, 1])

    def to(self, device: torch.device | str) -> None:
        """Moves all modules, in place."""
        for module in vars(self).values():
            if isinstance(module, nn.Module):
                module.to(device)

    def logits(self, num: int, choice: Choice | None, draw: torch.Generator) -> Tensor:
        """The generator's raw output for fresh noise."""
        noise = normal((num, self.embedding), draw)
        return self.network(self.join(noise, choice))

    def fakes(self, num: int, choice: Choice | None, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Soft rows with Gumbel noise, and their logits; the generator in train mode."""
        self.network.train()
        logits = self.logits(num, choice, draw)
        return self.segments.soft(logits, self.config.tau, draw), logits

    def judge(self, rows: Tensor, choice: Choice | None) -> Tensor:
        """The critic's scores of expanded rows beside their conditions."""
        return self.critic(self.join(rows, choice))

    def penalty(self, ends: tuple[Tensor, Tensor], draw: torch.Generator) -> Tensor:
        """Squared deviation of the critic's slope from 1, on points between two sets of joined rows.

        Source: Gulrajani et al. (2017), Improved training of Wasserstein GANs, equation 3; per pack.
        """
        pac = self.critic.pac
        share = uniform((len(ends[0]) // pac, 1), draw).repeat_interleave(pac, dim=0)
        points = torch.lerp(ends[1], ends[0], share).reshape(len(share) // pac, -1)
        return self.config.gradient_penalty * slope_penalty(self.critic.body, points)

    def distance(self, units: Tensor, draw: torch.Generator) -> float:
        """Mean total variation between given and generated rows over pairs of columns (or modes); in [0, 1].

        The critic's own loss says little about a model: the critic moves along.
        """
        segments, real = self.segments, flat_rows(units)
        num, training = min(max(len(real), 1_000), 10_000), self.network.training
        self.network.eval()
        choice = self.choose(num, draw, training=False)
        made = segments.draw_rows(self.logits(num, choice, draw), draw)
        self.network.train(training)
        joints = [(wide := segments.expand(rows)).T @ wide / len(rows) for rows in (real, made)]
        pairs = segments.member.T @ (joints[0] - joints[1]).abs() @ segments.member / 2
        num_columns = len(pairs)
        if num_columns == 1:
            return float(pairs)
        return float((pairs.sum() - pairs.trace()) / (num_columns * (num_columns - 1)))

    def train_generator(self, optimizer: torch.optim.Optimizer, draw: torch.Generator) -> float:
        """One step of the generator against the critic; reads no real unit. Returns its loss."""
        choice = self.choose(self.config.batch_size, draw)
        rows, logits = self.fakes(self.config.batch_size, choice, draw)
        loss = -self.judge(rows, choice).mean()
        if choice is not None:
            loss = loss + self._condition_loss(logits, choice)
        if (
            self.anchor is not None
        ):  # with privacy conditions are drawn by frequency, so rows have its marginals
            loss = self.config.adversarial_weight * loss
            loss = loss + self.config.anchor_weight * self.anchor.loss(self.segments.soft(logits))
        optimizer.zero_grad()
        loss.backward(inputs=list(self.network.parameters()))
        optimizer.step()
        return loss.item()

    def _condition_loss(self, logits: Tensor, choice: Choice) -> Tensor:
        """Cross-entropy of the cell that was asked for."""
        asked = self.conditions.write(logits.new_zeros(len(logits), self.segments.packed_width), choice)
        losses = self.segments.cross_entropy(logits, self.segments.targets(asked))
        return losses.gather(1, self.conditions.onehots[choice.columns].unsqueeze(1)).mean()

    def join(self, rows: Tensor, choice: Choice | None) -> Tensor:
        """Rows beside their conditional vectors."""
        return rows if choice is None else torch.cat([rows, self.conditions.vector(choice)], dim=-1)

    def optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """Fresh optimizers of the critic and of the generator."""
        config = self.config
        critic = torch.optim.Adam(
            self.critic.parameters(), lr=config.critic_learning_rate, betas=config.betas, fused=True
        )
        generator = torch.optim.Adam(
            self.network.parameters(),
            lr=config.generator_learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        return critic, generator


class PrivateObjective:
    """Only the critic's scores of real units are private.

    A unit is judged beside a condition taken from its own cells. Fakes, conditions drawn from bought
    frequencies, the gradient penalty and the generator's steps read no unit. The penalty sits on points
    between fakes and rows drawn from the bought 1-way marginals, which surround the real rows and are free.
    """

    def __init__(self, players: Players, rows_per_unit: int | None):
        self.players, self.private, self._rows_per_unit = players, players.critic, rows_per_unit
        self._critic_optimizer, self._generator_optimizer = players.optimizers()
        self._fakes: tuple[Tensor, Choice | None] | None = None  # joined, with their conditions

    def private_optimizer(self) -> torch.optim.Optimizer:
        return self._critic_optimizer

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self._critic_optimizer, self._generator_optimizer]

    def averaged(self) -> nn.Module:
        return self.players.network

    def example_units(self, num: int, draw: torch.Generator) -> Tensor:
        return self.players.segments.example_units(num, self._rows_per_unit, draw)

    def unit_losses(self, units: Tensor, draw: torch.Generator) -> Tensor:
        conditions = self.players.conditions
        choice = conditions.of_rows(units, draw) if conditions.num_columns else None
        return per_unit(-self.players.judge(self.players.segments.expand(units), choice), units)

    def generated_losses(self, num: int, draw: torch.Generator) -> Tensor:
        self._fakes = self._frozen_fakes(num, draw)
        return self.players.critic(self._fakes[0])

    def penalty(self, num: int, draw: torch.Generator) -> Tensor | None:
        players = self.players
        if players.project or players.config.gradient_penalty == 0:
            return None
        fakes, choice = self._fakes or self._frozen_fakes(num, draw)  # those just judged, as in WGAN-GP
        self._fakes = None
        others = independent_rows(players.segments.layout, players.frequencies, num, draw)
        if choice is not None:
            others = players.conditions.write(others, choice)
        others = players.join(players.segments.expand(others), choice)
        return players.penalty((fakes, others), draw)

    def _frozen_fakes(self, num: int, draw: torch.Generator) -> tuple[Tensor, Choice | None]:
        size = max(num, 2)  # BatchNorm cannot train on one row
        with torch.no_grad():
            choice = self.players.choose(size, draw)
            rows, _ = self.players.fakes(size, choice, draw)
        rows, choice = rows[:num], None if choice is None else Choice(*(part[:num] for part in choice))
        return self.players.join(rows, choice), choice

    def validation_loss(self, units: Tensor, draw: torch.Generator) -> float:
        return self.players.distance(units, draw)

    def after_step(self) -> None:
        if self.players.project:
            self.players.project()

    def public_step(self, step: int, draw: torch.Generator) -> None:
        if (step + 1) % self.players.config.critic_steps == 0:
            self.players.train_generator(self._generator_optimizer, draw)

    def state(self) -> dict[str, Any]:
        return _state(self.players, self.optimizers())

    def load_state(self, state: dict[str, Any]) -> None:
        _load_state(self.players, self.optimizers(), state)


class PlainObjective:
    """The published training: conditions and the rows that meet them, packs, WGAN-GP against real rows."""

    def __init__(self, players: Players):
        self.players = players
        self._critic_optimizer, self._generator_optimizer = players.optimizers()

    def bind(self, units: Tensor) -> None:
        """Indexes rows by cell: for every conditioned column, the rows in the order of their cells."""
        self._rows, conditions = flat_rows(units), self.players.conditions
        codes = self._rows[:, conditions.packed].T.contiguous().long()
        sizes = self.players.segments.sizes[conditions.onehots]
        longest = int(sizes.max()) if len(sizes) else 0
        self._order = codes.argsort(dim=1, stable=True)
        counts = torch.zeros(len(codes), longest + 1, dtype=torch.long, device=codes.device)
        self._counts = counts.scatter_add_(1, codes, torch.ones_like(codes))
        self._starts = self._counts.cumsum(dim=1) - self._counts

    @property
    def steps_per_epoch(self) -> int:
        return max(len(self._rows) // self.players.config.batch_size, 1)

    def step(self, draw: torch.Generator) -> dict[str, float]:
        for _ in range(self.players.config.critic_steps):
            critic_loss = self._train_critic(draw)
        generator_loss = self.players.train_generator(self._generator_optimizer, draw)
        return {"critic_loss": critic_loss, "generator_loss": generator_loss}

    def _train_critic(self, draw: torch.Generator) -> float:
        players, size = self.players, self.players.config.batch_size
        choice = players.choose(size, draw)
        with torch.no_grad():
            fakes, _ = players.fakes(size, choice, draw)
        shuffled = torch.randperm(size, generator=draw, device=draw.device)
        other = None if choice is None else Choice(*(part[shuffled] for part in choice))
        rows = players.segments.expand(self._rows[self._matching(size, other, draw)])
        reals, fakes = players.join(rows, other), players.join(fakes, choice)
        loss = players.critic(fakes).mean() - players.critic(reals).mean()
        self._critic_optimizer.zero_grad()
        penalty = 0.0 if players.project else players.penalty((reals, fakes), draw)
        (loss + penalty).backward()
        self._critic_optimizer.step()
        if players.project:
            players.project()
        return loss.item()

    def _matching(self, size: int, choice: Choice | None, draw: torch.Generator) -> Tensor:
        """A random row for each condition; any row where none meets it."""
        share = uniform((size,), draw)
        anyone = (share * len(self._rows)).long().clamp(max=len(self._rows) - 1)
        if choice is None:
            return anyone
        counts = self._counts[choice.columns, choice.codes]
        offset = (share * counts).long().clamp(max=(counts - 1).clamp(min=0))
        place = (self._starts[choice.columns, choice.codes] + offset).clamp(max=len(self._rows) - 1)
        return torch.where(counts > 0, self._order[choice.columns, place], anyone)

    def validation_loss(self, units: Tensor, draw: torch.Generator) -> float:
        return self.players.distance(units, draw)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self._critic_optimizer, self._generator_optimizer]

    def averaged(self) -> nn.Module:
        return self.players.network

    def state(self) -> dict[str, Any]:
        return _state(self.players, self.optimizers())

    def load_state(self, state: dict[str, Any]) -> None:
        _load_state(self.players, self.optimizers(), state)


def _state(players: Players, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    parts = {"network": players.network.state_dict(), "critic": players.critic.state_dict()}
    return parts | {"optimizers": [optimizer.state_dict() for optimizer in optimizers]}


def _load_state(players: Players, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    players.network.load_state_dict(state["network"])
    players.critic.load_state_dict(state["critic"])
    for optimizer, stored in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(stored)
