"""The violation zoo: mechanisms that are broken in known ways, each beside a sound twin.

An auditor who has never caught anything proves nothing. Every entry names the detector that must fire on the
violation and stay silent on its twin; tests and `dpsynth.audit.calibrate` count both.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit import conformance, invariance
from dpsynth.audit.types import Claim, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.privacy.plan import TrainingPlan


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One way to break the claim.

    Args:
      detect: (broken, seed) -> whether the detector fires; `broken=False` runs the sound twin.
      certain: one detection proves it; otherwise a rate over seeds is what counts.
    """

    name: str
    detector: str
    detect: Callable[[bool, int], bool]
    certain: bool = True


# ---- tables ---------------------------------------------------------------------------------------------


def population(num: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draws rows of mixed type with correlated columns, from one fixed law."""
    import pandas as pd

    mix = np.random.default_rng(7).normal(size=(3, 8))
    values = rng.normal(size=(num, 3)) @ mix + 0.6 * rng.normal(size=(num, 8))
    table = pd.DataFrame(values, columns=[f"x{i}" for i in range(8)]).round(4)
    for name, cuts in (("x0", 4), ("x1", 6)):
        table[name] = np.array(list("abcdef"))[np.clip((table[name] + cuts / 2).astype(int), 0, cuts - 1)]
    return table


def copy_members(synthetic: pd.DataFrame, members: pd.DataFrame, share: float, rng: np.random.Generator):
    """Replaces synthetic rows by exact copies of a share of the members."""
    planted = synthetic.copy().reset_index(drop=True)
    chosen = members.iloc[rng.choice(len(members), max(1, round(share * len(members))), replace=False)]
    planted.iloc[: len(chosen)] = chosen[planted.columns].to_numpy()
    for name in planted.columns:
        planted[name] = planted[name].astype(synthetic[name].dtype)
    return planted


def _copies(share: float) -> Callable[[bool, int], bool]:
    def detect(broken: bool, seed: int) -> bool:
        from dpsynth.audit.release import ReleaseConfig, audit_release
        from dpsynth.audit.stats.tradeoff import gaussian

        rng = np.random.default_rng([seed, 1])
        members, others, synthetic, reference = (population(n, rng) for n in (500, 500, 2000, 1000))
        if broken:
            synthetic = copy_members(synthetic, members, share, rng)
        attacks = ("copy", "nearest_record", "distance_difference")
        f = gaussian(0.27)  # epsilon = 1 at delta = 1e-5
        claim = Claim(epsilon=f.epsilon(1e-5), f=f)
        config = ReleaseConfig(attacks=attacks, planted_repeats=1, seed=seed)
        result = audit_release(synthetic, members, others, reference=reference, claim=claim, config=config)
        return result.verdict is Verdict.VIOLATION

    return detect


# ---- training steps --------------------------------------------------------------------------------------


def example_plan(noise_multiplier: float = 0.937) -> TrainingPlan:
    """A plan of 100 steps at rate 0.1; 0.937 claims epsilon = 8 at delta = 1e-5."""
    from dpsynth.privacy.plan import TrainingPlan

    return TrainingPlan(
        sample_rate=0.1,
        steps=100,
        noise_multiplier=noise_multiplier,
        max_grad_norm=1.0,
        expected_batch_size=50.0,
    )


def scale_noise(plan: TrainingPlan, factor: float) -> TrainingPlan:
    """Adds `factor` times the planned noise."""
    return replace(plan, noise_multiplier=plan.noise_multiplier * factor)


def widen_clip(plan: TrainingPlan, factor: float = 5.0) -> TrainingPlan:
    """Clips `factor` times too wide and keeps the stddev of the noise."""
    return replace(
        plan, max_grad_norm=plan.max_grad_norm * factor, noise_multiplier=plan.noise_multiplier / factor
    )


def raise_rate(plan: TrainingPlan, factor: float = 2.0) -> TrainingPlan:
    """Samples `factor` times too often."""
    return replace(plan, sample_rate=plan.sample_rate * factor)


def hide_steps(plan: TrainingPlan, factor: float = 2.0) -> TrainingPlan:
    """Takes `factor` times the charged steps, as accumulation that nobody counts does."""
    return replace(plan, steps=round(plan.steps * factor))


BREAKS: Mapping[str, Callable[[Any], Any]] = {
    "noise_off": lambda plan: scale_noise(plan, 0.0),
    "noise_halved": lambda plan: scale_noise(plan, 0.5),
    "noise_over_1.25": lambda plan: scale_noise(plan, 0.8),
    "clip_5_times_too_wide": widen_clip,
    "rate_doubled": raise_rate,
    "steps_uncounted": hide_steps,
}


def _whitebox(
    break_plan: Callable, *, m: int = 500, noise_multiplier: float = 0.937
) -> Callable[[bool, int], bool]:
    def detect(broken: bool, seed: int) -> bool:
        from dpsynth.audit.whitebox import WhiteboxConfig, audit_whitebox

        plan = example_plan(noise_multiplier)
        config = WhiteboxConfig(m=m, seed=seed)
        result = audit_whitebox(plan, actual=break_plan(plan) if broken else None, config=config)
        return result.verdict is Verdict.VIOLATION

    return detect


def _conform(break_plan: Callable) -> Callable[[bool, int], bool]:
    def detect(broken: bool, seed: int) -> bool:
        from dpsynth.audit.trace import trace_scores

        plan = example_plan()
        included = np.random.default_rng(seed).random(300) < 0.5
        _, log = trace_scores(plan, break_plan(plan) if broken else plan, included, seed=seed)
        return bool(conformance.check_training(log, plan).leaks)

    return detect


class ShuffledBatches:
    """Cuts a shuffled list into batches of one size, as loaders do; the rate is right, the law is not."""

    def __init__(self, num_units: int, sample_rate: float, rng: np.random.Generator):
        self._size, self._num, self._rng = round(num_units * sample_rate), num_units, rng
        self._left: list[int] = []

    def draw(self) -> list[int]:
        if len(self._left) < self._size:
            self._left = self._rng.permutation(self._num).tolist()
        batch, self._left = self._left[: self._size], self._left[self._size :]
        return batch


def _sampler(broken: bool, seed: int) -> bool:
    from dpsynth.privacy.noise import AesEntropy
    from dpsynth.privacy.sampling import PoissonSampler

    rng = np.random.default_rng(seed)
    sampler = ShuffledBatches(600, 0.1, rng) if broken else PoissonSampler(600, 0.1, AesEntropy())
    return bool(conformance.check_sampler(sampler.draw, 600, 0.1))


def stock_opacus(num_units: int, batch_size: int = 100) -> tuple[float, int, float]:
    """Returns (sample rate, steps per epoch, divisor) as `make_private` of Opacus 1.6 derives them.

    From the length of the data loader, hence from the exact number of units.
    """
    steps = -(-num_units // batch_size)
    return 1 / steps, steps, float(int(num_units / steps))


def planned_facts(num_units: int) -> tuple[float, int, float]:
    """Returns what dpsynth derives for the same table: everything from the declared size, nothing from N."""
    from dpsynth.data.schema import Continuous, Schema
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
    from dpsynth.privacy.plan import Request, make_plan

    schema = Schema(columns=(Continuous(name="x", min=0.0, max=1.0),), num_units=1000)
    config = TrainingConfig(sample_rate=None, expected_batch_size=100, epochs=1.0)
    training = make_plan(PrivacyConfig(epsilon=1.0), config, schema, Request(trains=True)).training
    return training.sample_rate, training.steps, training.expected_batch_size


def _size(broken: bool, seed: int) -> bool:
    return bool(conformance.check_size_independence(stock_opacus if broken else planned_facts))


def packed_losses(units):
    """Scores ten units as one sample, as CTGAN's pac = 10 does (here: pairs)."""
    pairs = units.reshape(len(units) // 2, -1)
    return pairs.square().sum(dim=1).repeat_interleave(2)


def batchnorm_losses(units):
    """Normalises by the batch."""
    return ((units - units.mean(dim=0)) / (units.std(dim=0) + 1e-5)).square().sum(dim=1)


def _losses(broken_losses: Callable) -> Callable[[bool, int], bool]:
    def detect(broken: bool, seed: int) -> bool:
        import torch

        draw = torch.Generator().manual_seed(seed)
        units, others = torch.randn(6, 4, generator=draw), torch.randn(6, 4, generator=draw)
        sound = lambda x: x.square().sum(dim=1)  # noqa: E731
        return bool(conformance.check_unit_independence(broken_losses if broken else sound, units, others))

    return detect


# ---- what is left behind ----------------------------------------------------------------------------------


def leaky_facts(table: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    """Returns facts that published synthesizers fit on the private table without paying, by name."""
    numbers = table.select_dtypes("number")
    texts = table.select_dtypes(exclude="number")
    return {
        "min_max": lambda: numbers.agg(["min", "max"]),
        "vocabulary": lambda: {c: sorted(texts[c].astype(str).unique()) for c in texts},
        "log_frequencies": lambda: {
            c: np.log(texts[c].value_counts().sort_index().to_numpy()) for c in texts
        },
        "mixture": lambda: {c: _two_means(numbers[c].to_numpy(float)) for c in numbers},
        "missing_rate": lambda: (table.isna().sum() / len(table)).to_numpy() + 1 / len(table),
        "scale": lambda: numbers.std().to_numpy(),
        "num_units": lambda: len(table),
        "early_stop": lambda: int(np.abs(numbers.to_numpy(float)).mean() * 1000),
    }


def _two_means(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, [0.25, 0.75])
    near = np.abs(values - low) < np.abs(values - high)
    return np.array([values[near].mean(), values[~near].mean()])


def _facts(name: str) -> Callable[[bool, int], bool]:
    def detect(broken: bool, seed: int) -> bool:
        table = population(200, np.random.default_rng(seed))
        build = (lambda t: {name: leaky_facts(t)[name]()}) if broken else (lambda t: {name: "as declared"})
        return bool(invariance.check_invariance(build, table, invariance.worst_neighbours(table)))

    return detect


def _left_behind(write: Callable[[Path, Any], None]) -> Callable[[bool, int], bool]:
    def detect(broken: bool, seed: int) -> bool:
        table = population(200, np.random.default_rng(seed))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            (path / "run.json").write_text(json.dumps({"seed": 0, "epsilon": 1.0, "privacy": "aes noise"}))
            np.savez(path / "weights.npz", w=np.random.default_rng(seed).normal(size=500))
            if broken:
                write(path, table)
            return bool(invariance.scan(path, table))

    return detect


def store_rows(folder: Path, table: pd.DataFrame) -> None:
    """Keeps training rows in a checkpoint, as pickled samplers do."""
    import torch

    torch.save({"sampler": torch.tensor(table.select_dtypes("number").to_numpy()[:40])}, folder / "model.pt")


def store_noise_seed(folder: Path, table: pd.DataFrame) -> None:
    """Logs the seed from which the noise was drawn."""
    (folder / "params.json").write_text(json.dumps({"noise_seed": 1234}))


def store_count(folder: Path, table: pd.DataFrame) -> None:
    """Logs the exact number of units."""
    (folder / "params.json").write_text(json.dumps({"rows": len(table)}))


ZOO: tuple[Violation, ...] = (
    *(
        Violation(name=f"copies_{share:.0%}", detector="release", detect=_copies(share), certain=share >= 0.1)
        for share in (1.0, 0.1, 0.01)
    ),
    *(
        Violation(name=name, detector="whitebox", detect=_whitebox(BREAKS[name]), certain=False)
        for name in BREAKS
    ),
    *(Violation(name=name, detector="conformance", detect=_conform(BREAKS[name])) for name in BREAKS),
    Violation(name="shuffle_as_poisson", detector="sampler", detect=_sampler),
    Violation(name="stock_opacus_wiring", detector="size", detect=_size),
    Violation(name="packing", detector="unit_independence", detect=_losses(packed_losses)),
    Violation(name="batchnorm", detector="unit_independence", detect=_losses(batchnorm_losses)),
    *(
        Violation(name=name, detector="invariance", detect=_facts(name))
        for name in (
            "min_max",
            "vocabulary",
            "log_frequencies",
            "mixture",
            "missing_rate",
            "scale",
            "num_units",
            "early_stop",
        )
    ),
    Violation(name="stored_rows", detector="scan", detect=_left_behind(store_rows)),
    Violation(name="stored_noise_seed", detector="scan", detect=_left_behind(store_noise_seed)),
    Violation(name="stored_count", detector="scan", detect=_left_behind(store_count)),
)
