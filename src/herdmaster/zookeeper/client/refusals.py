"""Errors for what a server refused."""

from __future__ import annotations

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.paths import parent_of
from herdmaster.zookeeper.wire.records import (
    Check,
    Create,
    CreateContainer,
    CreateTtl,
    Delete,
    Record,
    SetAcl,
    SetData,
)


def refusal(code: int, request: Record, path: str) -> errors.ServerError:
    """Return the error for a code that answers a request; `path` is that of the request without the chroot."""
    return errors.from_code(code, path, _needed(request, path) if code == errors.NoAuth.code else "")


def _needed(request: Record, path: str) -> str:
    """Return the right that a write needs; empty for a read, whose path says enough."""
    if isinstance(request, (Create, CreateContainer, CreateTtl)):
        return f"CREATE on {parent_of(path)}"
    if isinstance(request, Delete):
        return f"DELETE on {parent_of(path)}"
    if isinstance(request, SetData):
        return f"WRITE on {path}"
    if isinstance(request, SetAcl):
        return f"ADMIN on {path}"
    return f"READ on {path}" if isinstance(request, Check) else ""
