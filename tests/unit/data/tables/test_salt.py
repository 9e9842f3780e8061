"""A salt is made once, kept to its owner, and different everywhere."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from dpsynth.data.tables.salt import NUM_BYTES, local_salt
from dpsynth.errors import GuaranteeVoid


def test_a_salt_stays_the_same_in_its_file_and_differs_between_files(tmp_path):
    first, second = local_salt(tmp_path / "a" / "salt"), local_salt(tmp_path / "b" / "salt")
    assert len(first) == NUM_BYTES and first != second
    assert local_salt(tmp_path / "a" / "salt") == first
    assert stat.S_IMODE((tmp_path / "a" / "salt").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["salt"]


def test_jobs_that_start_at_the_same_moment_get_one_salt(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        salts = set(pool.map(lambda _: local_salt(tmp_path / "salt"), range(64)))
    assert len(salts) == 1


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "salt").write_bytes(b"short")
    with pytest.raises(GuaranteeVoid, match="is not a salt"):
        local_salt(tmp_path / "salt")
