"""A Release: the only thing that leaves. Five files, each on an allow-list, none of them a pickle."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.bought.statistics import Statistics
from dpsynth.data.schema import Schema
from dpsynth.data.tables.untrusted import check_folder, read_facts, read_object, shown
from dpsynth.errors import DpsynthError, GuaranteeVoid
from dpsynth.privacy.ledger.digests import file_digest
from dpsynth.privacy.ledger.ledger import Ledger
from dpsynth.privacy.ledger.lines import canonical
from dpsynth.privacy.noise.entropy import Entropy
from dpsynth.privacy.release.certificate import CERTIFICATE, FILES, VERSION, make_certificate

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from dpsynth.privacy.many_runs.ladder import Extract


@dataclass(frozen=True, kw_only=True)
class Release:
    """What a run gives away. Everything in it is public or released; loading needs no private data.

    Formal guarantee: holds declared facts, bought answers, the released weights and rows made from them; all
    of it is post-processing of the events in the ledger. Nothing else can be put in: the fields are an
    allow-list, weights must be tensors and facts plain JSON.

    Args:
      schema: public.
      statistics: bought.
      encoder: the encoder's own facts (`to_dict`): arithmetic on schema and statistics.
      generator: name of the method and its public settings: {"name": …, "config": {…}, "shaped": …}.
      weights: of the module that may be sampled again.
      synthetic: generated rows.
      seed: public.
      ledger: all lines of the ledger.
      certificate: what is claimed, by whom computed, with which gaps.
      versions: of the software.
    """

    schema: Schema
    statistics: Statistics
    encoder: Mapping[str, Any]
    generator: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]
    synthetic: pd.DataFrame
    seed: int
    ledger: Sequence[Mapping[str, Any]]
    certificate: Mapping[str, Any]
    versions: Mapping[str, str]

    @classmethod
    def make(
        cls,
        *,
        schema: Schema,
        statistics: Statistics,
        encoder: Mapping[str, Any],
        generator: str,
        config: Any,
        shaped: bool = True,
        weights: Mapping[str, torch.Tensor],
        synthetic: pd.DataFrame,
        seed: int,
        ledger: Ledger | Extract,
        entropy: Entropy,
    ) -> Release:
        """Assembles a release and certifies it by the ledger.

        Args:
          config: the generator's public settings, a dataclass or a mapping.
          shaped: the generator was made as for privacy, whatever is promised.
          ledger: every event that was charged must be finished.
        Raises:
          GuaranteeVoid: the ledger has an open event, or something is not on the allow-list.
        """
        finished = {record["event"] for record in ledger.records if record["kind"] == "finish"}
        charged = [record["event"] for record in ledger.records if record["kind"] == "charge"]
        open_events = [event for event in charged if event not in finished]
        if open_events:
            raise GuaranteeVoid(f"{open_events[0]!r} is not finished; resume the run before releasing.")
        settings = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config)
        return cls(
            schema=schema,
            statistics=statistics,
            encoder=_plain("encoder", encoder),
            generator=_plain("generator", {"name": generator, "config": settings, "shaped": shaped}),
            weights=_tensors(weights),
            synthetic=synthetic,
            seed=int(seed),
            ledger=tuple(ledger.records),
            certificate=make_certificate(ledger.records, schema, entropy.name),
            versions=versions(),
        )

    @property
    def private(self) -> bool:
        return bool(self.certificate["private"])

    @property
    def shaped(self) -> bool:
        """Whether its generator was made as for privacy."""
        return bool(self.generator.get("shaped", self.certificate["delta"] is not None))

    @property
    def claim(self) -> str:
        """`epsilon=…, delta=…`, `NON-PRIVATE` or `VOID`."""
        return str(self.certificate["claim"])

    def save(self, folder: str | Path) -> Path:
        """Writes the release into a new or empty folder, the certificate (with the files' hashes) last."""
        from safetensors.torch import save_file

        from dpsynth.data.tables.io import write_table

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise GuaranteeVoid(f"{folder} is not empty; a release is written into a folder of its own.")
        facts = {
            "version": VERSION,
            "schema": self.schema.to_dict(),
            "statistics": self.statistics.to_dict(),
            "encoder": self.encoder,
            "generator": self.generator,
            "seed": self.seed,
            "versions": self.versions,
        }
        write_table(_bare(self.synthetic), folder / "synthetic.parquet")
        save_file({name: tensor.contiguous() for name, tensor in self.weights.items()}, folder / FILES[1])
        _write_json(folder / "release.json", facts)
        _write_json(folder / "ledger.json", {"records": list(self.ledger)})
        hashes = {name: file_digest(folder / name) for name in FILES}
        _write_json(folder / CERTIFICATE, {**self.certificate, "files": hashes})
        return folder

    def save_whole(self, place: Path) -> None:
        """Writes the release into a new folder in one step: a killed run leaves all of it, or nothing."""
        partial = place.with_name(f"{place.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        self.save(partial).replace(place)

    @classmethod
    def load(cls, folder: str | Path) -> Release:
        """Reads a release; needs no private data.

        Raises:
          GuaranteeVoid: a file is missing, was changed after the certificate was written, or is nothing that
            a run writes.
        """
        import pandas as pd
        from safetensors.torch import load_file

        folder = Path(folder)
        certificate = check_folder(folder, FILES, CERTIFICATE)
        facts, ledger = read_facts(folder / "release.json"), read_object(folder / "ledger.json")
        if facts.get("version") != VERSION:
            found = shown(facts.get("versions"), 80)
            raise GuaranteeVoid(f"{folder} has another format; read it with dpsynth {found}.")
        try:
            schema = Schema.from_dict(facts["schema"])
            parts = {
                "statistics": Statistics.from_dict(facts["statistics"], schema),
                "ledger": tuple(dict(record) for record in ledger["records"]),
                **{key: facts[key] for key in ("encoder", "generator", "seed", "versions")},
            }
        except (KeyError, TypeError, ValueError, AttributeError, DpsynthError) as error:
            fix = "See what is wrong with it by experiments.verify."
            raise GuaranteeVoid(
                f"{folder} does not hold what a run writes ({type(error).__name__}). {fix}"
            ) from None
        return cls(
            schema=schema,
            weights=load_file(folder / FILES[1]),
            synthetic=pd.read_parquet(folder / "synthetic.parquet"),
            certificate={key: value for key, value in certificate.items() if key != "files"},
            **parts,
        )


def _bare(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows without what Parquet would carry along: attributes, the index, categories that no row has."""
    bare = frame.copy(deep=False)
    bare.attrs = {}
    for name in bare.columns:
        if bare[name].dtype == "category":
            bare[name] = bare[name].cat.remove_unused_categories()
    return bare.reset_index(drop=True)


def _plain(where: str, content: Any) -> Any:
    """Returns content as JSON would read it back; refuses anything that is not plain."""
    try:
        return json.loads(canonical(content))
    except (TypeError, ValueError) as error:
        raise GuaranteeVoid(f"{where} holds something that is not plain JSON: {error}") from None


def _tensors(weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    import torch

    for name, tensor in weights.items():
        if not isinstance(name, str) or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            raise GuaranteeVoid(f"The weight {name!r} is a {type(tensor).__name__}, not a tensor.")
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}


def versions() -> dict[str, str]:
    """Versions of the software that computes releases and what they cost."""
    from importlib.metadata import version

    packages = ("dpsynth", "torch", "opacus", "dp-accounting", "opendp", "randomgen", "numpy", "pandas")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            found[package] = "unknown"
    return found | {"commit": _commit()}


@functools.cache
def _commit() -> str:
    """The commit of the code that runs; "unknown" outside a checkout, with a mark where files differ."""
    import subprocess

    root = Path(__file__).resolve().parent
    while root.name != "dpsynth" and root != root.parent:
        root = root.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        tracked = ["git", "-C", str(root), "ls-files", "--error-unmatch", "__init__.py"]
        subprocess.run(tracked, capture_output=True, check=True, timeout=20)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()[:60] or "unknown"


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
