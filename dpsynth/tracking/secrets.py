"""Passwords of tracking addresses: in the environment and nowhere else, as configurations are stored."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

PASSWORD = "DPSYNTH_TRACKING_PASSWORD"  # of a database; MLflow has names of its own for a server's
_SECRET = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<user>[^\s/@:?#'\"]*):(?P<password>[^\s/]*)@")
_QUERIED = re.compile(r"[?&][a-z_]*password=", re.IGNORECASE)


def holds_password(uri: str) -> bool:
    """Says whether an address has a password in it, beside the host or among its settings."""
    return bool(_SECRET.search(uri) or _QUERIED.search(uri))


def without_passwords(words: list[str]) -> list[str]:
    """Moves the password in an address on the command line to the environment, where jobs find it.

    Returns the words without it: what is typed is stored with the run, and printed.
    """
    named = [word.lstrip("+").startswith("tracking.uri=") for word in words]
    return [_SECRET.sub(_moved, word) if ours else word for word, ours in zip(words, named)]


def with_password(uri: str) -> str:
    """Returns the address that opens a database: its password comes from the environment."""
    scheme, mark, rest = uri.partition("://")
    password = os.environ.get(PASSWORD)
    if password is None or "@" not in rest.partition("/")[0] or scheme.startswith(("http", "sqlite")):
        return uri
    user, _, place = rest.partition("@")
    return f"{scheme}{mark}{user}:{password}@{place}"


def _moved(found: re.Match) -> str:
    scheme, user, password = found["scheme"], found["user"], found["password"]
    if scheme.startswith("http"):
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
        return f"{scheme}://"
    os.environ[PASSWORD] = password
    return f"{scheme}://{user}@"
