"""A password in a tracking address reaches the store that it opens and nothing that is kept."""

import os

import pytest

from dpsynth.tracking import TrackingConfig, without_passwords
from dpsynth.tracking.secrets import PASSWORD

_NAMES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in _NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("tracking.uri=http://alice:s3cr3t@host:5077", "tracking.uri=http://host:5077"),
        ('tracking.uri="https://alice:s3cr3t@host/x"', 'tracking.uri="https://host/x"'),
        ("++tracking.uri='http://alice:s3cr3t@host'", "++tracking.uri='http://host'"),
    ],
)
def test_a_password_on_the_command_line_moves_to_the_environment_that_mlflow_reads(typed, kept):
    assert without_passwords(["seed=1", typed]) == ["seed=1", kept]
    assert [os.environ[name] for name in _NAMES[:2]] == ["alice", "s3cr3t"]


def test_a_password_with_signs_is_the_one_that_was_meant():
    without_passwords(["tracking.uri=http://alice:p%40ss:word@host"])
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p@ss:word"


def test_a_database_is_opened_with_a_password_that_its_address_does_not_have():
    (word,) = without_passwords(["tracking.uri=postgresql://bob:s3cr3t@host:5432/runs"])
    config = TrackingConfig(uri=word.partition("=")[2])
    assert config.uri == "postgresql://bob@host:5432/runs"
    assert config.address == "postgresql://bob:s3cr3t@host:5432/runs"
    assert "s3cr3t" not in repr(config)


def test_addresses_without_passwords_stay_as_they_are():
    words = ["tracking.uri=sqlite:///a:b/c@d.db", "tracking.uri=http://host:5000", "data.path=x://a:b@c"]
    assert without_passwords(words) == words
    os.environ[PASSWORD] = "s3cr3t"
    for uri in ("sqlite:///a/c@d.db", "http://bob@host", "postgresql://host/runs"):
        assert TrackingConfig(uri=uri).address == uri


@pytest.mark.parametrize("uri", ["http://alice:s3cr3t@host", "postgresql://host/runs?user=u&password=s3cr3t"])
def test_a_password_in_a_configuration_is_refused_without_being_shown(uri):
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        TrackingConfig(uri=uri)
    assert "s3cr3t" not in str(caught.value)
