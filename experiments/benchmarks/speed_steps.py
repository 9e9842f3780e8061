"""Training steps: private over plain, over the field's implementations, and over other back ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .contenders import NUM_UNITS, Contender, adult, repeated
from .harness import Figure, Task, interleave, milliseconds, ratio
from .peers import ctgan_peer
from .stock_opacus import stock_opacus

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .speed import Settings


# Published sizes; one one-hot per column, because stock Opacus cannot clip the decoder's standard deviations.
_BINS = {"size": "medium", "representation": "bins"}


def tvae_step(settings: Settings) -> list[Figure]:
    """A private TVAE step over our own plain step, on the same network."""
    found = []
    for batch_size in settings.batch_sizes:
        private, plain = _tvae(True), _tvae(False, batch_size=batch_size)
        units = private.units(NUM_UNITS)
        tasks = {
            "private": repeated(private.private_step(batch_size, units), settings.steps),
            "plain": repeated(plain.plain_step(units), settings.steps),
        }
        seconds = interleave(tasks, settings.repeats, settings.clock)
        found += [
            *(
                milliseconds("tvae_step", f"{k}, B={batch_size}", s, settings.steps)
                for k, s in seconds.items()
            ),
            ratio(
                "tvae_step",
                f"private / plain, B={batch_size}",
                seconds["private"],
                seconds["plain"],
                goal=1.3,
            ),
        ]
    return found


def tvae_peer(settings: Settings) -> list[Figure]:
    """A private TVAE step over the plain step of the `ctgan` package, both with modes."""
    found = []
    for batch_size in settings.batch_sizes:
        private = _tvae(True)
        step = private.private_step(batch_size, private.units(NUM_UNITS))
        rows = batch_size * settings.steps
        with ctgan_peer(settings.python, "tvae", batch_size, rows, settings.clock) as peer:
            tasks: dict[str, Task] = {"ours": repeated(step, peer.steps), "peer": peer.epoch}
            seconds = interleave(tasks, settings.repeats, settings.clock)
        label = f"ctgan {peer.version}, width {peer.width} (ours {private.generator.encoder.layout.width})"
        found += [
            milliseconds("tvae_peer", f"{label}, B={batch_size}", seconds["peer"], peer.steps),
            ratio(
                "tvae_peer", f"private / ctgan, B={batch_size}", seconds["ours"], seconds["peer"], goal=1.0
            ),
        ]
    return found


def backends(settings: Settings) -> list[Figure]:
    """Stock Opacus, and its clippers within our step, over ours; same network, batch and optimizer.

    Those that keep a gradient per unit take turns apart: what they leave of the caches slows whoever is next.
    """
    batch_size, found = settings.batch_sizes[0], []
    goals = {"stock ghost": 2.0, "stock hooks": 15.0}
    for others in (("stock ghost", "opacus_ghost"), ("stock hooks", "opacus_hooks", "vmap")):
        tasks: dict[str, Callable[[], None]] = {}
        for name in ("fast", *others):
            contender = Contender(name="tvae", settings=_BINS, private=True, schema=adult())
            units = contender.units(NUM_UNITS)
            if name.startswith("stock"):
                step = stock_opacus(contender, units, batch_size, ghost="ghost" in name)
            else:
                step = contender.private_step(batch_size, units, backend=name)
            tasks[name] = repeated(step, settings.steps)
        seconds = interleave(tasks, settings.repeats, settings.clock)
        for name in others:
            label, goal = f"{name} / fast, B={batch_size}", goals.get(name)
            found.append(ratio("backends", label, seconds[name], seconds["fast"], goal=goal, at_least=True))
    return found


def critic_step(settings: Settings) -> list[Figure]:
    """A private critic step with penalty over plain WGAN-GP critic steps, on the same critic.

    `published` takes the penalty's gradient by autograd's double backward pass, `plain` as ours does.
    """
    found = []
    for batch_size in settings.batch_sizes:
        same = {
            "size": "medium",
            "dropout": 0.25,
            "pac": 1,
            "representation": "bins",
            "batch_size": batch_size,
        }
        private = Contender(name="ctgan", settings=same, private=True, schema=adult())
        plain = Contender(name="ctgan", settings=same, private=False, schema=adult())
        published = Contender(name="ctgan", settings=same, private=False, schema=adult())
        critic = published.generator.players.critic
        critic.body = _whole(critic.body)
        units = private.units(NUM_UNITS)
        tasks = {
            "private": repeated(private.private_step(batch_size, units), settings.steps),
            "plain": repeated(_plain_critic(plain, units), settings.steps),
            "published": repeated(_plain_critic(published, units), settings.steps),
        }
        seconds = interleave(tasks, settings.repeats, settings.clock)
        for name, goal in (("plain", 1.1), ("published", None)):
            label = f"private / {name} WGAN-GP, B={batch_size}"
            found.append(ratio("critic_step", label, seconds["private"], seconds[name], goal=goal))
    return found


def _plain_critic(contender: Contender, units: Tensor) -> Callable[[], float]:
    objective, draw = contender.objective, _draw()
    objective.bind(units)
    return lambda: objective._train_critic(draw)


def _whole(body: nn.Module) -> nn.Module:
    """Wraps a network so that its layers cannot be read one by one."""
    from torch import nn

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = body

        def forward(self, rows: Tensor) -> Tensor:
            return self.body(rows)

    return Whole()


def ctgan_epoch(settings: Settings) -> list[Figure]:
    """A private CTGAN epoch over a plain one of the `ctgan` package, B = 500."""
    batch_size, rows = 500, settings.peer_rows
    variants = {"private defaults": {}, "ctgan's sizes and rounds": {"size": "large", "critic_steps": 1}}
    with ctgan_peer(settings.python, "ctgan", batch_size, rows, settings.clock) as peer:
        tasks: dict[str, Task] = {"peer": peer.epoch}
        for name, given in variants.items():
            contender = Contender(name="ctgan", settings=given, private=True, schema=adult())
            step = contender.private_step(batch_size, contender.units(rows), generator_steps=True)
            tasks[name] = repeated(step, peer.steps)
        seconds = interleave(tasks, max(3, settings.repeats // 4), settings.clock)
    goals = dict.fromkeys(variants, None) | {"private defaults": 0.5}
    return [
        ratio(
            "ctgan_epoch", f"{name} / ctgan {peer.version}", seconds[name], seconds["peer"], goal=goals[name]
        )
        for name in variants
    ]


def gpu(settings: Settings) -> list[Figure]:
    """Private over plain on a CUDA device at a large batch."""
    found, batch_size = [], settings.gpu_batch_size
    for name in ("tvae", "ctgan"):
        given = {"batch_size": batch_size} | ({"critic_steps": 1, "pac": 1} if name == "ctgan" else {})
        private = Contender(name=name, settings=given, private=True, schema=adult(), device="cuda")
        plain = Contender(name=name, settings=given, private=False, schema=adult(), device="cuda")
        tasks = {
            "private": private.private_step(
                batch_size, private.units(4 * batch_size), physical=batch_size * 2, generator_steps=True
            ),
            "plain": plain.plain_step(plain.units(4 * batch_size)),
        }
        seconds = interleave(tasks, settings.repeats, "wall")
        label = f"{name} private / plain, B={batch_size}"
        found += [
            *(milliseconds("gpu", f"{name} {k}", s) for k, s in seconds.items()),
            ratio("gpu", label, seconds["private"], seconds["plain"], goal=1.6),
        ]
    return found


def _tvae(private: bool, **settings: int) -> Contender:
    """TVAE at its published size, with modes, so that all contenders see rows of the same kind."""
    given = {"size": "medium", "representation": "modes", **settings}
    return Contender(name="tvae", settings=given, private=private, schema=adult())


def _draw():
    import torch

    return torch.Generator().manual_seed(3)
