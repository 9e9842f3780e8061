"""Settings that all tests share."""

from __future__ import annotations

import os
import sys
import tempfile

from absl import logging as absl_logging
from hypothesis import HealthCheck, settings

# A busy machine must not decide: examples have no deadline of their own. Every run draws the same ones, so
# that a red run is the change's fault; `pytest --hypothesis-profile=explore` looks further.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dpsynth", derandomize=True, **_COMMON)
settings.register_profile("explore", max_examples=1000, **_COMMON)
settings.load_profile("dpsynth")

# Hydra closes all log handlers, and absl's would close the stream that it found, which is pytest's.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

# Runs charge a ledger in the user's data folder; tests have one of their own.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="dpsynth-tests-")
