"""ZooKeeper's operations as calls with a callback, for code that must follow the order of the wire.

The contract of every call `..._nowait(..., done)`, and of `Transaction.commit_nowait`:

- The call returns at once. The request leaves at the next turn of the event loop, or when a connection is back.
- `done(result, error)` is called exactly once, on the event loop, never before the call has returned.
- On success `error` is None, and `result` is what the awaited call of the same name returns.
- On failure `result` is None, and `error` is what the awaited call raises: a ServerError (the server refused the
  request), ConnectionLoss (a write had left when its connection went: it may have been applied), SessionExpired,
  ClientClosed or AuthenticationFailed (the session is over), or WireError (the reply cannot be read).
- The callbacks of one client, its watchers and its state listeners are called in the order of the wire: replies in the
  order of their requests, and the event of a change before any reply that shows the change. At the end of a session
  the listeners are called first.
- What is known to fail at once is raised, and `done` is not called: InvalidPath, RequestTooLarge, ValueError, and the
  session's final error when the session is over.
- `done` must not block. What it raises goes to the loop's exception handler, and the other callbacks are still called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.base import BaseClient
from herdmaster.zookeeper.client.presented import NOTHING, Presented
from herdmaster.zookeeper.client.refusals import refusal
from herdmaster.zookeeper.client.requests import Arm
from herdmaster.zookeeper.client.watches import Watcher, WatchTable
from herdmaster.zookeeper.model import AddWatchMode, CreateMode, Stat
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import ErrorResult, MultiRead, MultiReply
from herdmaster.zookeeper.wire.records import Record

ResultT = TypeVar("ResultT")

Callback = Callable[[ResultT | None, Exception | None], None]
"""Called with a result or an error; the contract is in the module's docstring."""

Node = tuple[bytes | None, Stat]
"""Data (None is ZooKeeper's null, distinct from b"") and stat."""


class NowaitClient(BaseClient):
    """A session and its calls with a callback. Every path is below the chroot of the connect string."""

    def create_nowait(
        self, path: str, data: bytes | None, done: Callback[str], *, mode: CreateMode = CreateMode.PERSISTENT
    ) -> None:
        chroot = self._chroot

        def read(reply: Record | None, error: Exception | None) -> None:
            if isinstance(reply, (records.PathReply, records.PathStatReply)):
                done(chroot.remove(reply.path), None)
            else:
                done(None, error)

        self.call_nowait(self.creation(path, data, None, mode, None), read)

    def delete_nowait(self, path: str, done: Callback[None], version: int = -1) -> None:
        def read(_reply: Record | None, error: Exception | None) -> None:
            done(None, error)

        self.call_nowait(records.Delete(self.outward(path), version), read)

    def set_nowait(self, path: str, data: bytes | None, done: Callback[Stat], version: int = -1) -> None:
        def read(reply: Record | None, error: Exception | None) -> None:
            done(reply.stat if isinstance(reply, records.StatReply) else None, error)

        self.call_nowait(records.SetData(self.outward(path), data, version), read)

    def sync_nowait(self, path: str = "/") -> None:
        """As `sync`, without an answer: the requests that follow on this connection are answered after it."""
        self.call_nowait(records.Sync(self.outward(path)), lambda _reply, _error: None)

    def exists_nowait(self, path: str, done: Callback[Stat]) -> None:
        """Read the stat. A znode that does not exist is no error: `done` is called with None and None."""

        def read(reply: Record | None, error: Exception | None) -> None:
            if isinstance(reply, records.StatReply):
                done(reply.stat, None)
            else:
                done(None, None if isinstance(error, errors.NoNode) else error)

        self.call_nowait(records.Exists(self.outward(path), False), read)

    def get_nowait(self, path: str, done: Callback[Node]) -> None:
        def read(reply: Record | None, error: Exception | None) -> None:
            done((reply.data, reply.stat) if isinstance(reply, records.DataReply) else None, error)

        self.call_nowait(records.GetData(self.outward(path), False), read)

    def children_nowait(self, path: str, done: Callback[tuple[str, ...]]) -> None:
        """Read the names, in no order."""

        def read(reply: Record | None, error: Exception | None) -> None:
            done(reply.children if isinstance(reply, records.ChildrenReply) else None, error)

        self.call_nowait(records.GetChildren(self.outward(path), False), read)

    def multi_read_nowait(self, paths: Sequence[str], done: Callback[list[Node | errors.ServerError]]) -> None:
        """As `Client.multi_read`. An empty list of paths is sent, too."""
        self._call_multi(self._reads_of(paths), partial(nodes_of, paths, presented=self.presented), done)

    def multi_children_nowait(
        self, paths: Sequence[str], done: Callback[list[tuple[str, ...] | errors.ServerError]]
    ) -> None:
        """As `Client.multi_children`. An empty list of paths is sent, too."""
        self._call_multi(self._listings_of(paths), partial(children_of, paths, presented=self.presented), done)

    def _call_multi(
        self, request: MultiRead, interpret: Callable[[MultiReply], ResultT], done: Callback[ResultT]
    ) -> None:
        def read(reply: Record | None, error: Exception | None) -> None:
            result: ResultT | None = None
            if isinstance(reply, MultiReply):
                try:
                    result = interpret(reply)
                except errors.WireError as fault:
                    error = fault
            done(result, error)

        self.call_nowait(request, read)

    def add_watch_nowait(self, path: str, watcher: Watcher, done: Callback[None], *, recursive: bool = False) -> None:
        """As `Client.add_watch`."""

        def read(_reply: Record | None, error: Exception | None) -> None:
            done(None, error)

        request, arm = self._watch_of(path, watcher, recursive=recursive)
        self.call_nowait(request, read, arm=arm)

    # --- the requests that the awaited calls share -------------------------------------------------------------------

    def _reads_of(self, paths: Iterable[str]) -> MultiRead:
        outward, read = self.outward, records.GetData
        return MultiRead(tuple([read(outward(path), False) for path in paths]))

    def _listings_of(self, paths: Iterable[str]) -> MultiRead:
        return MultiRead(tuple([records.GetChildren(self.outward(path), False) for path in paths]))

    def _watch_of(self, path: str, watcher: Watcher, *, recursive: bool) -> tuple[records.AddWatch, Arm]:
        path = self.outward(path)
        mode = AddWatchMode.PERSISTENT_RECURSIVE if recursive else AddWatchMode.PERSISTENT
        table = WatchTable.RECURSIVE if recursive else WatchTable.PERSISTENT
        return records.AddWatch(path, int(mode)), Arm(table, path, watcher)


def nodes_of(
    paths: Sequence[str], reply: MultiReply, presented: Presented = NOTHING
) -> list[Node | errors.ServerError]:
    """Return the nodes of a reply. `presented` is what the session authenticates with. Raises
    WireError if it does not answer these reads."""
    found: list[Node | errors.ServerError] = []
    for result in reply.results:
        if isinstance(result, records.DataReply):
            found.append((result.data, result.stat))
        else:
            found.append(_refusal(paths, len(found), result, presented))
    return _all_of(paths, found)


def children_of(
    paths: Sequence[str], reply: MultiReply, presented: Presented = NOTHING
) -> list[tuple[str, ...] | errors.ServerError]:
    """Return the listings of a reply, with `presented` as in `nodes_of`. Raises WireError if it does not answer these
    requests."""
    found: list[tuple[str, ...] | errors.ServerError] = []
    for result in reply.results:
        if isinstance(result, records.ChildrenReply):
            found.append(result.children)
        else:
            found.append(_refusal(paths, len(found), result, presented))
    return _all_of(paths, found)


def _refusal(paths: Sequence[str], index: int, result: Record, presented: Presented) -> errors.ServerError:
    if not isinstance(result, ErrorResult) or index >= len(paths):
        raise errors.WireError(f"a {type(result).__name__} as result {index} of {len(paths)} reads")
    return refusal(result.code, records.GetData(paths[index], False), paths[index], presented)


def _all_of(paths: Sequence[str], found: list[ResultT]) -> list[ResultT]:
    if len(found) != len(paths):
        raise errors.WireError(f"{len(found)} results to {len(paths)} reads")
    return found
