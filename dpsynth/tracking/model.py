"""Releases in the Model Registry: each is a version of a model that answers with synthetic rows."""

from __future__ import annotations

import json
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth import serving
from dpsynth.errors import DpsynthError
from dpsynth.tracking import served
from dpsynth.tracking.store import import_mlflow, only_one_process

if TYPE_CHECKING:
    from dpsynth.tracking.runs import MlflowTracker

_FOLDER = "model"
_PACKAGE = Path(serving.__file__).resolve().parent


def save(release: Path | str, folder: Path | str) -> Path:
    """Writes a release as an MLflow model: the release, the package's code and what it needs.

    The model can be loaded, and served by `mlflow models serve`, where neither the data nor this package is.

    Raises:
      DpsynthError: the folder is not a release.
    """
    import_mlflow()
    from mlflow import pyfunc

    release, folder = Path(release), Path(folder)
    if not (release / "certificate.json").is_file():
        raise DpsynthError(f"{release} is not a release: certificate.json is missing.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # asks for an example of the input
        pyfunc.save_model(
            str(folder),
            loader_module=served.__name__,
            data_path=str(release),
            code_paths=[str(_PACKAGE)],
            pip_requirements=_requirements(),
            signature=_signature(),
            metadata=_facts(release),
        )
    return folder


def register(tracker: MlflowTracker, release: Path | str, name: str) -> str:
    """Makes a run's release the next version of the model `name`; returns the version."""
    mlflow = import_mlflow()
    client, facts = tracker.client, _facts(Path(release))
    with tempfile.TemporaryDirectory() as place:
        tracker.artifacts(save(release, Path(place) / _FOLDER), _FOLDER)
    source = client.get_run(tracker.run_id).info.artifact_uri + f"/{_FOLDER}"
    with only_one_process(tracker.config):  # versions are numbered by reading the last one
        try:
            client.create_registered_model(
                name, description="Answers with synthetic rows; `n` says how many."
            )
        except mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            name, source, tracker.run_id, tags=facts, description=f"{facts['generator']}: {facts['dp.claim']}"
        )
    return str(made.version)


def _facts(release: Path) -> dict[str, str]:
    """Returns what a reader of the registry should see first; all of it is released."""
    certificate = json.loads((release / "certificate.json").read_text(encoding="utf-8"))
    generator = json.loads((release / "release.json").read_text(encoding="utf-8"))["generator"]["name"]
    return {
        "dp.claim": str(certificate["claim"]),
        "dp.unit": str(certificate["unit"]),
        "generator": generator,
    }


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec

    params = [ParamSpec(name, "long", default) for name, default in serving.DEFAULTS.items()]
    return ModelSignature(params=ParamSchema(params))  # inputs stay free, so that predict(5) works


def _requirements() -> list[str]:
    """Returns what sampling needs, at the versions that are here; `+cpu` and the like name no public file."""
    found = ["mlflow"]
    for package in serving.NEEDS:
        try:
            found.append(f"{package}=={version(package).split('+')[0]}")
        except PackageNotFoundError:
            found.append(package)
    return found
