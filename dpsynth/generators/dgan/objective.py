"""Training of DoppelGANger: the published step without privacy, and the private objective.

Both critics form one private module, so a unit's gradient through both is clipped as one and every step is
one event. Only D(real) reads units; fakes, penalty and generator steps are public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dpsynth.generators.base import seeded
from dpsynth.generators.dgan.anchor import SequenceAnchor
from dpsynth.generators.dgan.critics import Critics
from dpsynth.generators.dgan.nets import Generated, SequenceGenerator
from dpsynth.generators.dgan.tensors import expand

if TYPE_CHECKING:
    from dpsynth.generators.dgan.settings import Config

_RESIDENT = 200_000_000  # bytes of expanded units that may stay in memory


class PlainObjective:
    """WGAN-GP with a per-example penalty on interpolates; fresh fakes for every round."""

    def __init__(self, net: SequenceGenerator, config: Config, *, seed: int):
        self.net, self.config = net, config
        with seeded(seed):
            self.critics = Critics(net, config, private=False)
        self._critic_step = self.critics.optimizer(config)
        self._generator_step = generator_optimizer(net, config)
        self._order: Tensor | None = None
        self._at = 0

    def bind(self, units: Tensor) -> None:
        """Keeps the units, expanded if they fit."""
        self._units, self._wide = units, None
        if len(units) * self.net.layout.width * 4 <= _RESIDENT:
            self._wide = _real(self.net, units)
        self._order = None

    @property
    def steps_per_epoch(self) -> int:
        size = min(self.config.batch_size, len(self._units))
        whole, rest = divmod(len(self._units), size)
        return whole + (rest > 1)  # a last batch of one has no batch statistics

    def step(self, draw: torch.Generator) -> dict[str, float]:
        self.net.train()
        context, whole = self._next(draw)
        num = len(whole)
        for round_ in range(self.config.discriminator_rounds):
            last = round_ + 1 == self.config.discriminator_rounds
            with torch.set_grad_enabled(last):  # the last fakes serve the first generator round as well
                fake = self._fake(num, draw)
            critic_loss = self._critic_round(context, whole, *(part.detach() for part in fake), draw)
        for round_ in range(self.config.generator_rounds):
            if round_ or not self.config.discriminator_rounds:
                fake = self._fake(num, draw)
            with self._mixed(whole.device):
                loss = self.critics.fooled(*fake)
            self._generator_step.zero_grad(set_to_none=True)
            loss.backward(inputs=list(self.net.parameters()))
            self._generator_step.step()
        return {"critic": float(critic_loss.detach()), "generator": float(loss.detach())}

    def _critic_round(self, context, whole, fake_context, fake_whole, draw: torch.Generator) -> Tensor:
        config, critics, num = self.config, self.critics, len(whole)
        alpha = torch.rand(num, 1, generator=draw, device=whole.device)
        mixed = torch.lerp(fake_whole, whole, alpha)
        with self._mixed(whole.device):
            scores = critics.whole(torch.cat([fake_whole, whole])).float()
        loss = scores[:num].mean() - scores[num:].mean()
        loss = loss + config.gradient_penalty_coef * critics.whole.penalty(mixed)
        if critics.context is not None:
            with self._mixed(whole.device):
                scores = critics.context(torch.cat([fake_context, context])).float()
            loss = loss + scores[:num].mean() - scores[num:].mean()
            penalty = critics.context.penalty(mixed[:, : context.shape[1]])
            loss = loss + config.attribute_gradient_penalty_coef * penalty
        self._critic_step.zero_grad(set_to_none=True)
        loss.backward()
        self._critic_step.step()
        return loss

    def _fake(self, num: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        with self._mixed(draw.device):
            context, whole = self.net.judged(self.net.generate(*self.net.noise(num, draw), draw=draw), draw)
        return context.float(), whole.float()

    def _mixed(self, device: torch.device) -> torch.autocast:
        """Forward passes in bfloat16 on a GPU, where asked for; penalty and steps stay in float32."""
        on = self.config.mixed_precision_training and device.type == "cuda"
        return torch.autocast(device.type, torch.bfloat16, enabled=on)

    def _next(self, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """The next batch of a shuffled pass."""
        size = min(self.config.batch_size, len(self._units))
        if self._order is None or len(self._units) - self._at < 2:
            self._order = torch.randperm(len(self._units), generator=draw, device=draw.device)
            self._at = 0
        rows = self._order[self._at : self._at + size]
        self._at += size
        if self._wide is not None:
            return self._wide[0][rows], self._wide[1][rows]
        return _real(self.net, self._units[rows])

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self._critic_step, self._generator_step]

    def averaged(self) -> nn.Module:
        return self.net

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "critics": self.critics.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers()],
            "order": self._order,
            "at": self._at,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.critics.load_state_dict(state["critics"])
        for optimizer, saved in zip(self.optimizers(), state["optimizers"]):
            optimizer.load_state_dict(saved)
        self._order, self._at = state["order"], state["at"]


class PrivateObjective:
    """D(real) under DP-SGD; fakes, penalty on generated samples, generator and anchor are public.

    Formal guarantee: `unit_losses[i]` depends on unit i alone: expansion is per unit, critics have Linear
    layers and ReLU only, the loss is a sum of the two critics' terms for that unit.
    """

    def __init__(self, net: SequenceGenerator, config: Config, anchor: SequenceAnchor | None, *, seed: int):
        self.net, self.config, self.anchor = net, config, anchor
        with seeded(seed):
            self.private = Critics(net, config, private=True)
        self._private_step = self.private.optimizer(config)
        self._generator_step = generator_optimizer(net, config)
        self._fakes: tuple[Tensor, Tensor] | None = None
        self._made: tuple[Generated, tuple[Tensor, Tensor]] | None = None  # fakes for both sides of a step

    def private_optimizer(self) -> torch.optim.Optimizer:
        return self._private_step

    def example_units(self, num: int, draw: torch.Generator) -> Tensor:
        return example_units(self.net, num, draw)

    def unit_losses(self, units: Tensor, draw: torch.Generator) -> Tensor:
        losses = [self._judge(-score) for score in self.private.scores(*_real(self.net, units))]
        return torch.stack(losses).sum(0)

    def generated_losses(self, num: int, draw: torch.Generator) -> Tensor:
        self._fakes = self._fakes_for_critics(num, draw)
        losses = [self._judge(score) for score in self.private.scores(*self._fakes)]
        return torch.stack(losses).sum(0)

    def penalty(self, num: int, draw: torch.Generator) -> Tensor | None:
        config = self.config
        if config.gradient_penalty_coef == 0:
            return None
        context, whole = self._fakes  # made by generated_losses of the same step
        loss = config.gradient_penalty_coef * self.private.whole.penalty(whole)
        if self.private.context is not None:
            coef = config.attribute_gradient_penalty_coef
            loss = loss + coef * self.private.context.penalty(context)
        return config.private_penalty_share * loss

    def after_step(self) -> None:
        """Nothing to project: the penalty bounds the slope."""

    def public_step(self, step: int, draw: torch.Generator) -> None:
        if (step + 1) % self.config.private_discriminator_rounds:
            return
        for _ in range(self.config.generator_rounds):
            made, judged = self._made or self._fake(self.config.private_batch_size, draw)
            self._made = None
            loss = self.config.adversarial_weight * self.private.fooled(*judged)
            if self.anchor is not None:
                loss = loss + self.config.anchor_weight * self.anchor.loss(made)
            self._generator_step.zero_grad(set_to_none=True)
            loss.backward(inputs=list(self.net.parameters()))
            self._generator_step.step()

    def _judge(self, margin: Tensor) -> Tensor:
        """Hinge: 0 once the score is right by 1, so gradients of well-judged units vanish; or the score."""
        return torch.relu(1.0 + margin) if self.config.private_loss == "hinge" else margin

    def _fakes_for_critics(self, num: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fresh fakes; where the generator moves after every private step, those of its own step to come."""
        once = self.config.private_discriminator_rounds == 1 and num <= self.config.private_batch_size
        with torch.set_grad_enabled(once):
            made, judged = self._fake(self.config.private_batch_size if once else num, draw)
        self._made = (made, judged) if once else None
        return judged[0][:num].detach(), judged[1][:num].detach()

    def _fake(self, num: int, draw: torch.Generator) -> tuple[Generated, tuple[Tensor, Tensor]]:
        self.net.train()
        made = self.net.generate(*self.net.noise(num, draw), draw=draw)
        return made, self.net.judged(made, draw)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self._private_step, self._generator_step]

    def averaged(self) -> nn.Module:
        return self.net

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "critics": self.private.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.private.load_state_dict(state["critics"])
        for optimizer, saved in zip(self.optimizers(), state["optimizers"]):
            optimizer.load_state_dict(saved)


def generator_optimizer(net: SequenceGenerator, config: Config) -> torch.optim.Adam:
    betas = (config.generator_beta1, 0.999)
    return torch.optim.Adam(net.parameters(), lr=config.generator_learning_rate, betas=betas, fused=True)


def _real(net: SequenceGenerator, units: Tensor) -> tuple[Tensor, Tensor]:
    """Expanded units as critics see them: (attributes, whole), flat."""
    attributes, additional, features = expand(net.layout, units)
    context = torch.cat([attributes, additional], 1)
    return context, torch.cat([context, features.flatten(1)], 1)


def example_units(net: SequenceGenerator, num: int, draw: torch.Generator) -> Tensor:
    """Makes up valid packed units from the layout alone: uniform codes, scalars and lengths."""
    layout = net.layout

    def slots(segments, *shape: int) -> Tensor:
        values = torch.rand(*shape, len(segments), generator=draw, device=draw.device)
        for i, segment in enumerate(segments):
            if segment.kind != "scalar":
                count = segment.size if segment.kind == "onehot" else 2**segment.size
                values[..., i] = (values[..., i] * count).floor()
        return values

    attributes, additional = slots(layout.attributes, num), slots(layout.additional, num)
    features = slots(layout.features, num, layout.max_length)
    parts = [attributes, additional]
    if layout.variable:
        spread = layout.max_length - layout.min_length + 1
        lengths = torch.rand(num, 1, generator=draw, device=draw.device) * spread
        parts.append(lengths.floor() + layout.min_length)
        present = torch.arange(layout.max_length, device=draw.device) < parts[-1]
        features = features * present[:, :, None]
    return torch.cat([*parts, features.flatten(1)], 1)


def anchor_steps(
    net: SequenceGenerator, anchor: SequenceAnchor, config: Config, *, steps: int, draw: torch.Generator
) -> None:
    """Trains the generator on bought histograms alone, with a cosine schedule."""
    optimizer = torch.optim.Adam(net.parameters(), lr=config.anchor_learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for _ in range(steps):
        made: Generated = net.generate(*net.noise(config.private_batch_size, draw), draw=draw)
        loss = anchor.loss(made)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
