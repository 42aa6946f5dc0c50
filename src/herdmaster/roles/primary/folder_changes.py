"""Changes of a folder for the part of the primary that works on its names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.recipes.children import (
    Added,
    ChildChange,
    Complete,
    Failed,
    Interrupted,
    Listed,
    Removed,
)


class Names(Protocol):
    """The picture of the folder."""

    def added(self, name: str) -> object: ...

    def removed(self, name: str) -> object: ...

    def listed(self, names: Iterable[str]) -> object: ...

    def complete(self) -> object: ...

    def interrupted(self) -> object: ...


def apply_change(change: ChildChange, names: Names) -> errors.ServerError | None:
    """Brings the picture up to date. Returns the fault that ends the session, if the folder cannot be read."""
    match change:
        case Added(_, name):
            names.added(name)
        case Removed(_, name):
            names.removed(name)
        case Listed(folder, None):
            return errors.NoNode(folder)
        case Listed(_, listed):
            names.listed(listed or ())
        case Complete():
            names.complete()
        case Interrupted():
            names.interrupted()
        case Failed(_, error):
            return error
    return None
