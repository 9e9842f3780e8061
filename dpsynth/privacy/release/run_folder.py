"""Whose run a folder holds: what it does, to which table, charged where. Internal, of its owner alone.

A folder goes on with its own run and with no other. What decides is what changes the mechanism; where and how
it is computed, and where its cost is kept, may differ.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import GuaranteeVoid
from dpsynth.files import write_whole
from dpsynth.privacy.ledger.lines import canonical, mechanism
from dpsynth.privacy.ledger.tip import read_intact

if TYPE_CHECKING:
    from dpsynth.data.schema import Schema
    from dpsynth.data.tables.table import PrivateTable
    from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
    from dpsynth.privacy.plan.plan import Plan
    from dpsynth.privacy.release.release import Release

FILE = "run.json"
_PAID = ("ledger.jsonl", "answers.json", "training.ckpt", "weights.safetensors", "release")
_SHOWN = 5  # differences in one message
# These change where and how a run is computed, or where it is charged; not what it releases.
NOT_IDENTITY = {
    "training": ("threads", "checkpoint_every", "resident_mb", "physical_batch_size", "backend", "device"),
    "privacy": ("lifetime_epsilon", "lifetime_delta", "dataset_ledger", "dataset"),
}


def settings_of(privacy: PrivacyConfig, training: TrainingConfig) -> dict[str, Any]:
    """Returns the part of the declared privacy and training that decides what a run releases."""
    groups = {"privacy": dataclasses.asdict(privacy), "training": dataclasses.asdict(training)}
    kept = {name: without(group, NOT_IDENTITY[name]) for name, group in groups.items()}
    if path := training.public_validation:
        from dpsynth.privacy.ledger.digests import file_digest

        kept["training"]["public_validation"] = file_digest(Path(path))
    return kept


def facts_of(schema: Schema, recipe: Any, canaries: str | None) -> dict[str, Any]:
    """Returns what tells a run from others: what it does, by a pipeline's recipe, with a schema. Public.

    Args:
      canaries: hash of the coins by which units were left out before the run.
    """
    settings = recipe.settings
    named = {
        "generator": recipe.generator,
        "settings": dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else vars(settings),
        "seed": recipe.seed,
        "num_rows": recipe.num_rows,
        "canaries": canaries,
        "schema": schema.to_dict(),
    }
    return {**named, **settings_of(recipe.privacy, recipe.training)}


def without(group: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in keys}


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The record of a run in its folder, `run.json`.

    Args:
      folder: of the run.
      facts: what the run does; public.
      table: salted fingerprint of the rows that it reads; private.
      salt: in hex, of that.
      run: under which its cost is kept.
      ledger: id of its ledger; None before there is one.
      store: where its cost is kept; None before it is charged.
    """

    folder: Path
    facts: Mapping[str, Any]
    table: str
    salt: str
    run: str
    ledger: str | None = None
    store: str | None = None

    @classmethod
    def open(cls, folder: Path, facts: Mapping[str, Any], table: PrivateTable) -> RunFolder:
        """Begins a folder, or goes on in it with the same run.

        Raises:
          GuaranteeVoid: the folder holds another run, or what was paid for in it is gone.
        """
        facts = json.loads(json.dumps(facts, default=str))
        there = [name for name in _PAID if (folder / name).exists()]
        if not (folder / FILE).exists():
            if there:
                raise GuaranteeVoid(
                    f"{folder} holds {', '.join(there)}, but no {FILE}, which says of which run. Restore it, "
                    "or take another folder."
                )
            return cls._begin(folder, facts, table, uuid.uuid4().hex)
        kept = cls.read(folder)
        if kept.ledger is not None and "ledger.jsonl" not in there:
            raise GuaranteeVoid(f"{folder / 'ledger.jsonl'} is gone. Restore it: it holds what was spent.")
        if not there:  # interrupted before it read anything
            return cls._begin(folder, facts, table, kept.run)
        found = list(differences(kept.facts, facts))
        if table.fingerprint(bytes.fromhex(kept.salt)) != kept.table:
            found.append("the table is another one")
        if found:
            raise GuaranteeVoid(
                f"{folder} holds another run: {'; '.join(found[:_SHOWN])}. Restore that, or take another "
                "folder, which spends anew."
            )
        return kept

    @classmethod
    def _begin(cls, folder: Path, facts: Mapping[str, Any], table: PrivateTable, run: str) -> RunFolder:
        folder.mkdir(parents=True, exist_ok=True)
        salt = secrets.token_bytes(32)
        begun = cls(folder=folder, facts=facts, table=table.fingerprint(salt), salt=salt.hex(), run=run)
        begun._write()
        return begun

    @classmethod
    def read(cls, folder: Path) -> RunFolder:
        """Reads the record of a folder that has one.

        Raises:
          GuaranteeVoid: it is damaged.
        """
        try:
            kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return cls(folder=folder, **kept)
        except (OSError, ValueError, TypeError):
            raise GuaranteeVoid(f"{folder / FILE} is damaged. Restore it, or take another folder.") from None

    @property
    def finished(self) -> bool:
        return (self.folder / "release").exists()

    def releases(self, plan: Plan) -> tuple[Release, tuple[Release, ...]]:
        """Reads the release of a finished run, and the rungs below it.

        Raises:
          GuaranteeVoid: a file was changed, or they are not of this plan and of the ledger beside them.
        """
        from dpsynth.privacy.release.release import Release

        release, records = Release.load(self.folder / "release"), read_intact(self.folder / "ledger.jsonl")
        if canonical(release.ledger) != canonical(records):
            raise GuaranteeVoid(f"The release in {self.folder} is not of the ledger beside it. Restore them.")
        if canonical(mechanism(records[0]["plan"])) != canonical(mechanism(plan.to_dict())):
            raise GuaranteeVoid(f"The release in {self.folder} is of another plan. Take another folder.")
        return release, tuple(Release.load(rung.place(self.folder)) for rung in plan.rungs[:-1])

    def noted(self, **changes: Any) -> RunFolder:
        """Returns the record with other values, on disk."""
        if all(getattr(self, key) == value for key, value in changes.items()):
            return self
        changed = replace(self, **changes)
        changed._write()
        return changed

    def charged_nearby(self, store: Path) -> set[str]:
        """Lists this run, and runs beside it, that were charged to a store and began to read."""
        near = {self.folder.parent.resolve(), *_folders(self.folder.parent.resolve().parent)}
        found = set()
        for folder in {self.folder.resolve(), *(path for parent in near for path in _folders(parent))}:
            try:
                kept = RunFolder.read(folder)
            except GuaranteeVoid:
                continue
            if kept.store == str(store) and kept.ledger is not None:
                found.add(kept.run)
        return found

    def _write(self) -> None:
        body = {key: value for key, value in vars(self).items() if key != "folder"}
        write_whole(self.folder / FILE, json.dumps(body, indent=1), private=True)


def _folders(place: Path) -> list[Path]:
    """Lists the folders in one; none where it went away meanwhile, or is closed to us."""
    try:
        with os.scandir(place) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:
        return []


def differences(kept: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Says how two sets of public facts differ, key by key."""
    for key in dict.fromkeys([*kept, *given]):
        old, new = kept.get(key), given.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif canonical([old]) != canonical([new]):
            yield f"{prefix}{key} is {_short(old)} there and {_short(new)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else "another one"


def ledgers_in(folder: Path) -> list[list[dict[str, Any]]]:
    """Reads the ledgers of all runs of a sweep, finished or not, each held against its chain and its tip.

    Raises:
      GuaranteeVoid: one is gone, or was changed or cut; without it nobody knows what was spent.
    """
    ledgers = []
    for path in sorted(path for path in folder.glob("*") if path.is_dir()):
        begun = (path / FILE).exists() and RunFolder.read(path).ledger is not None
        if begun or (path / "ledger.jsonl").exists():
            ledgers.append(read_intact(path / "ledger.jsonl"))
    return ledgers
