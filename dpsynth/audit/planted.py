"""The violation zoo: mechanisms that are broken in known ways, each beside a sound twin.

An auditor who has never caught anything proves nothing. Every entry names the detector that must fire on the
violation and stay silent on its twin; tests and `dpsynth.audit.calibrate` count both.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.audit import conformance, invariance
from dpsynth.audit.planted_steps import (
    BREAKS,
    ShuffledBatches,
    batchnorm_losses,
    example_plan,
    packed_losses,
    planned_facts,
    stock_opacus,
)
from dpsynth.audit.types import Claim, Verdict

if TYPE_CHECKING:
    import pandas as pd

    from dpsynth.audit.attacks.model import ReleasedModel


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


def memorising_model(rows: pd.DataFrame, cutter: pd.DataFrame, *, seed: int) -> ReleasedModel:
    """Returns a network that has learned rows by heart: latents near a row's key bring it back.

    Args:
      cutter: table at whose quantiles numbers are cut into cells; not the rows themselves.
    """
    import torch

    from dpsynth.audit.attacks.model import ReleasedModel
    from dpsynth.audit.attacks.queries import MISSING, cells
    from dpsynth.data.rows.encoder import Layout, Segment
    from dpsynth.generators.parts.latent import LatentModel
    from dpsynth.generators.parts.nn import Segments

    cuts, noise = 8, 32

    def encode(table: pd.DataFrame) -> np.ndarray:
        codes = cells([table[cutter.columns]], cutter, cuts)[0].astype(np.float32).T
        return np.where(codes < MISSING, codes, codes - MISSING + cuts)

    size = 2 * cuts + 2  # numbers, missing and unseen ones, and at most so many categories
    parts = (
        Segment(column=c, kind="onehot", size=size, start=size * i) for i, c in enumerate(cutter.columns)
    )
    segments = Segments(Layout(tuple(parts)))
    memory = segments.expand(torch.from_numpy(encode(rows)))
    keys = torch.randn(len(rows), noise, generator=torch.Generator().manual_seed(seed))
    latent = LatentModel(
        segments=segments,
        draw=lambda num, draw: torch.randn(num, noise, generator=draw),
        logits=lambda inputs: (torch.softmax(inputs @ keys.T, dim=1) @ memory + 1e-3).log(),
        num_noise=noise,
    )
    return ReleasedModel(encode=encode, latent=latent)


def _memorised(broken: bool, seed: int) -> bool:
    """The rows are nobody's in both cases; only the network knows the members."""
    from dpsynth.audit.release import ReleaseConfig, audit_release
    from dpsynth.audit.stats.tradeoff import gaussian

    rng = np.random.default_rng([seed, 2])
    members, others, synthetic, reference, strangers = (
        population(n, rng) for n in (500, 500, 1000, 1000, 500)
    )
    f = gaussian(0.27)  # epsilon = 1 at delta = 1e-5
    result = audit_release(
        synthetic,
        members,
        others,
        reference=reference,
        claim=Claim(epsilon=f.epsilon(1e-5), f=f),
        model=memorising_model(members if broken else strangers, reference, seed=seed),
        config=ReleaseConfig(attacks=("likelihood", "inversion"), planted_repeats=1, seed=seed),
    )
    return result.verdict is Verdict.VIOLATION


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


def _sampler(broken: bool, seed: int) -> bool:
    from dpsynth.privacy.noise.entropy import AesEntropy
    from dpsynth.privacy.training.sampling import PoissonSampler

    rng = np.random.default_rng(seed)
    sampler = ShuffledBatches(600, 0.1, rng) if broken else PoissonSampler(600, 0.1, AesEntropy())
    return bool(conformance.check_sampler(sampler.draw, 600, 0.1))


def _size(broken: bool, seed: int) -> bool:
    return bool(conformance.check_size_independence(stock_opacus if broken else planned_facts))


def _losses(broken_losses: Callable) -> Callable[[bool, int], bool]:
    def detect(broken: bool, seed: int) -> bool:
        import torch

        draw = torch.Generator().manual_seed(seed)
        units, others = torch.randn(6, 4, generator=draw), torch.randn(6, 4, generator=draw)
        sound = lambda x: x.square().sum(dim=1)  # noqa: E731
        return bool(conformance.check_unit_independence(broken_losses if broken else sound, units, others))

    return detect


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
        "logged_loss": lambda: float(((numbers - numbers.mean()) ** 2).to_numpy().mean()),
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


def _game(broken: bool, seed: int) -> bool:
    """Releases a noisy sum as planned; broken, rows are also clipped to the range that was seen."""
    import pandas as pd

    from dpsynth.audit.multirun import MultirunConfig, audit_multirun, worst_case
    from dpsynth.audit.stats.tradeoff import gaussian

    f = gaussian(0.27)  # epsilon = 1 at delta = 1e-5

    def fit_sample(table: pd.DataFrame, run: int) -> pd.DataFrame:
        rng = np.random.default_rng()
        centre = table["c0"].sum() + rng.normal(0, 1 / f.mu)
        rows = np.clip(centre / 10 + rng.normal(0, 1, 20), 0.0, table["c0"].max() if broken else 1.0)
        return pd.DataFrame({"c0": rows})

    config = MultirunConfig(n_train=20, n_eval=40, jobs=1, seed=seed)
    claim = Claim(epsilon=f.epsilon(1e-5), f=f)
    result = audit_multirun(fit_sample, *worst_case(16, columns=1), claim=claim, config=config)
    return result.verdict is Verdict.VIOLATION


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
    Violation(name="memorised_rows", detector="release", detect=_memorised),
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
            "logged_loss",
        )
    ),
    Violation(name="min_max_in_rows", detector="multirun", detect=_game, certain=False),
    Violation(name="stored_rows", detector="scan", detect=_left_behind(store_rows)),
    Violation(name="stored_noise_seed", detector="scan", detect=_left_behind(store_noise_seed)),
    Violation(name="stored_count", detector="scan", detect=_left_behind(store_count)),
)
