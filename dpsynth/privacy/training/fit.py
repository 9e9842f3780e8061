"""Fits a generator: to bought statistics for free, then from private units; keeps what it paid for."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.tables.table import PrivateTable, Receipt
from dpsynth.data.units.units import units_of
from dpsynth.errors import GuaranteeVoid
from dpsynth.files import whole

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dpsynth.privacy.ledger.ledger import Ledger
    from dpsynth.privacy.noise.entropy import Entropy
    from dpsynth.privacy.plan.plan import Plan
    from dpsynth.privacy.training.progress import Progress, TrainingLog
    from dpsynth.privacy.training.sampling import UnitStore


def fit(
    generator: Any,
    table: PrivateTable,
    recipe: Any,
    priced: Plan,
    ledger: Ledger,
    entropy: Entropy,
    folder: Path,
    on_step: Callable[[Progress], None] | None,
    public: pd.DataFrame | None,
) -> TrainingLog | None:
    """Fits to bought statistics, free; then trains from private units, by DP-SGD or, declared so, without."""
    from safetensors.torch import load_file, save_file

    from dpsynth.privacy.ledger.digests import file_digest
    from dpsynth.privacy.training.checkpoint import Checkpoint
    from dpsynth.privacy.training.encoded_units import encoded_units, unit_store
    from dpsynth.privacy.training.kept_states import kept_states
    from dpsynth.privacy.training.train import train
    from dpsynth.privacy.training.warm_start import warm_started
    from dpsynth.privacy.training.without_privacy import train_without_privacy

    if not generator.trains:
        generator.fit_public()
        generator.fit_release()
        return None
    weights, config, seed = folder / "weights.safetensors", recipe.training, recipe.seed
    if ledger.is_finished("training"):  # a resumed run, interrupted after its training
        if not weights.is_file() or file_digest(weights) != ledger.digest("training"):
            raise GuaranteeVoid(f"{weights} is gone, or is not what was trained. Restore it.")
        generator.load_state(load_file(weights))
        ledger.finish_if_open("validation")  # the looks at the loss
        return None
    generator.fit_public()
    validation = None if public is None else encoded_units(public, generator.encoder)

    def units(receipt: Receipt) -> Tensor | UnitStore:
        rows, mb = table.read(receipt), config.resident_mb if priced.private else math.inf
        if generator.encoder.units != units_of(table.schema):
            raise GuaranteeVoid("The encoder packs other units than those that the plan protects.")
        return unit_store(rows, generator.encoder, resident_mb=mb, device=config.device)

    kept = kept_states(folder, priced)
    checkpoint = Checkpoint(path=folder / "training.ckpt", every=config.checkpoint_every, kept=kept)
    if priced.training is not None:
        constants = priced.training.with_count(generator.encoder.statistics.num_units)
        log = train(
            warm_started(generator, config, seed),
            units,
            constants,
            ledger,
            entropy,
            seed=seed,
            config=config,
            on_step=on_step,
            checkpoint=checkpoint,
            public_validation=validation,
        )
    else:
        rows = units(ledger.charge("training"))
        log = train_without_privacy(
            generator.plain_objective(), rows, config, seed=seed, on_step=on_step, validation=validation
        )
    generator.fit_release()
    with whole(weights) as draft:
        save_file({name: tensor.contiguous() for name, tensor in generator.state().items()}, draft)
    ledger.finish("training", file_digest(weights))
    ledger.finish_if_open("validation")  # the looks at the loss
    checkpoint.path.unlink(missing_ok=True)
    return log
