"""The client: ZooKeeper's operations, typed, for asyncio. One object is one session.

When the session is over, expired or closed, everything pending raises and so does every later call; going on takes a
new object. A call made while the connection is away waits for it. A write whose connection went away after it had
been sent raises ConnectionLoss; reads are asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar, cast

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.connect_string import ConnectString, parse_connect_string
from herdmaster.zookeeper.client.connection import Clock, Connection, StateListener, boot_clock
from herdmaster.zookeeper.client.session import Arm, Done, Pending, Session
from herdmaster.zookeeper.client.transaction import Transaction
from herdmaster.zookeeper.client.watches import REARM_LIMIT, Watcher, WatchTable
from herdmaster.zookeeper.model import (
    OPEN_ACL,
    Acl,
    AddWatchMode,
    ClientId,
    ClientInfo,
    CreateMode,
    SessionState,
    Stat,
    WatcherType,
)
from herdmaster.zookeeper.paths import validate
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import ErrorResult, MultiRead
from herdmaster.zookeeper.wire.records import Record, Request

ReplyT = TypeVar("ReplyT", bound=Record)
_READS = (
    records.Exists,
    records.GetData,
    records.GetAcl,
    records.GetChildren,
    records.GetChildren2,
    records.Sync,
    records.AddWatch,  # arming a persistent watch twice is arming it once
    records.SetWatches,
    records.GetEphemerals,
    records.GetAllChildrenNumber,
    records.WhoAmI,
    MultiRead,
)


class Client:
    """A session with the servers of a connect string.

    `session_timeout` in seconds is what is asked for; `timeout` what the server granted. `credentials` are
    (scheme, bytes) pairs that every connection presents first.
    """

    def __init__(
        self,
        hosts: str | ConnectString,
        *,
        session_timeout: float = 10.0,
        connect_timeout: float | None = None,
        credentials: Iterable[tuple[str, bytes]] = (),
        clock: Clock = boot_clock,
        rng: random.Random | None = None,
    ) -> None:
        """Raises InvalidConnectString. `connect_timeout` (seconds) bounds `async with`; None waits for ever."""
        self.hosts = parse_connect_string(hosts) if isinstance(hosts, str) else hosts
        self._connect_timeout = connect_timeout
        self._chroot = self.hosts.chroot
        self._clock = clock
        self._rng = rng or random.Random()
        attempts = len(self.hosts.addresses)
        self._session = Session(
            timeout=session_timeout,
            connect_timeout=max(session_timeout / attempts / 2, 0.1),
            chroot=self._chroot,
            credentials=tuple(credentials),
        )
        self._connection: Connection | None = None
        self._listeners: list[StateListener] = []

    # --- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Connects. Raises NoServerReachable after `connect_timeout`, AuthenticationFailed, or SessionExpired."""
        established = asyncio.get_running_loop().create_future()

        def listen(state: SessionState) -> None:
            if not established.done():
                established.set_result(state)

        self._connection = Connection(self._session, self.hosts.addresses, clock=self._clock, rng=self._rng)
        self._connection.add_listener(listen)
        for listener in self._listeners:
            self._connection.add_listener(listener)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await established
        except TimeoutError:
            fault = self._connection.last_fault
            raise errors.NoServerReachable(
                f"no session with {self.hosts} within {self._connect_timeout:g} s ({fault}): is ZooKeeper running?"
            ) from None
        finally:
            if not established.done() or established.cancelled():
                await self.abandon()
        self._connection.remove_listener(listen)
        if self._session.state is not SessionState.CONNECTED:
            await self.abandon()
            raise errors.SessionExpired(f"the session with {self.hosts} ended at once: {self._session.state.value}")
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the session; its ephemerals are gone when this returns, if a server could be reached. Idempotent."""
        connection = self._connection
        if connection is None:
            return
        closed = asyncio.Event()
        connection.handle(self._session.close(lambda _reply, _error: closed.set()))
        try:
            # Without an answer the session lapses by itself.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._session.timeout):
                    await closed.wait()
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Stops without telling the server, whose session then lapses by its timeout."""
        connection = self._connection
        if connection is not None:
            connection.handle(self._session.abandon())
            await connection.stop()

    # --- questions -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        return self._session.state

    @property
    def client_id(self) -> ClientId:
        """The session's id and password. Raises RuntimeError before the first connection."""
        if self._session.client_id is None:
            raise RuntimeError("the session has not been established yet")
        return self._session.client_id

    @property
    def session_id(self) -> int:
        """As it stands in `ephemeral_owner` of the session's znodes."""
        return self.client_id.session_id

    @property
    def timeout(self) -> float:
        """Seconds, as negotiated (as requested before the first connection)."""
        return self._session.timeout

    @property
    def deadline(self) -> float:
        """Until when, on `clock`, the session is certainly alive on the server."""
        return self._session.deadline

    @property
    def clock(self) -> Clock:
        return self._clock

    def add_listener(self, listener: StateListener) -> None:
        """`listener` is called at every change of state, in order with replies and watch events."""
        self._listeners.append(listener)
        if self._connection is not None:
            self._connection.add_listener(listener)

    def remove_listener(self, listener: StateListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
        if self._connection is not None:
            self._connection.remove_listener(listener)

    # --- requests ------------------------------------------------------------------------------------------------

    def outward(self, path: str, *, sequential: bool = False) -> str:
        """The path as the server knows it. Raises InvalidPath; a sequential one may end with `/`."""
        validate(path + "0" if sequential else path)
        return self._chroot.add(path)

    def call_nowait(self, request: Request[Record], done: Done, *, arm: Arm | None = None) -> Pending:
        """Sends a request with full paths; `done` is called in the order of the wire. Raises RequestTooLarge, or the
        session's final error."""
        if self._connection is None:
            raise RuntimeError("the client is not open")
        pending = Pending(request, done, retry=isinstance(request, _READS), arm=arm)
        self._connection.send(pending)
        return pending

    async def call(self, request: Request[ReplyT], *, arm: Arm | None = None) -> ReplyT:
        """Sends a request with full paths and waits for its reply. Cancelled, it is not sent if it has not left."""
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()

        def done(reply: Record | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is None and reply is not None:
                future.set_result(reply)
            else:
                future.set_exception(error or errors.ClientClosed("the client is closed"))

        pending = self.call_nowait(request, done, arm=arm)
        try:
            return cast(ReplyT, await future)  # the session decodes with the request's own reply_type
        except asyncio.CancelledError:
            pending.cancelled = True
            raise

    async def create(
        self,
        path: str,
        data: bytes | None = b"",
        *,
        mode: CreateMode = CreateMode.PERSISTENT,
        acl: tuple[Acl, ...] = OPEN_ACL,
    ) -> str:
        """Returns the path, which for a sequential mode ends with the number that the server chose."""
        path = self.outward(path, sequential=mode.is_sequential)
        if mode is CreateMode.CONTAINER:
            return self._chroot.remove((await self.call(records.CreateContainer(path, data, acl, int(mode)))).path)
        return self._chroot.remove((await self.call(records.Create(path, data, acl, int(mode)))).path)

    async def delete(self, path: str, version: int = -1) -> None:
        await self.call(records.Delete(self.outward(path), version))

    async def exists(self, path: str, watcher: Watcher | None = None) -> Stat | None:
        """None where there is no such znode; the watcher is armed in either case, for one event."""
        path = self.outward(path)
        arm = Arm(WatchTable.EXIST, path, watcher) if watcher else None
        try:
            return (await self.call(records.Exists(path, watcher is not None), arm=arm)).stat
        except errors.NoNode:
            return None

    async def get(self, path: str, watcher: Watcher | None = None) -> tuple[bytes | None, Stat]:
        """Data (None is ZooKeeper's null, distinct from b"") and stat. The watcher is armed on success."""
        path = self.outward(path)
        arm = Arm(WatchTable.DATA, path, watcher) if watcher else None
        reply = await self.call(records.GetData(path, watcher is not None), arm=arm)
        return reply.data, reply.stat

    async def set(self, path: str, data: bytes | None, version: int = -1) -> Stat:
        return (await self.call(records.SetData(self.outward(path), data, version))).stat

    async def children(self, path: str, watcher: Watcher | None = None) -> tuple[str, ...]:
        """Names, in no order."""
        return (await self.children_and_stat(path, watcher))[0]

    async def children_and_stat(self, path: str, watcher: Watcher | None = None) -> tuple[tuple[str, ...], Stat]:
        path = self.outward(path)
        arm = Arm(WatchTable.CHILD, path, watcher) if watcher else None
        reply = await self.call(records.GetChildren2(path, watcher is not None), arm=arm)
        return reply.children, reply.stat

    async def get_acl(self, path: str) -> tuple[tuple[Acl, ...], Stat]:
        reply = await self.call(records.GetAcl(self.outward(path)))
        return reply.acl, reply.stat

    async def set_acl(self, path: str, acl: tuple[Acl, ...], version: int = -1) -> Stat:
        """`version` is compared with the stat's `aversion`."""
        return (await self.call(records.SetAcl(self.outward(path), acl, version))).stat

    async def sync(self, path: str = "/") -> None:
        """After it, reads of this session see every write that was done before it was called."""
        await self.call(records.Sync(self.outward(path)))

    async def multi_read(self, paths: Iterable[str]) -> list[tuple[bytes | None, Stat] | errors.ServerError]:
        """Data and stat of several znodes in one request, each with a result or an error of its own.

        The caller bounds the size: the reply holds all the data.
        """
        outward = [self.outward(path) for path in paths]
        if not outward:
            return []
        reply = await self.call(MultiRead(tuple(records.GetData(path, False) for path in outward)))
        found: list[tuple[bytes | None, Stat] | errors.ServerError] = []
        for path, result in zip(outward, reply.results, strict=True):
            if isinstance(result, records.DataReply):
                found.append((result.data, result.stat))
            else:
                code = result.code if isinstance(result, ErrorResult) else errors.MarshallingError.code
                found.append(errors.from_code(code, path))
        return found

    def transaction(self) -> Transaction:
        return Transaction(self)

    async def ephemerals(self, prefix: str = "/") -> tuple[str, ...]:
        """The paths of this session's ephemerals that start with the prefix (a plain prefix, no segment boundary)."""
        reply = await self.call(records.GetEphemerals(self._chroot.add(prefix)))
        return tuple(self._chroot.remove(path) for path in reply.children)

    async def count_descendants(self, path: str) -> int:
        """How many znodes stand below a path, at any depth."""
        return (await self.call(records.GetAllChildrenNumber(self.outward(path)))).number

    async def who_am_i(self) -> tuple[ClientInfo, ...]:
        """The identities that the server knows this connection by (3.7 and newer)."""
        return (await self.call(records.WhoAmI())).infos

    # --- watches and credentials -----------------------------------------------------------------------------------

    async def add_watch(self, path: str, watcher: Watcher, *, recursive: bool = False) -> None:
        """A watch that stays. After a reconnect it is armed again, but what happened meanwhile is not told.

        Servers before 3.9 keep one kind of watch per path (ZOOKEEPER-4466): do not mix it with one-shot watches.
        """
        path = self.outward(path)
        mode = AddWatchMode.PERSISTENT_RECURSIVE if recursive else AddWatchMode.PERSISTENT
        table = WatchTable.RECURSIVE if recursive else WatchTable.PERSISTENT
        await self.call(records.AddWatch(path, int(mode)), arm=Arm(table, path, watcher))

    async def remove_watch(self, path: str, watcher: Watcher, *, recursive: bool = False) -> None:
        """Takes a persistent watch away; the last one of a path also at the server."""
        path = self.outward(path)
        table = WatchTable.RECURSIVE if recursive else WatchTable.PERSISTENT
        if self._session.watches.remove(table, path, watcher):
            # Otherwise it went with the old connection.
            with contextlib.suppress(errors.NoWatcher, errors.ConnectionLoss):
                await self.call(records.RemoveWatches(path, int(WatcherType.ANY)))

    async def watch_created(self, paths: Iterable[str], watcher: Watcher) -> None:
        """Arms one-shot watches on many znodes at once, in packets of at most 128 KiB.

        The watcher is called for each path once, when the znode is created, and at once where it exists already.
        """
        for packet in self._exist_packets(paths, watcher):
            await self.call(packet)

    def watch_created_nowait(self, paths: Iterable[str], watcher: Watcher) -> None:
        """As `watch_created`, for those who learn of the session's end in another way."""
        for packet in self._exist_packets(paths, watcher):
            self.call_nowait(packet, lambda _reply, _error: None)

    def _exist_packets(self, paths: Iterable[str], watcher: Watcher) -> Iterator[records.SetWatches]:
        batch: list[str] = []
        size = 0
        for path in map(self.outward, paths):
            # Before the request: the events of those that exist already come ahead of its reply.
            self._session.watches.add(WatchTable.EXIST, path, watcher)
            batch.append(path)
            size += len(path) + 4
            if size > REARM_LIMIT:
                yield records.SetWatches(self._session.last_zxid, (), tuple(batch), ())
                batch, size = [], 0
        if batch:
            yield records.SetWatches(self._session.last_zxid, (), tuple(batch), ())

    def forget_created(self, path: str, watcher: Watcher) -> None:
        """This side forgets a watch of `watch_created`; an event that still comes is ignored."""
        self._session.watches.remove(WatchTable.EXIST, self._chroot.add(path), watcher)

    async def add_credential(self, scheme: str, credential: bytes) -> None:
        """Authenticates this session, on every later connection, too. Raises AuthenticationFailed, which ends it."""
        done = asyncio.get_running_loop().create_future()

        def finish(_reply: Record | None, error: Exception | None) -> None:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        if self._connection is None:
            raise RuntimeError("the client is not open")
        self._session.add_credential(scheme, credential, finish)
        self._connection.schedule_flush()
        await done
