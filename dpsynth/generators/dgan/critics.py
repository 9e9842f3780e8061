"""Critics of DoppelGANger: of the whole sequence, and of its attributes; both are one module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from dpsynth.generators.dgan.nets import SequenceGenerator
    from dpsynth.generators.dgan.settings import Config


class Critic(nn.Module):
    """ReLU MLP with one output and no BatchNorm: each unit is judged alone."""

    def __init__(self, inputs: int, num_layers: int = 5, num_units: int = 200):
        super().__init__()
        widths = [inputs] + [num_units] * num_layers
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths, widths[1:]))
        self.last = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.last(x)[:, 0]

    def penalty(self, x: Tensor) -> Tensor:
        """Mean over examples of (‖∂D/∂x‖ − 1)², one norm per example, in closed form.

        D is piecewise linear, so its input gradient is a product of weights and constant masks: one
        backward pass through that product is the double backward pass of autograd, at less cost.
        """
        masks = []
        with torch.no_grad():
            for layer in self.layers:
                x = torch.relu(layer(x))
                masks.append(x > 0)
        slope = self.last.weight.expand(len(x), -1)
        for layer, mask in zip(reversed(self.layers), reversed(masks)):
            slope = (slope * mask) @ layer.weight
        return ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()


class Critics(nn.Module):
    """The feature critic and, if there are attributes, the attribute critic: one module, one joint clip."""

    def __init__(self, net: SequenceGenerator, config: Config, *, private: bool):
        super().__init__()
        layout = net.layout
        context = layout.attribute_width + layout.additional_width
        shape = (config.discriminator_num_layers, config.discriminator_num_units)
        if private:
            shape = (config.private_discriminator_num_layers, config.private_discriminator_num_units)
        self.whole = Critic(layout.width, *shape)
        uses = config.use_attribute_discriminator and context > 0
        self.context = Critic(context, *shape) if uses else None
        self.context_loss_coef = config.attribute_loss_coef

    def optimizer(self, config: Config) -> torch.optim.Adam:
        groups = [
            {
                "params": list(self.whole.parameters()),
                "lr": config.discriminator_learning_rate,
                "betas": (config.discriminator_beta1, 0.999),
            }
        ]
        if self.context is not None:
            groups.append(
                {
                    "params": list(self.context.parameters()),
                    "lr": config.attribute_discriminator_learning_rate,
                    "betas": (config.attribute_discriminator_beta1, 0.999),
                }
            )
        return torch.optim.Adam(groups, fused=True)

    def scores(self, context: Tensor, whole: Tensor) -> list[Tensor]:
        """Scores [n] of each critic."""
        return [self.whole(whole)] + ([self.context(context)] if self.context is not None else [])

    def fooled(self, context: Tensor, whole: Tensor) -> Tensor:
        """The generator's adversarial loss."""
        scores = self.scores(context, whole)
        loss = -scores[0].mean()
        return loss - self.context_loss_coef * scores[1].mean() if len(scores) > 1 else loss
