"""The client: ZooKeeper's operations, typed, for asyncio. One object is one session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.creates import explain
from herdmaster.zookeeper.client.nowait import Node, NowaitClient, children_of, nodes_of
from herdmaster.zookeeper.client.requests import Arm
from herdmaster.zookeeper.client.transaction import Transaction
from herdmaster.zookeeper.client.watches import Watcher, WatchTable, arming_packets
from herdmaster.zookeeper.model import Acl, ClientInfo, CreateMode, Stat, WatcherType
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.records import Record


class Client(NowaitClient):
    """A client with ZooKeeper's operations. Every path is below the chroot of the connect string.

    All operations raise a ServerError that says what the server refused, InvalidPath, RequestTooLarge and
    SessionExpired; writes also raise ConnectionLoss.
    """

    # --- znodes --------------------------------------------------------------------------------------------------

    async def create(
        self,
        path: str,
        data: bytes | None = b"",
        *,
        mode: CreateMode = CreateMode.PERSISTENT,
        acl: tuple[Acl, ...] | None = None,
        ttl: float | None = None,
    ) -> str:
        """Create a znode and return its path, which for a sequential mode ends with the number that the server chose.

        Without `acl` the znode gets what `default_acls` says.

        `ttl` is a time to live in seconds, kept to the millisecond, for the persistent modes: the servers delete the
        znode some time after its data has not been set for that long, but not while it has children. Raises ValueError
        if it is out of range, given to another mode or missing for a mode that needs it, and Unimplemented if the
        servers do not allow it, as by default (`zookeeper.extendedTypesEnabled`).
        """
        request = self.creation(path, data, acl, mode, ttl)
        try:
            reply: records.PathReply | records.PathStatReply = await self.call(request)
        except errors.Unimplemented as failure:
            explain(failure, failure, request)
            raise
        return self._chroot.remove(reply.path)

    async def delete(self, path: str, version: int = -1) -> None:
        await self.call(records.Delete(self.outward(path), version))

    async def exists(self, path: str, watcher: Watcher | None = None) -> Stat | None:
        """Return the stat, None if there is no such znode. The watcher is armed in either case, for one event."""
        path = self.outward(path)
        arm = Arm(WatchTable.EXIST, path, watcher) if watcher is not None else None
        try:
            return (await self.call(records.Exists(path, watcher is not None), arm=arm)).stat
        except errors.NoNode:
            return None

    async def get(self, path: str, watcher: Watcher | None = None) -> tuple[bytes | None, Stat]:
        """Return data (None is ZooKeeper's null, distinct from b"") and stat. The watcher is armed on success."""
        path = self.outward(path)
        arm = Arm(WatchTable.DATA, path, watcher) if watcher is not None else None
        reply = await self.call(records.GetData(path, watcher is not None), arm=arm)
        return reply.data, reply.stat

    async def set(self, path: str, data: bytes | None, version: int = -1) -> Stat:
        return (await self.call(records.SetData(self.outward(path), data, version))).stat

    async def children(self, path: str, watcher: Watcher | None = None) -> tuple[str, ...]:
        """Return the names, in no order."""
        return (await self.children_and_stat(path, watcher))[0]

    async def children_and_stat(self, path: str, watcher: Watcher | None = None) -> tuple[tuple[str, ...], Stat]:
        path = self.outward(path)
        arm = Arm(WatchTable.CHILD, path, watcher) if watcher is not None else None
        reply = await self.call(records.GetChildren2(path, watcher is not None), arm=arm)
        return reply.children, reply.stat

    async def get_acl(self, path: str) -> tuple[tuple[Acl, ...], Stat]:
        reply = await self.call(records.GetAcl(self.outward(path)))
        return reply.acl, reply.stat

    async def set_acl(self, path: str, acl: tuple[Acl, ...], version: int = -1) -> Stat:
        """Replace the ACL. `version` is compared with the stat's `aversion`."""
        return (await self.call(records.SetAcl(self.outward(path), acl, version))).stat

    async def sync(self, path: str = "/") -> None:
        """Wait until reads of this session see every write that was done before the call."""
        await self.call(records.Sync(self.outward(path)))

    async def multi_read(self, paths: Iterable[str]) -> list[Node | errors.ServerError]:
        """Read data and stat of several znodes with one request. Each has a result or an error of its own.

        The caller bounds the size: the reply holds all the data.
        """
        paths = tuple(paths)
        return nodes_of(paths, await self.call(self._reads_of(paths)), self.presented) if paths else []

    async def multi_children(self, paths: Iterable[str]) -> list[tuple[str, ...] | errors.ServerError]:
        """Read the children of several znodes with one request, in no order. Each has a result or an error of its own.

        All are read at one moment: the server applies no write in between. The caller bounds the size of the reply,
        which holds all the names.
        """
        paths = tuple(paths)
        return children_of(paths, await self.call(self._listings_of(paths)), self.presented) if paths else []

    def transaction(self) -> Transaction:
        return Transaction(self)

    async def ephemerals(self, prefix: str = "/") -> tuple[str, ...]:
        """Return the paths of this session's ephemerals that start with the prefix (a plain prefix, not whole
        segments).

        Raises InvalidPath for a prefix that does not start with `/`: it would reach beyond the chroot.
        """
        if not prefix.startswith("/"):
            raise errors.InvalidPath(f"invalid prefix {prefix!r}: it must start with '/'")
        reply = await self.call(records.GetEphemerals(self._chroot.prefix + prefix))
        return tuple(self._chroot.remove(path) for path in reply.children)

    async def count_descendants(self, path: str) -> int:
        """Return the number of znodes below a path, at any depth."""
        return (await self.call(records.GetAllChildrenNumber(self.outward(path)))).number

    async def who_am_i(self) -> tuple[ClientInfo, ...]:
        """Return the identities that the server has for this connection (3.7 and newer)."""
        return (await self.call(records.WhoAmI())).infos

    # --- watches and credentials -----------------------------------------------------------------------------------

    async def add_watch(self, path: str, watcher: Watcher, *, recursive: bool = False) -> None:
        """Arm a watch that stays. After a reconnect it is armed again, but what happened meanwhile is not reported.

        Servers before 3.9 keep one kind of watch per path (ZOOKEEPER-4466): do not mix it with one-shot watches.
        """
        request, arm = self._watch_of(path, watcher, recursive=recursive)
        await self.call(request, arm=arm)

    async def remove_watch(self, path: str, watcher: Watcher, *, recursive: bool = False) -> None:
        """Remove a persistent watch; at the server only if nothing else watches the path."""
        path = self.outward(path)
        table = WatchTable.RECURSIVE if recursive else WatchTable.PERSISTENT
        if self._session.disarm(Arm(table, path, watcher)):
            # No watcher: it went with an old connection.
            with contextlib.suppress(errors.NoWatcher):
                await self.call(records.RemoveWatches(path, int(WatcherType.ANY)))

    async def watch_created(self, paths: Iterable[str], watcher: Watcher) -> None:
        """Arm one-shot watches on many znodes at once, in packets of at most 128 KiB.

        The watcher is called once for each path: when the znode is created, or at once if it exists already.
        """
        wanted = [(WatchTable.EXIST, self.outward(path)) for path in paths]
        try:
            for packet in self._exist_packets(wanted, watcher):
                await self.call(packet)
        except BaseException:
            for table, path in wanted:
                self._session.watches.remove(table, path, watcher)
            raise

    def watch_created_nowait(self, paths: Iterable[str], watcher: Watcher) -> None:
        """As `watch_created`, without an answer. For callers that hear of the session's end from a listener."""
        wanted = [(WatchTable.EXIST, self.outward(path)) for path in paths]
        for packet in self._exist_packets(wanted, watcher):
            self.call_nowait(packet, lambda _reply, _error: None)

    def _exist_packets(self, wanted: list[tuple[WatchTable, str]], watcher: Watcher) -> Iterator[records.SetWatches2]:
        # Before the request: the events of those that exist already come ahead of its reply.
        for table, path in wanted:
            self._session.watches.add(table, path, watcher)
        return arming_packets(wanted, self._session.last_zxid)

    def forget_created(self, path: str, watcher: Watcher) -> None:
        """Forget a watch of `watch_created` on this side; an event that still comes is ignored."""
        self._session.watches.remove(WatchTable.EXIST, self._chroot.add(path), watcher)

    async def add_credential(self, scheme: str, credential: bytes) -> None:
        """Authenticate this session, also on every later connection. Raises AuthenticationFailed, which ends the
        session."""
        hidden = Secret(credential)
        del credential  # a traceback may show the local variables
        done = asyncio.get_running_loop().create_future()

        def finish(_reply: Record | None, error: Exception | None) -> None:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        if self._connection is None:
            raise RuntimeError("the client is not open")
        self._session.add_credential(scheme, hidden, finish)
        self._connection.schedule_flush()
        await done
