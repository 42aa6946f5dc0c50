"""Directions: where Herds of this process go instead of to the servers that they name.

A worker that was given other hosts (`herd worker HOSTS`, `herd dev`) directs the Herd of its app, and so does a test.
The tasks may reach the same deployment through another object: a second Herd with the same hosts, or the app imported
again by a process of the pool, of `multiprocessing` or of `subprocess`. So a direction holds for the deployment, and an
environment variable passes it to every process that is started while it holds.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.api import fork_and_exit
from herdmaster.api.auth import AuthRecord, auth_of, records_of
from herdmaster.api.internals import core_at
from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.client import PLAIN, ConnectString, Security, parse_connect_string
from herdmaster.zookeeper.errors import InvalidConnectString
from herdmaster.zookeeper.tls import TLS, FilePath, PasswordFile

VARIABLE: Final = "HERD_DIRECTIONS"


class Target(msgspec.Struct, frozen=True):
    """The servers of a Herd, as a connect string, and the security of its connections."""

    hosts: str
    security: Security = PLAIN
    has_own_auth: bool = False
    """The Herd authenticates as it says itself, not as `security` does."""


class _Tls(msgspec.Struct, frozen=True):
    """The TLS settings of a target. A password that is not in a file stays in this process."""

    ca: str | None
    certificate: str | None
    key: str | None
    key_password_file: str | None
    server_name: str | None
    verify_host_name: bool


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """A direction in the environment variable. `source` is the connect string of the Herd itself, None for any Herd;
    `app` is `module:attribute`, None for a Herd that no module holds."""

    source: str | None
    target: str
    app: str | None = None
    tls: _Tls | None = None
    auth: list[AuthRecord] | None = []
    """None for credentials that cannot be written down: the Herd of the other process has its own."""


class Direction:
    """One direction, of a Herd and its deployment, or of every Herd. It holds from `begin` until `end`."""

    def __init__(self, record: _Record, target: Target | None = None, core: object | None = None) -> None:
        self.record = record
        self.target = target or _target_of(record)
        self._core = weakref.ref(core) if core is not None else None

    def is_of(self, core: object) -> bool:
        """Say whether it was made for the Herd of this core, here or in the process that started this one."""
        if self._core is not None:
            return self._core() is core
        return self.record.app is not None and _core_at(self.record.app) is core

    def includes(self, own_hosts: str) -> bool:
        """Say whether it holds for a Herd that names these hosts itself."""
        source = self.record.source
        return source is None or is_same_deployment(source, own_hosts)


_lock = threading.RLock()
_directions: list[Direction] = []  # the newest first
_is_inherited = False


def begin(
    target: Target, *, core: object | None = None, spec: str | None = None, source: str | None = None
) -> Direction:
    """Direct the Herd of `core`, whose hosts are `source`, to `target`; without a core, every Herd. `spec`
    is the Herd's `module:attribute`, for child processes."""
    security = target.security
    record = _Record(source, target.hosts, spec, _record_of(security.tls), records_of(security.auth))
    direction = Direction(record, target, core)
    with _lock:
        _inherit()
        _directions.insert(0, direction)
        _export()
    return direction


def end(direction: Direction) -> None:
    """End a direction, and the sessions that it led elsewhere."""
    with _lock:
        _directions.remove(direction)
        _export()
    fork_and_exit.follow_direction()


def target_of(core: object, own_hosts: str) -> Target | None:
    """Return where a Herd goes instead of to its own hosts; None if nothing directs it. Raises ConfigurationError."""
    with _lock:
        _inherit()
        if not _directions:
            return None
        directions = tuple(_directions)
    for direction in directions:
        if direction.is_of(core):
            return direction.target
    return next((each.target for each in directions if each.includes(own_hosts)), None)


def targets() -> list[str]:
    """Return the connect strings of all directions, the newest first."""
    with _lock:
        return [direction.target.hosts for direction in _directions]


def is_same_deployment(one: str, other: str) -> bool:
    """Say whether two connect strings name the same servers, in any order, and the same namespace."""
    return _deployment(one) == _deployment(other)


def shares_servers(one: str, other: str) -> bool:
    """Say whether two connect strings have a server in common, in any namespaces."""
    mine, others = _parsed(one), _parsed(other)
    return mine is not None and others is not None and not set(mine.addresses).isdisjoint(others.addresses)


def spec_of(herd: object) -> str | None:
    """Return the `module:attribute` by which another process finds a Herd; None if it is at no module's top level."""
    found = place_of(herd)
    return None if found is None else f"{found[0]}:{found[1]}"


def place_of(value: object) -> tuple[str, str] | None:
    """Return the module, other than the main program, that holds a value at its top level, and its name there."""
    for name, module in list(sys.modules.items()):
        for attribute, held in list(getattr(module, "__dict__", {}).items()):
            if held is value and name != "__main__":
                return name, attribute
    return None


def _core_at(spec: str) -> object:
    module, _, attribute = spec.partition(":")
    return core_at(sys.modules.get(module), attribute)


def _deployment(hosts: str) -> object:
    parsed = _parsed(hosts)
    return hosts if parsed is None else (frozenset(parsed.addresses), parsed.chroot.prefix)


def _parsed(hosts: str) -> ConnectString | None:
    try:
        return parse_connect_string(hosts)
    except InvalidConnectString:
        return None


def _record_of(tls: TLS | None) -> _Tls | None:
    if tls is None:
        return None
    password = tls.key_password
    return _Tls(
        _absolute(tls.ca),
        _absolute(tls.certificate),
        _absolute(tls.key),
        _absolute(password.path) if isinstance(password, PasswordFile) else None,
        tls.server_name,
        tls.verify_host_name,
    )


def _target_of(record: _Record) -> Target:
    auth = auth_of(record.auth or [])
    return Target(record.target, Security(_tls_of(record.tls), auth), has_own_auth=record.auth is None)


def _absolute(path: FilePath | None) -> str | None:
    """Return the path for a process whose working directory may be another."""
    return None if path is None else str(Path(path).absolute())


def _tls_of(record: _Tls | None) -> TLS | None:
    if record is None:
        return None
    return TLS(
        ca=record.ca,
        certificate=record.certificate,
        key=record.key,
        key_password=None if record.key_password_file is None else PasswordFile(record.key_password_file),
        server_name=record.server_name,
        verify_host_name=record.verify_host_name,
    )


def _inherit() -> None:
    """Take over the directions of the process that started this one."""
    global _is_inherited  # noqa: PLW0603 - the variable is read once: from then on this process writes it
    if _is_inherited:
        return
    text = os.environ.get(VARIABLE)
    if text:
        try:
            records = msgspec.json.decode(text, type=list[_Record])
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise ConfigurationError(
                f"${VARIABLE} does not hold what Herdmaster writes there for the processes that a directed worker "
                "starts: unset it"
            ) from None
        _directions.extend(map(Direction, records))
    _is_inherited = True


def _export() -> None:
    if _directions:
        os.environ[VARIABLE] = msgspec.json.encode([each.record for each in _directions]).decode()
    else:
        os.environ.pop(VARIABLE, None)


def _handle_fork() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent may have held it
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_handle_fork)
