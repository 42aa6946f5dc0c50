"""The requests that a fault's `selects` is given: frozen records, whose paths begin with the namespace.

`Multi` is a transaction. Its `operations` are `Create`, `Create2`, `CreateContainer`, `CreateTtl`, `Delete`, `SetData`
and `Check`. `MultiRead` reads several znodes: its `operations` are `GetData` and `GetChildren`.
"""

from __future__ import annotations

from herdmaster.zookeeper.wire.multi import Multi, MultiRead
from herdmaster.zookeeper.wire.records import (
    AddWatch,
    Check,
    CloseSession,
    Create,
    Create2,
    CreateContainer,
    CreateTtl,
    Delete,
    Exists,
    GetAcl,
    GetAllChildrenNumber,
    GetChildren,
    GetChildren2,
    GetData,
    GetEphemerals,
    RemoveWatches,
    Request,
    SetAcl,
    SetData,
    SetWatches2,
    Sync,
    WhoAmI,
)

__all__ = [
    "AddWatch",
    "Check",
    "CloseSession",
    "Create",
    "Create2",
    "CreateContainer",
    "CreateTtl",
    "Delete",
    "Exists",
    "GetAcl",
    "GetAllChildrenNumber",
    "GetChildren",
    "GetChildren2",
    "GetData",
    "GetEphemerals",
    "Multi",
    "MultiRead",
    "RemoveWatches",
    "Request",
    "SetAcl",
    "SetData",
    "SetWatches2",
    "Sync",
    "WhoAmI",
]
