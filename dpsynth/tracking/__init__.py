"""MLflow, and nothing else, lives here: one store, one parent run per sweep, one child per point.

A tracker is internal by nature: it is for the people who hold the data. Still, a number that was not paid for
never goes under a `released/` name, and the names say which is which.
"""

from dpsynth.tracking.config import TrackingConfig
from dpsynth.tracking.runs import METRIC_NAMES, MlflowTracker, Tracker, git_commit, track
from dpsynth.tracking.secrets import without_passwords
from dpsynth.tracking.store import attach, children, fetch, how_to_open, prepare, tags_of, without_telemetry

__all__ = [
    "METRIC_NAMES",
    "MlflowTracker",
    "Tracker",
    "TrackingConfig",
    "attach",
    "children",
    "fetch",
    "git_commit",
    "how_to_open",
    "prepare",
    "tags_of",
    "track",
    "without_passwords",
    "without_telemetry",
]
