"""A signature says whose key vouches for a release, to those who ask for that key, and nothing to others."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from dpsynth import pipeline
from dpsynth.errors import InvalidInput
from dpsynth.privacy.release import signing
from dpsynth.privacy.release.certificate import CERTIFICATE, SIGNATURE
from dpsynth.privacy.release.release import Release
from dpsynth.privacy.verify import verify
from experiments import command_line
from experiments import verify as command
from tests.support.forging import recertify
from tests.unit.privacy.verify.test_verify import DECLARED, recipe, table


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: (folder / name, signing.make_key(folder / name)) for name in ("ours", "theirs")}


@pytest.fixture(scope="module")
def signed(keys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed")
    pipeline.run(table(DECLARED), recipe(), folder, sign_key=keys["ours"][0])
    return folder / "release"


@pytest.fixture
def copy(signed, tmp_path):
    return shutil.copytree(signed, tmp_path / "release")


def failed(folder, **asked):
    return [check.name for check in verify(folder, **asked).checks if not check.passed]


def test_the_key_that_is_asked_for_is_found(signed, keys):
    path, fingerprint = keys["ours"]
    found = verify(signed, fingerprint=fingerprint)
    assert found.passed and f"by {fingerprint}, as you asked for" in found.table()
    assert command.checked({"release": str(signed), "key": f"{path}.pub"}).fingerprint == fingerprint
    assert Release.load(signed).private


def test_an_unknown_key_proves_nothing(signed, copy, keys):
    theirs = keys["theirs"][1]
    assert failed(signed, fingerprint=theirs) == ["signature"]
    signing.sign(copy, signing.read_private_key(keys["theirs"][0]))
    assert failed(copy, fingerprint=keys["ours"][1]) == ["signature"]
    table = verify(copy).table()
    assert f"on trust: who made it: signed by {theirs}, which you did not ask for" in table
    assert not [check for check in verify(copy).checks if check.name == "signature"]


def test_an_unsigned_release_says_so_and_fails_where_a_key_is_asked_for(copy, keys):
    (copy / SIGNATURE).unlink()
    assert verify(copy).passed and "on trust: who made it: not signed" in verify(copy).table()
    assert failed(copy, fingerprint=keys["ours"][1]) == ["signature"]


def other_text(content):
    content["signature"] = content["signature"][::-1]


def other_name(content):
    content["fingerprint"] = "0" * 64


def other_kind(content):
    content["algorithm"] = "none"


def more(content):
    content["note"] = "trust me"


def no_text(content):
    content["signature"] = None


@pytest.mark.parametrize("damage", [other_text, other_name, other_kind, more, no_text])
@pytest.mark.parametrize("asked", [True, False])
def test_a_damaged_signature_fails_whoever_asks(copy, keys, damage, asked):
    content = json.loads((copy / SIGNATURE).read_text())
    damage(content)
    (copy / SIGNATURE).write_text(json.dumps(content))
    assert "signature" in failed(copy, **({"fingerprint": keys["ours"][1]} if asked else {}))


def test_a_changed_certificate_with_new_hashes_is_not_the_signed_one(copy, keys):
    recertify(copy)  # the same content, written another way
    assert failed(copy) == ["signature"] == failed(copy, fingerprint=keys["ours"][1])


def test_a_finished_folder_is_signed_afterwards(tmp_path, keys):
    run = {"table": table(DECLARED), "recipe": recipe(), "folder": tmp_path}
    pipeline.run(**run)
    assert not (tmp_path / "release" / SIGNATURE).exists()
    before = (tmp_path / "release" / CERTIFICATE).read_bytes()
    pipeline.run(**run, sign_key=keys["ours"][0])
    assert (tmp_path / "release" / CERTIFICATE).read_bytes() == before
    assert not failed(tmp_path / "release", fingerprint=keys["ours"][1])


def test_keys_are_their_owners_alone_and_never_overwritten(keys, tmp_path):
    path, fingerprint = keys["ours"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"PRIVATE" not in path.with_name("ours.pub").read_bytes()
    assert signing.read_fingerprint(f"{path}.pub") == fingerprint
    with pytest.raises(InvalidInput, match="overwritten"):
        signing.make_key(path)
    with pytest.raises(InvalidInput, match="public key"):
        signing.read_fingerprint(path)


def bad_keys(folder, good):
    open_to_all = Path(shutil.copy(good, folder / "open"))
    open_to_all.chmod(0o644)
    empty = folder / "empty"
    empty.touch(mode=0o600)
    half = folder / "half"
    half.write_bytes(good.read_bytes()[:60])
    half.chmod(0o600)
    return {"absent": folder / "none", "folder": folder, "open": open_to_all, "empty": empty, "half": half}


@pytest.mark.parametrize("name", ["absent", "folder", "open", "empty", "half"])
def test_a_bad_key_is_refused_before_anything_is_charged(keys, tmp_path, name):
    path = bad_keys(tmp_path, keys["ours"][0])[name]
    with pytest.raises(InvalidInput, match="release.sign_key"):
        pipeline.run(table(DECLARED), recipe(), tmp_path / "run", sign_key=path)
    assert not (tmp_path / "run").exists()


def test_the_configuration_checks_the_key(keys, tmp_path):
    from dpsynth.config import parse
    from tests.unit.test_config import composed

    good = composed("data=hi", f"release.sign_key={keys['ours'][0]}")
    assert command_line.check_run(good).release.sign_key == str(keys["ours"][0])
    assert parse(good).digest == parse(composed("data=hi")).digest
    bad = composed("data=hi", f"release.sign_key={tmp_path / 'none'}")
    with pytest.raises(InvalidInput, match="release.sign_key"):
        command_line.check_run(bad)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_makes_keys_and_checks_signatures(signed, tmp_path):
    import base64

    key = tmp_path / "ssl"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    key.chmod(0o600)
    assert signing.fingerprint_of(signing.read_private_key(key).public_key())
    content = json.loads((signed / SIGNATURE).read_text())
    (tmp_path / "pub").write_text(content["public_key"])
    (tmp_path / "sig").write_bytes(base64.b64decode(content["signature"]))
    asked = ["-pubin", "-inkey", tmp_path / "pub", "-rawin", "-in", signed / CERTIFICATE]
    done = subprocess.run(["openssl", "pkeyutl", "-verify", *asked, "-sigfile", tmp_path / "sig"])
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("plain", "where"),
    [
        ({}, "release"),
        ({"release": "none/such"}, "release"),
        ({"release": ".", "key": "none.pub"}, "key"),
        ({"release": ".", "fingerprint": "12ab"}, "fingerprint"),
        ({"release": ".", "fingerprint": "0" * 64, "key": "x"}, "fingerprint"),
        ({"release": ".", "most_cells": 0}, "most_cells"),
        ({"release": ".", "make_key": "x"}, "make_key"),
        ({"release": ".", "finger": "x"}, "finger"),
    ],
)
def test_the_command_names_what_is_wrong(plain, where):
    with pytest.raises(InvalidInput) as error:
        command.checked(plain)
    assert [problem.where for problem in error.value.problems] == [where]


def test_the_command_reads_as_many_cells_as_it_is_told(copy, capsys):
    with pytest.raises(SystemExit):
        command.main({"release": str(copy), "most_cells": 3})
    assert "most_cells" in capsys.readouterr().out
    command.main({"release": str(copy), "most_cells": 1_000_000})
