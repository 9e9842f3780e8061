"""DGAN for library users: arrays or tables in, the same shape of arrays or tables out.

`DGAN(config)` trains WITHOUT privacy: bounds and categories are read off the data.
`DGAN(config, privacy=PrivacyConfig(epsilon=4.0))` spends a declared budget through `dpsynth.pipeline`: bounds
and values that `Declared` leaves open are bought, and what is neither declared nor for sale is refused.
"""

from __future__ import annotations

from dpsynth.data.sequences.arrays import windows
from dpsynth.generators.dgan import Config
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.timeseries.declared import Declared
from dpsynth.timeseries.model import DGAN
from dpsynth.timeseries.progress import ProgressInfo

__all__ = ["DGAN", "Config", "Declared", "PrivacyConfig", "ProgressInfo", "TrainingConfig", "windows"]
