"""Where Herds of this process go instead of to the servers that they name.

A worker that was given other hosts (`herd worker HOSTS`, `herd dev`) and a test direct a Herd. Its tasks may also reach
the same deployment through another object: a second Herd with the same hosts, or the app imported anew by a process of
the pool, of `multiprocessing` or of `subprocess`. So a direction holds for the deployment, and an environment variable
takes it to every process that is started while it holds.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import Final

import msgspec

from herdmaster.api import fork_and_exit
from herdmaster.api.callee import place_of
from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.client import ConnectString, parse_connect_string
from herdmaster.zookeeper.errors import InvalidConnectString

VARIABLE: Final = "HERD_DIRECTIONS"


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """A direction as the variable holds it. `source` is what the Herd names itself, None for any Herd; `app` is
    `module:attribute`, None for a Herd that no module holds."""

    source: str | None
    target: str
    app: str | None = None


class Direction:
    """One Herd, and those of the same deployment, or all. It holds from `begin` until `end`."""

    def __init__(self, record: _Record, herd: object | None = None) -> None:
        self.record = record
        self._herd = weakref.ref(herd) if herd is not None else None

    def is_of(self, herd: object) -> bool:
        """Whether it was made for this Herd, here or in the process that started this one."""
        if self._herd is not None:
            return self._herd() is herd
        return self.record.app is not None and _held_at(self.record.app) is herd

    def includes(self, own_hosts: str) -> bool:
        source = self.record.source
        return source is None or is_same_deployment(source, own_hosts)


_lock = threading.RLock()
_directions: list[Direction] = []  # the newest first
_is_inherited = False


def begin(target: str, *, herd: object | None = None, source: str | None = None) -> Direction:
    """Directs `herd`, whose own hosts are `source`, to the connect string `target`; without them every Herd."""
    direction = Direction(_Record(source, target, None if herd is None else spec_of(herd)), herd)
    with _lock:
        _inherit()
        _directions.insert(0, direction)
        _export()
    return direction


def end(direction: Direction) -> None:
    """Sessions that are elsewhere then end."""
    with _lock:
        _directions.remove(direction)
        _export()
    fork_and_exit.follow_direction()


def target_of(herd: object, own_hosts: str) -> str | None:
    """Where a Herd goes instead of to its own hosts; None where nothing directs it. Raises ConfigurationError."""
    with _lock:
        _inherit()
        if not _directions:
            return None
        directions = tuple(_directions)
    for direction in directions:
        if direction.is_of(herd):
            return direction.record.target
    return next((each.record.target for each in directions if each.includes(own_hosts)), None)


def targets() -> list[str]:
    """All that is directed to now, the newest first."""
    with _lock:
        return [direction.record.target for direction in _directions]


def is_same_deployment(one: str, other: str) -> bool:
    """Whether two connect strings name the same servers, in any order, and the same namespace."""
    return _deployment(one) == _deployment(other)


def shares_servers(one: str, other: str) -> bool:
    """Whether two connect strings name the same servers, whatever their namespaces are."""
    mine, others = _parsed(one), _parsed(other)
    return mine is not None and others is not None and not set(mine.addresses).isdisjoint(others.addresses)


def spec_of(herd: object) -> str | None:
    """`module:attribute`, by which another process finds a Herd; None if no module holds it at its top level."""
    found = place_of(herd)
    return None if found is None else f"{found[0]}:{found[1]}"


def _held_at(spec: str) -> object:
    module, _, attribute = spec.partition(":")
    return getattr(sys.modules.get(module), attribute, None)


def _deployment(hosts: str) -> object:
    parsed = _parsed(hosts)
    return hosts if parsed is None else (frozenset(parsed.addresses), parsed.chroot.prefix)


def _parsed(hosts: str) -> ConnectString | None:
    try:
        return parse_connect_string(hosts)
    except InvalidConnectString:
        return None


def _inherit() -> None:
    """Takes over what the process that started this one was directed to."""
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
