"""The coordination layer: a ZooKeeper client and its recipes. It knows nothing of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from herdmaster.zookeeper.client import (
        Callback,
        Client,
        ConnectString,
        Node,
        Results,
        Security,
        Transaction,
        Watcher,
        parse_connect_string,
    )
    from herdmaster.zookeeper.model import (
        CREATOR_ALL_ACL,
        OPEN_ACL,
        READ_ONLY_ACL,
        Acl,
        CreateMode,
        EventType,
        Id,
        Permission,
        SessionState,
        Stat,
        WatchEvent,
    )

__all__ = [
    "CREATOR_ALL_ACL",
    "OPEN_ACL",
    "READ_ONLY_ACL",
    "Acl",
    "Callback",
    "Client",
    "ConnectString",
    "CreateMode",
    "EventType",
    "Id",
    "Node",
    "Permission",
    "Results",
    "Security",
    "SessionState",
    "Stat",
    "Transaction",
    "WatchEvent",
    "Watcher",
    "parse_connect_string",
]

_OF_THE_CLIENT: Final = (
    "Callback",
    "Client",
    "ConnectString",
    "Node",
    "Results",
    "Security",
    "Transaction",
    "Watcher",
    "parse_connect_string",
)


def __getattr__(name: str) -> object:
    # Imported late: every module below imports this package, and most need no client.
    if name in __all__:
        from herdmaster.zookeeper import client, model

        return getattr(client if name in _OF_THE_CLIENT else model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
