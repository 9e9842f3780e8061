"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine must not decide: examples have no deadline of their own. Every run draws the same ones, so
# that a red run is the change's fault; `pytest --hypothesis-profile=explore` looks further.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dpsynth", derandomize=True, **_COMMON)
settings.register_profile("explore", max_examples=1000, **_COMMON)
settings.load_profile("dpsynth")
