"""The file of `herd zookeeper --sasl-users`."""

from __future__ import annotations

from pathlib import Path

from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.secret import Secret


def read_users(path: str) -> dict[str, Secret]:
    """Return the passwords of a file with lines `user:password`; empty lines and those that begin with # are skipped.

    Raises ConfigurationError, which holds no password.
    """
    try:
        lines = [Secret(line) for line in Path(path).read_bytes().splitlines()]
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigurationError(f"users file {path} (--sasl-users) cannot be read: {reason}") from None
    users: dict[str, Secret] = {}
    for number, line in enumerate(lines, 1):
        if line.reveal().strip() and not line.reveal().startswith(b"#"):
            entry = _split(line)
            if entry is None:
                raise ConfigurationError(f"users file {path} (--sasl-users): line {number} is not user:password")
            users[entry[0]] = entry[1]
    if not users:
        raise ConfigurationError(f"users file {path} (--sasl-users) has no line user:password")
    return users


def _split(line: Secret) -> tuple[str, Secret] | None:
    user, _, password = line.reveal().partition(b":")
    return (user.decode("utf-8", "replace"), Secret(password)) if user and password else None
