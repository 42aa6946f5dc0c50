"""Errors for what a server refused."""

from __future__ import annotations

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.presented import NOTHING, Presented
from herdmaster.zookeeper.paths import parent_of
from herdmaster.zookeeper.wire.records import (
    Create,
    CreateContainer,
    CreateTtl,
    Delete,
    GetAcl,
    Record,
    SetAcl,
    SetData,
)


def refusal(code: int, request: Record, path: str, presented: Presented = NOTHING) -> errors.ServerError:
    """Return the error for a code that answers a request; `path` is that of the request without the chroot, `presented`
    is what the session authenticates with."""
    if code != errors.NoAuth.code:
        return errors.from_code(code, path)
    return errors.NoAuth(path, _needed(request, path), str(presented))


def _needed(request: Record, path: str) -> str:
    """Return the right that a request needs; empty for one without a path."""
    if not path:
        return ""
    if isinstance(request, (Create, CreateContainer, CreateTtl)):
        return f"CREATE on {parent_of(path)}"
    if isinstance(request, Delete):
        return f"DELETE on {parent_of(path)}"
    if isinstance(request, SetData):
        return f"WRITE on {path}"
    if isinstance(request, SetAcl):
        return f"ADMIN on {path}"
    return f"READ or ADMIN on {path}" if isinstance(request, GetAcl) else f"READ on {path}"
