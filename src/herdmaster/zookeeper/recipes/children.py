"""The children of a folder, and optionally what is deeper, as one stream of changes.

The stream begins with a listing, followed by single changes. After every reconnect comes a listing again, because a
persistent watch reports nothing that happened meanwhile. A listing replaces what was known and is no difference: a name
can leave and come back unseen. Changes that arrive while a listing is under way are left out, because the listing shows
them: a server sends an event before any reply that shows the change. For the same reason the changes of several streams
of one client, taken together, show at every moment what ZooKeeper held at one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import EventType, SessionState, WatchEvent
from herdmaster.zookeeper.paths import join

_CREATED: Final = EventType.CREATED
_DELETED: Final = EventType.DELETED
_CHANGED: Final = EventType.DATA_CHANGED
_AT_ONCE: Final = 50
"""Folders that are listed with one request: the reply has all their names."""


class Interrupted(msgspec.Struct, frozen=True):
    """The connection was lost: what is known may be old until the next listings."""


class Listed(msgspec.Struct, frozen=True):
    """All names in a folder; None if the folder does not exist."""

    folder: str
    names: tuple[str, ...] | None


class Added(msgspec.Struct, frozen=True, gc=False):
    folder: str
    name: str


class Removed(msgspec.Struct, frozen=True, gc=False):
    folder: str
    name: str


class Changed(msgspec.Struct, frozen=True, gc=False):
    """The data of a child was set."""

    folder: str
    name: str


class Complete(msgspec.Struct, frozen=True):
    """Every listing of this round was given: the picture is whole."""

    root: str


class Failed(msgspec.Struct, frozen=True):
    """A folder cannot be watched or listed, although the session lives. If it is the root, the stream is of no more
    use; any other folder counts as absent."""

    folder: str
    error: errors.ServerError


ChildChange = Interrupted | Listed | Added | Removed | Changed | Complete | Failed
Sink = Callable[[ChildChange], None]


class Scope(Protocol):
    """Decides which folders below the root a stream follows: it gives their children as well."""

    def of_listing(self, folder: str, names: Iterable[str]) -> Iterable[str]:
        """Return the names of a folder that are to be followed. The folder was listed with these names."""

    def of_creation(self, folder: str, name: str) -> Collection[str]:
        """Return the names of a folder that are to be followed from now on, because `name` was created in it."""

    def of_deletion(self, folder: str, name: str) -> Iterable[str]:
        """Return the other names of a folder that are not followed any more, because `name` was deleted in it."""


class ChildStream:
    """Watches `root` and gives its changes to `sink`, synchronously and in the order of the wire.

    With `depth` 2 it gives the children of each child as well; then `folder` is the path of the child. A `scope`
    decides that folder by folder, to any depth. A folder whose creation is seen is empty at first, and is not listed.
    One that is followed later is listed then, and `Complete` comes again.
    """

    def __init__(self, client: Client, root: str, sink: Sink, *, depth: int = 1, scope: Scope | None = None) -> None:
        self._client = client
        self._root = root
        self._sink = sink
        self._scope = _Grandchildren(root) if scope is None and depth > 1 else scope
        self._listed: dict[str, set[str]] = {}  # the folders whose changes are given: names in each that are followed
        self._awaited: dict[str, bool] = {}  # the listings under way; False: not followed any more
        self._round = 0
        self._stopped = False

    def start(self) -> None:
        """Arm the watch and ask for the first listing. Raises the session's final error."""
        self._client.add_listener(self._handle_state)
        self._client.add_watch_nowait(self._root, self._handle_event, self._handle_armed, recursive=True)
        self._list_root()

    def list_again(self) -> None:
        """List everything anew, as after a reconnect. Raises the session's final error."""
        if not self._stopped and self._client.state is SessionState.CONNECTED:
            self._interrupt()
            self._list_root()

    async def stop(self) -> None:
        """Stop. No more changes are given from here on."""
        self._stopped = True
        self._client.remove_listener(self._handle_state)
        if not self._client.state.is_final:
            await self._client.remove_watch(self._root, self._handle_event, recursive=True)

    def _handle_state(self, state: SessionState) -> None:
        if self._stopped:
            return
        if state is SessionState.CONNECTED:
            # The new server may lag behind writes of this session whose replies were lost.
            self._client.sync_nowait(self._root)
            self._list_root()
        else:  # also at the session's end, which a stalled process may reach without having been disconnected before
            self._interrupt()

    def _interrupt(self) -> None:
        self._listed.clear()
        self._awaited.clear()
        self._sink(Interrupted())

    # --- listings ----------------------------------------------------------------------------------------------------

    def _list_root(self) -> None:
        self._round += 1
        self._awaited.clear()
        self._list([self._root])

    def _list(self, folders: Sequence[str]) -> None:
        """Ask for listings: of a single folder, or of many with few requests."""
        for folder in folders:
            self._listed.pop(folder, None)
            self._awaited[folder] = True
        if len(folders) == 1:
            self._client.children_nowait(folders[0], partial(self._handle_reply, self._round, folders[0]))
        else:
            for start in range(0, len(folders), _AT_ONCE):
                some = folders[start : start + _AT_ONCE]
                self._client.multi_children_nowait(some, partial(self._handle_replies, self._round, some))

    def _handle_replies(
        self,
        number: int,
        folders: Sequence[str],
        listings: Sequence[tuple[str, ...] | errors.ServerError] | None,
        error: Exception | None,
    ) -> None:
        if listings is None:
            for folder in folders:
                self._handle_reply(number, folder, None, error)
            return
        for folder, listing in zip(folders, listings, strict=True):
            if isinstance(listing, tuple):
                self._handle_reply(number, folder, listing, None)
            else:
                self._handle_reply(number, folder, None, listing)

    def _handle_reply(self, number: int, folder: str, names: tuple[str, ...] | None, error: Exception | None) -> None:
        if number != self._round or self._stopped:
            return
        if names is not None:
            self._handle_listing(folder, names)
        elif isinstance(error, errors.ServerError):
            if not isinstance(error, errors.NoNode):
                self._sink(Failed(folder, error))
            self._handle_listing(folder, None)
        # Otherwise the session is over, which the client announces, or a new connection brings a new listing.

    def _handle_listing(self, folder: str, names: tuple[str, ...] | None) -> None:
        is_wanted = self._awaited.pop(folder, None)
        if is_wanted is None:  # it was asked for twice
            return
        if is_wanted:
            if names is not None or folder == self._root:  # if there is no root, nothing is in it
                self._listed[folder] = set()
            self._sink(Listed(folder, names))
            if self._scope is not None and names:
                self._follow(folder, self._scope.of_listing(folder, names))
        if not self._awaited:
            self._sink(Complete(self._root))

    def _follow(self, folder: str, names: Iterable[str]) -> None:
        wanted: list[str] = []
        for name in names:
            path = join(folder, name)
            self._listed[folder].add(name)
            if path not in self._listed and not self._awaited.get(path):
                wanted.append(path)
        if wanted:
            self._list(wanted)

    def _forget(self, folder: str, name: str) -> None:
        """Give no changes of a folder any more, nor of what is below it."""
        self._listed[folder].discard(name)
        path = join(folder, name)
        if path in self._awaited:
            self._awaited[path] = False
        for child in tuple(self._listed.get(path, ())):
            self._forget(path, child)
        self._listed.pop(path, None)

    # --- events ------------------------------------------------------------------------------------------------------

    def _handle_event(self, event: WatchEvent) -> None:
        folder, _, name = event.path.rpartition("/")
        if folder not in self._listed or self._stopped:
            if event.path == self._root:
                self._handle_root_event(event)
            return
        kind, scope = event.type, self._scope
        if kind is _CREATED:
            self._sink(Added(folder, name))
            if scope is not None and (names := scope.of_creation(folder, name)):
                self._widen(names, folder, name)
        elif kind is _DELETED:
            if scope is not None and (name in self._listed[folder] or self._awaited):  # most names are of leaves
                for each in (name, *scope.of_deletion(folder, name)):
                    self._forget(folder, each)
            self._sink(Removed(folder, name))
        elif kind is _CHANGED:
            self._sink(Changed(folder, name))

    def _widen(self, names: Collection[str], folder: str, new: str) -> None:
        if new in names:
            self._listed[folder].add(new)
            self._listed[join(folder, new)] = set()  # empty: its changes follow as events
        self._follow(folder, names)

    def _handle_root_event(self, event: WatchEvent) -> None:
        if event.type is EventType.DELETED and self._root in self._listed and not self._stopped:
            self._sink(Listed(self._root, None))

    def _handle_armed(self, _result: None, error: Exception | None) -> None:
        if isinstance(error, errors.ServerError) and not self._stopped:
            self._sink(Failed(self._root, error))


class _Grandchildren:
    """The scope of a stream of depth 2."""

    def __init__(self, root: str) -> None:
        self._root = root

    def of_listing(self, folder: str, names: Iterable[str]) -> Iterable[str]:
        return names if folder == self._root else ()

    def of_creation(self, folder: str, name: str) -> Collection[str]:
        return (name,) if folder == self._root else ()

    def of_deletion(self, _folder: str, _name: str) -> Iterable[str]:
        return ()
