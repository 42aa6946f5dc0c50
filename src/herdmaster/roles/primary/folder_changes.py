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

    def add(self, name: str) -> object: ...

    def remove(self, name: str) -> object: ...

    def replace(self, names: Iterable[str]) -> object: ...

    def complete(self) -> object: ...

    def interrupt(self) -> object: ...


def apply_change(change: ChildChange, names: Names) -> errors.ServerError | None:
    """Brings the picture up to date. Returns the fault that ends the session, if the folder cannot be read."""
    match change:
        case Added(_, name):
            names.add(name)
        case Removed(_, name):
            names.remove(name)
        case Listed(folder, None):
            return errors.NoNode(folder)
        case Listed(_, listed):
            names.replace(listed or ())
        case Complete():
            names.complete()
        case Interrupted():
            names.interrupt()
        case Failed(_, error):
            return error
    return None
