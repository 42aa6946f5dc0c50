"""Secrets by their ids, for signatures and for encryption."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Final, NoReturn, cast

from herdmaster.errors import ConfigurationError

Secret = bytes | Callable[[], bytes]
"""A secret, or a function that returns it. The function is called once."""

LENGTH: Final = 32
"""Bytes of a secret: as many as a code of SHA-256 has (RFC 2104), and a key of AES-256."""

_key_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class SecretKeys:
    """Secrets by their ids, of which the first is for what is new. Threads may share it."""

    def __init__(self, keys: object, kind: str, *, exactly: bool = False) -> None:
        """`kind` says in errors what they are for. A secret has `LENGTH` bytes or more, or `exactly` so many.

        Raises ConfigurationError, without any part of a secret.
        """
        self._kind = kind
        self._exactly = exactly
        if not isinstance(keys, Mapping) or not keys:
            raise ConfigurationError(f'{kind} keys are a mapping of ids to secrets, such as {{"2026a": b"..."}}')
        for key in keys:
            if not isinstance(key, str) or _key_id(key) is None:
                raise ConfigurationError(f"the id of a {kind} key is 1 to 64 letters, digits and . _ -, such as 2026a")
        self._secrets: dict[str, Secret] = {
            key: cast("Callable[[], bytes]", value) if callable(value) else self._checked(key, value)
            for key, value in keys.items()
        }
        self.first = next(iter(self._secrets))

    def __repr__(self) -> str:
        return f"<{self._kind} keys {self.ids}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets cannot be pickled or copied: they stay in the process that was given them")

    def __contains__(self, key: str) -> bool:
        return key in self._secrets

    def load(self) -> None:
        """Call the functions of all secrets that are not known yet, so that later uses cannot fail. Raises
        ConfigurationError."""
        for key in self._secrets:
            _ = self[key]

    def __getitem__(self, key: str) -> bytes:
        """Return a secret. Raises KeyError, ConfigurationError for what its function does."""
        secret = self._secrets[key]
        if not isinstance(secret, bytes):
            secret = self._secrets[key] = self._checked(f"{key}{_file_of(secret)}", self._call(key, secret))
        return secret

    @property
    def ids(self) -> str:
        """The ids, for people."""
        return ", ".join(self._secrets)

    def _call(self, key: str, function: Callable[[], bytes]) -> object:
        try:
            return function()
        except Exception as error:  # noqa: BLE001 - the user's code; its text may have a part of the secret
            kind = type(error).__name__
            reason = (error.strerror or "").lower() if isinstance(error, OSError) and _file_of(function) else ""
        file, because = _file_of(function), f": {reason}" if reason else ""
        raise ConfigurationError(f"the function for the {self._kind} key {key}{file} raised {kind}{because}")

    def _checked(self, key: str, secret: object) -> bytes:
        """`key` is the id as errors show it."""
        if not isinstance(secret, bytes):
            raise ConfigurationError(f"the {self._kind} key {key} is bytes, or a function that returns bytes")
        if len(secret) < LENGTH or (self._exactly and len(secret) != LENGTH):
            wanted = "exactly" if self._exactly else "at least"
            raise ConfigurationError(
                f"the {self._kind} key {key} has {len(secret)} bytes: it takes {wanted} {LENGTH} random ones, such as "
                f"those of secrets.token_bytes({LENGTH})"
            )
        return secret


def _file_of(function: Callable[[], bytes]) -> str:
    """Return for an error which file a function reads, if it is a method of a Path; else nothing."""
    path = getattr(function, "__self__", None)
    return f" ({path})" if isinstance(path, PurePath) else ""
