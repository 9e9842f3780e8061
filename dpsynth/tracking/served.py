"""The module that MLflow loads by name: a registered model holds no pickle and no code but this package's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dpsynth import serving
from dpsynth.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd


class Answering:
    """Answers as the release does; what a request does wrong is MLflow's HTTP 400, in a sentence."""

    def __init__(self, served: serving.ServedRelease):
        self._served = served

    def predict(self, model_input: Any = None, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Returns synthetic rows; see `dpsynth.serving.ServedRelease`.

        Raises:
          MlflowException: with the code of a wrong parameter, which its server sends as HTTP 400.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        try:
            return self._served.predict(model_input, params)
        except InvalidInput as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None


def _load_pyfunc(path: str) -> Answering:
    """Loads a release for MLflow; the name is MLflow's."""
    return Answering(serving.load(path))
