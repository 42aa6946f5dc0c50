"""The signing keys of a Herd: those that it is given, else those of a file that the environment names.

A line of the file is `ID SECRET`, the secret in base64; the first one signs. Empty lines and those that begin with `#`
say nothing. Keys are no option of a command, because other users of the machine see the arguments of commands.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from herdmaster.api.checks import check_choice
from herdmaster.core.secret_keys import Secret
from herdmaster.core.signing import Keyring, Unsigned
from herdmaster.errors import ConfigurationError

VARIABLE: Final = "HERD_SIGNING_KEYS_FILE"

_log = logging.getLogger("herdmaster")


@runtime_checkable
class _MayNeedSigning(Protocol):
    """A codec that may run code which a payload brings."""

    @property
    def needs_signing(self) -> bool: ...


class Signing:
    """What a Herd is told of signatures: its keys, and what may be unsigned although there are keys."""

    def __init__(self, keys: Mapping[str, Secret] | None = None, allow_unsigned: str | None = None) -> None:
        """Raises ConfigurationError, without any part of a secret."""
        self._given = None if keys is None else Keyring(keys)
        self.allow_unsigned = (
            None if allow_unsigned is None else check_choice("allow_unsigned", allow_unsigned, Unsigned)
        )

    def find_keyring(self, codec: object = None) -> Keyring | None:
        """Return the keys that are given, else those of the file that the environment names; None if there are none.

        Raises ConfigurationError, without any part of a secret; also if the codec needs signatures, and there are no
        keys or all may be unsigned.
        """
        path = os.environ.get(VARIABLE)
        found = self._given or (Keyring(_read(Path(path))) if path else None)
        is_open = found is None or self.allow_unsigned is Unsigned.ALL
        if is_open and isinstance(codec, _MayNeedSigning) and codec.needs_signing:
            name = type(codec).__name__
            raise ConfigurationError(
                f"what {name} reads can run any code, so it reads signed tasks and results only: give the Herd "
                f"signing_keys=, or say {name}(unsigned=True) where all that may write to ZooKeeper are trusted"
            )
        return found


NOT_GIVEN: Final = Signing()


def _read(path: Path) -> dict[str, bytes]:
    try:
        text = path.read_text("ascii")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it has other characters than ASCII"
        raise ConfigurationError(f"the signing keys in {path} (${VARIABLE}) cannot be read: {reason}") from None
    origin = f"{path} (${VARIABLE})"
    if mode & stat.S_IROTH:
        _log.warning("every user of this machine can read the signing keys in %s: chmod o-r takes that away", path)
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            key, secret = _read_line(f"line {number} of {origin}", line)
            if key in keys:
                raise ConfigurationError(f"line {number} of {origin} has the id {key} once more")
            keys[key] = secret
    if not keys:
        raise ConfigurationError(f"there are no signing keys in {origin}")
    return keys


def _read_line(where: str, line: str) -> tuple[str, bytes]:
    try:
        key, text = line.split()
        secret = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise ConfigurationError(f"{where} is not `ID SECRET`, with the secret in base64") from None
    try:
        Keyring({key: secret})
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return key, secret
