"""The request that creates a znode, and the limits of a time to live."""

from __future__ import annotations

from typing import Final

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import Acl, CreateMode
from herdmaster.zookeeper.wire.records import Create, CreateContainer, CreateTtl, Record

AnyCreate = Create | CreateContainer | CreateTtl

MAX_TTL: Final = 0xFFFFFFFFFF / 1000
"""Seconds, almost 35 years: servers keep 40 bits of milliseconds."""

_MIN_TTL: Final = 0.001  # seconds

_CONTAINER: Final = CreateMode.CONTAINER
_TTL_MODES: Final = (CreateMode.PERSISTENT_TTL, CreateMode.PERSISTENT_SEQUENTIAL_TTL)
_WITH_TTL: Final = {
    CreateMode.PERSISTENT: CreateMode.PERSISTENT_TTL,
    CreateMode.PERSISTENT_TTL: CreateMode.PERSISTENT_TTL,
    CreateMode.PERSISTENT_SEQUENTIAL: CreateMode.PERSISTENT_SEQUENTIAL_TTL,
    CreateMode.PERSISTENT_SEQUENTIAL_TTL: CreateMode.PERSISTENT_SEQUENTIAL_TTL,
}

_TTL_IS_OFF: Final = (
    "the servers do not allow times to live: start each of them with the Java property "
    "zookeeper.extendedTypesEnabled=true"
)


def creation(path: str, data: bytes | None, acl: tuple[Acl, ...], mode: CreateMode, ttl: float | None) -> AnyCreate:
    """Return the request for a full path; `ttl` in seconds. Raises ValueError for an impossible time to live."""
    if ttl is not None:
        return _creation_with_ttl(path, data, acl, mode, ttl)
    if mode is _CONTAINER:
        return CreateContainer(path, data, acl, mode)
    if mode in _TTL_MODES:
        raise ValueError(f"{mode.name} needs a time to live: say ttl=, in seconds")
    return Create(path, data, acl, mode)


def _creation_with_ttl(path: str, data: bytes | None, acl: tuple[Acl, ...], mode: CreateMode, ttl: float) -> CreateTtl:
    # Some real servers mishandle what is refused here.
    flags = _WITH_TTL.get(mode)
    if flags is None:
        raise ValueError(f"a time to live is for persistent znodes, sequential or not: {mode.name} takes no ttl")
    if not _MIN_TTL <= ttl <= MAX_TTL:
        raise ValueError(f"ttl is {ttl}: it takes seconds, at least {_MIN_TTL} and at most {int(MAX_TTL)}")
    return CreateTtl(path, data, acl, flags, round(ttl * 1000))


def explain(failure: errors.ServerError, refusal: errors.ServerError, request: Record) -> None:
    """Add to a failure what an operator has to do, if a create was refused for its time to live.

    `refusal` is the server's error for `request`: for a failed transaction, the error of that operation.
    """
    if isinstance(refusal, errors.Unimplemented) and isinstance(request, CreateTtl):
        failure.add_note(_TTL_IS_OFF)
