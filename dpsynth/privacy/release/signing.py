"""Who vouches for a release: an Ed25519 signature over its certificate, which holds the other files' hashes.

The signature is over the bytes of `certificate.json` as they are, so that others' tools check it as well. A
key's fingerprint is the SHA-256 of its public half in DER:
`openssl pkey -pubin -in FILE.pub -outform DER | sha256sum`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.data.tables.untrusted import Untrusted, open_plain, read_object
from dpsynth.errors import InvalidInput, Problem
from dpsynth.files import write_whole
from dpsynth.privacy.release.certificate import CERTIFICATE, SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ALGORITHM = "Ed25519"
_KEYS = {"algorithm", "fingerprint", "public_key", "signature"}
_MOST_BYTES = 10_000  # of a key's file
_MAKE = "Make a pair of keys with `python -m experiments.verify make_key=FILE`."


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """How a release is given away; the keys of `release` in conf/train.yaml.

    Args:
      purpose, rationale: what it is for, and why with this budget; free text, certified.
      sign_key: file of the Ed25519 key (PEM, PKCS #8) that signs it; None leaves it unsigned.
    """

    purpose: str = ""
    rationale: str = ""
    sign_key: str | None = None


def make_key(path: str | Path) -> str:
    """Writes a new private key (readable by its owner alone) and FILE.pub; returns the fingerprint.

    Raises:
      InvalidInput: one of the files is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path, public = Path(path), Path(f"{path}.pub")
    if taken := [place for place in (path, public) if os.path.lexists(place)]:
        rule = f"{str(taken[0])!r} is there already, and no key is overwritten."
        raise InvalidInput("The configuration", [Problem("make_key", rule, "Name another file.")])
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        write_whole(path, pem, private=True)
        write_whole(public, _pem(key.public_key()))
    except OSError as error:
        rule = f"{str(path)!r} cannot be written ({error.strerror})."
        raise InvalidInput("The configuration", [Problem("make_key", rule, "Name another file.")]) from None
    return fingerprint_of(key.public_key())


def read_private_key(path: str | Path) -> Ed25519PrivateKey:
    """Reads a signing key, before anything is charged.

    Raises:
      InvalidInput: no such file, readable by others, or no unencrypted Ed25519 key in PEM.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _content(path, "release.sign_key", secret=True)
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        _refuse("release.sign_key", f"{str(path)!r} holds no unencrypted Ed25519 key in PEM.")
    return key


def read_fingerprint(path: str | Path) -> str:
    """Returns the fingerprint of a public key's file.

    Raises:
      InvalidInput: no such file, or no Ed25519 public key in PEM.
    """
    key = _public_key(_content(path, "key", secret=False))
    if key is None:
        _refuse("key", f"{str(path)!r} holds no Ed25519 public key in PEM.", "Give FILE.pub of the pair.")
    return fingerprint_of(key)


def fingerprint_of(key: Ed25519PublicKey) -> str:
    """SHA-256 of a public key in DER, in hex."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def sign(folder: str | Path, key: Ed25519PrivateKey) -> str:
    """Signs a release that lies in a folder, again if it was signed before; returns the fingerprint.

    Formal guarantee: the signature is a function of the certificate and the key; nothing else is read.
    """
    folder, public = Path(folder), key.public_key()
    content = {
        "algorithm": _ALGORITHM,
        "fingerprint": fingerprint_of(public),
        "public_key": _pem(public).decode(),
        "signature": base64.b64encode(key.sign((folder / CERTIFICATE).read_bytes())).decode(),
    }
    write_whole(folder / SIGNATURE, json.dumps(content, indent=1) + "\n")
    return content["fingerprint"]


def signer_of(folder: str | Path) -> str | None:
    """Returns the fingerprint of the key that signed a release; None where it is not signed.

    Formal guarantee: a fingerprint means that whoever holds that key signed these bytes of the certificate.
    It does not say whose key it is: anybody can make one.
    Raises:
      Untrusted: the signature is damaged, or another certificate's.
    """
    from cryptography.exceptions import InvalidSignature

    folder = Path(folder)
    if not os.path.lexists(folder / SIGNATURE):
        return None
    content = read_object(folder / SIGNATURE)
    if set(content) != _KEYS or content["algorithm"] != _ALGORITHM:
        raise Untrusted(f"{SIGNATURE}: is no signature that a run writes.")
    key, signature = _public_key(str(content["public_key"]).encode()), _decoded(content["signature"])
    if key is None or signature is None or fingerprint_of(key) != content["fingerprint"]:
        raise Untrusted(f"{SIGNATURE}: is damaged; key, fingerprint and signature do not go together.")
    with open_plain(folder / CERTIFICATE) as file:
        signed = file.read()
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        raise Untrusted(f"{SIGNATURE}: is not this certificate's; one of the two was changed.") from None
    return content["fingerprint"]


def _pem(key: Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _public_key(pem: bytes) -> Ed25519PublicKey | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Ed25519PublicKey) else None


def _decoded(text: Any) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return None


def _content(path: str | Path, where: str, *, secret: bool) -> bytes:
    """Reads a key's file; a secret one only if nobody else can."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        _refuse(where, f"{str(path)!r} cannot be read ({error.strerror}).")
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MOST_BYTES:
        os.close(handle)
        _refuse(where, f"{str(path)!r} is no file of a key.")
    with os.fdopen(handle, "rb") as file:
        if secret and facts.st_mode & 0o077:
            _refuse(where, f"{str(path)!r} can be read by others than its owner.", f"Do chmod 600 {path}.")
        return file.read()


def _refuse(where: str, rule: str, fix: str = _MAKE) -> Any:
    raise InvalidInput("The configuration", [Problem(where, rule, fix)])
