"""Codecs that can be given to a Herd, as in `Herd(codec=EncryptedCodec(...))`."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, cast

from herdmaster.core.codec import Codec
from herdmaster.core.secret_keys import Secret, SecretKeys
from herdmaster.core.values import from_json, to_json
from herdmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["CloudpickleCodec", "EncryptedCodec"]

_NONCE: Final = 12
"""Bytes, as NIST SP 800-38D recommends."""


class _Cloudpickle(Protocol):
    def dumps(self, value: object, /) -> bytes: ...


class CloudpickleCodec:
    """Carries nearly every Python object, also functions made on the spot, between equal versions of Python.

    Unpickling runs whatever code the pickle says. So the Herd needs signing keys: then workers unpickle what programs
    with the keys have submitted, and clients what workers with the keys have returned. With `unsigned=True` it works
    without keys, and every program that may write to the Herd's namespace in ZooKeeper can run any code on its workers
    and its clients. An app without this codec never unpickles anything, whatever a payload says. Its extra is
    `herdmaster[cloudpickle]`.
    """

    name = "cloudpickle"

    def __init__(self, *, unsigned: bool = False) -> None:
        """Raises ConfigurationError where cloudpickle is not installed."""
        self.needs_signing = not unsigned
        try:
            self._cloudpickle = cast("_Cloudpickle", importlib.import_module("cloudpickle"))
        except ModuleNotFoundError:
            raise ConfigurationError(
                "CloudpickleCodec needs the package cloudpickle: install herdmaster[cloudpickle]"
            ) from None

    def encode(self, value: object, /) -> bytes:
        return self._cloudpickle.dumps(value)

    def decode(self, data: bytes, /) -> object:
        return pickle.loads(data)  # noqa: S301 - what its documentation warns of


class EncryptedCodec:
    """Encrypts what another codec writes, or JSON, with AES-256-GCM. Its extra is `herdmaster[crypto]`.

    `keys` are secrets of 32 bytes by their ids, or functions that return them: the first one encrypts, and all decrypt.
    Nonces are random, so a key is for at most 2**32 tasks and results. Arguments and results are encrypted; names of
    calls, options, uniqueness keys, errors, progress and logs are not.
    """

    def __init__(self, keys: Mapping[str, Secret], inner: Codec | None = None) -> None:
        """Raises ConfigurationError for keys that cannot work, and where cryptography is not installed."""
        self._keys = SecretKeys(keys, "encryption", exactly=True)
        self._inner = inner
        self._ciphers: dict[str, AESGCM] = {}
        self.name = "aes-gcm" if inner is None else f"aes-gcm+{inner.name}"
        self.needs_signing: bool = getattr(inner, "needs_signing", False)
        try:
            module = importlib.import_module("cryptography.hazmat.primitives.ciphers.aead")
        except ModuleNotFoundError:
            raise ConfigurationError(
                "EncryptedCodec needs the package cryptography: install herdmaster[crypto]"
            ) from None
        self._make_cipher = cast("type[AESGCM]", module.AESGCM)

    def __repr__(self) -> str:
        return f"<EncryptedCodec {self.name}, {self._keys!r}>"

    def encode(self, value: object, /) -> bytes:
        plain = to_json(value, "the value") if self._inner is None else self._inner.encode(value)
        key = self._keys.first
        head = bytes([len(key)]) + key.encode()
        nonce = os.urandom(_NONCE)
        return head + nonce + self._cipher(key).encrypt(nonce, plain, self._bound(head))

    def decode(self, data: bytes, /) -> object:
        """Raises ValueError for what was not encrypted with one of the keys, or was changed."""
        start = 1 + data[0] if data else 1
        head, nonce, encrypted = data[:start], data[start : start + _NONCE], data[start + _NONCE :]
        key = head[1:].decode("ascii", "replace")
        if key not in self._keys:
            raise ValueError(f"it is not encrypted with one of the keys {self._keys.ids}")
        try:
            plain = self._cipher(key).decrypt(nonce, encrypted, self._bound(head))
        except ConfigurationError:
            raise
        except Exception:  # noqa: BLE001 - InvalidTag, or ValueError for what is too short; neither says more
            raise ValueError(f"it was changed, or {key} is another secret") from None
        return from_json(plain) if self._inner is None else self._inner.decode(plain)

    def _cipher(self, key: str) -> AESGCM:
        cipher = self._ciphers.get(key)
        if cipher is None:
            cipher = self._ciphers[key] = self._make_cipher(self._keys[key])
        return cipher

    def _bound(self, head: bytes) -> bytes:
        return b"herdmaster " + self.name.encode() + b" 1 " + head
