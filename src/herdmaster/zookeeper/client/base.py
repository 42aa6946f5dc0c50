"""The base of a client: the life of its session, its state, and requests in records of the wire.

When the session is over, expired or closed, everything pending raises, and so does every later call; to go on takes a
new object. A call while the connection is away waits for the next one. A write whose connection was lost after it had
left raises ConnectionLoss; reads are sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.connect_string import ConnectString, parse_connect_string
from herdmaster.zookeeper.client.connection import Clock, Connection, StateListener, boot_clock
from herdmaster.zookeeper.client.creates import AnyCreate, creation
from herdmaster.zookeeper.client.dialing import make_context
from herdmaster.zookeeper.client.predecessors import Predecessors
from herdmaster.zookeeper.client.presented import Presented
from herdmaster.zookeeper.client.requests import Arm, Done, Pending
from herdmaster.zookeeper.client.security import PLAIN, Security
from herdmaster.zookeeper.client.session import Measure, Session
from herdmaster.zookeeper.model import OPEN_ACL, Acl, ClientId, CreateMode, SessionState
from herdmaster.zookeeper.paths import is_valid, validate
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import MultiRead
from herdmaster.zookeeper.wire.records import Record, Request

LATE_SECONDS: Final = 3.0
"""After this time a warning is logged that no server answers."""

_log = logging.getLogger("herdmaster.zookeeper")
_connecting = logging.getLogger("herdmaster.connecting")  # the command line shows these lines in a place of their own

ReplyT = TypeVar("ReplyT", bound=Record)

_MAX_TIMEOUT: Final = 0x7FFFFFFF / 1000  # seconds: the wire has an int32 of milliseconds

_NOT_OPEN: Final = "the client is not open"

_PERSISTENT: Final = CreateMode.PERSISTENT

_REPEATABLE: Final[frozenset[type[Record]]] = frozenset(
    {
        records.Exists,
        records.GetData,
        records.GetAcl,
        records.GetChildren,
        records.GetChildren2,
        records.Sync,
        records.AddWatch,  # arming or removing a watch twice is the same as once
        records.SetWatches2,
        records.RemoveWatches,
        records.GetEphemerals,
        records.GetAllChildrenNumber,
        records.WhoAmI,
        MultiRead,
    }
)


class DefaultAcls(Protocol):
    """The ACLs of znodes that are created without one."""

    @property
    def size(self) -> int:
        """The bytes of the largest on the wire."""

    def acl_of(self, path: str, /) -> tuple[Acl, ...]:
        """Return the ACL for a path below the chroot. Called for every create."""


class BaseClient:
    """A session with the servers of a connect string.

    `session_timeout` (seconds) is what the client asks for, `timeout` what the server granted. `security` is
    what every connection does first.
    """

    default_acls: DefaultAcls | None = None
    """None: znodes are created open to every session."""

    def __init__(
        self,
        hosts: str | ConnectString,
        *,
        session_timeout: float = 10.0,
        connect_timeout: float | None = None,
        security: Security = PLAIN,
        clock: Clock = boot_clock,
        rng: random.Random | None = None,
        predecessors: Predecessors | None = None,
        says_late: bool = True,
        measure: Measure | None = None,
    ) -> None:
        """Raises InvalidConnectString, or ValueError for a timeout that the protocol cannot carry.

        `connect_timeout` (seconds) bounds `async with`; None waits for ever. `predecessors` is given to one client
        after the other: each closes the sessions that earlier ones gave up without an answer of a server. `says_late`:
        log a warning if no server has answered after three seconds, and at once if settings are the reason. `measure`
        is called for each answered request.
        """
        if not 0 < session_timeout <= _MAX_TIMEOUT:
            raise ValueError(f"session_timeout is {session_timeout}: it takes seconds, at most {_MAX_TIMEOUT:.0f}")
        self.hosts: ConnectString = parse_connect_string(hosts) if isinstance(hosts, str) else hosts
        self._connect_timeout = connect_timeout
        self._chroot = self.hosts.chroot
        self._clock = clock
        self._rng = rng or random.Random()
        self._security = security
        self._session = Session(
            timeout=session_timeout,
            connect_timeout=max(session_timeout / len(self.hosts.addresses) / 2, 0.1),
            chroot=self._chroot,
        )
        self._session.measure = measure
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._listeners: list[StateListener] = []
        self._predecessors = predecessors
        self._says_late = says_late
        self._pid = 0

    # --- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Connect. Raises NoServerReachable after `connect_timeout`, AuthenticationFailed, SessionExpired, or at once
        InvalidTls."""
        if self._connection is not None:
            raise RuntimeError("the client was opened before: one object is one session, make a new one")
        if self._security.tls is not None:
            await make_context(self._security.tls)
        if self._security.takes_any_name:
            _log.warning(
                "the host name of the servers is not verified: anyone with a certificate of the same authority can "
                "pose as %s", self.hosts,
            )  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._connection = Connection(
            self._session, self.hosts.addresses, self._security, clock=self._clock, rng=self._rng
        )
        self._connection.says_faults = self._says_late
        self._connection.add_listener(self._handle_state)
        for listener in self._listeners:
            self._connection.add_listener(listener)
        late = self._loop.call_later(LATE_SECONDS, self._say_late, self._connection)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._wait_established(self._connection)
        except TimeoutError:
            fault, advice = self._connection.last_fault, self._connection.advice
            await self.abandon()
            raise errors.NoServerReachable(
                f"no session with {self.hosts} within {self._connect_timeout:g} s ({fault}){advice}"
            ) from None
        except BaseException:
            await self.abandon()  # the caller gets no client, so it could not close it
            raise
        finally:
            late.cancel()
        return self

    def _say_late(self, connection: Connection) -> None:
        if self._says_late:
            _connecting.warning("still trying %s (%s)%s", self.hosts, connection.last_fault, connection.advice)

    def _handle_state(self, state: SessionState) -> None:
        if self._predecessors is None or self._connection is None:
            return
        if state is SessionState.CONNECTED:
            self._connection.close_predecessors(self._predecessors)
        elif state.is_final and self._session.client_id is not None and not self._session.is_gone:
            self._predecessors.add(self._session.client_id, self._pid)

    async def _wait_established(self, connection: Connection) -> None:
        established = asyncio.Event()

        def listen(_state: SessionState) -> None:
            established.set()

        connection.add_listener(listen)
        try:
            await established.wait()
        finally:
            connection.remove_listener(listen)
        self._session.raise_if_over()
        if self._security.auth:
            # This answer comes after those to the credentials, so a refusal is known here.
            with contextlib.suppress(errors.NoAuth):
                await self.call(records.Exists("/", False))

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session. If a server could be reached, its ephemerals are gone when this returns. Idempotent."""
        connection = self._connection
        if connection is None:
            return
        closed = asyncio.Event()
        try:
            connection.handle(self._session.close(lambda _reply, _error: closed.set()))
            # Without an answer the session lapses by itself.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._session.timeout):
                    await closed.wait()
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Stop without telling the server; the session then lapses by its timeout."""
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
        """The id that is the `ephemeral_owner` of the session's znodes."""
        return self.client_id.session_id

    @property
    def timeout(self) -> float:
        """Seconds, as negotiated; before the first connection, as requested."""
        return self._session.timeout

    @property
    def deadline(self) -> float:
        """The time, on `clock`, until which the session certainly lives on the server."""
        return self._session.deadline

    @property
    def presented(self) -> Presented:
        """By what the session authenticates."""
        return self._session.presented

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def acl_size(self) -> int:
        """The bytes that a create has at most beyond one with an open ACL."""
        return 0 if self.default_acls is None else self.default_acls.size

    def add_listener(self, listener: StateListener) -> None:
        """Call `listener` at every change of state, in order with replies and watch events."""
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
        """Return the path as the server knows it. Raises InvalidPath; a sequential one may end with `/`."""
        if sequential:
            validate(path + "0")
            return self._chroot.prefix + path  # unlike elsewhere, `/` here is the start of a child's name
        if not is_valid(path):
            validate(path)
        return self._chroot.add(path) if self._chroot.prefix else path

    def creation(
        self, path: str, data: bytes | None, acl: tuple[Acl, ...] | None, mode: CreateMode, ttl: float | None
    ) -> AnyCreate:
        """Return the request that creates a znode; `ttl` in seconds. Raises InvalidPath, or ValueError for an
        impossible time to live."""
        if acl is None:
            acl = OPEN_ACL if self.default_acls is None else self.default_acls.acl_of(path)
        if mode is _PERSISTENT and ttl is None:
            return records.Create(self.outward(path), data, acl, mode)
        return creation(self.outward(path, sequential=mode.is_sequential), data, acl, mode, ttl)

    def call_nowait(self, request: Request[Record], done: Done, *, arm: Arm | None = None) -> Pending:
        """Send a request with full paths; `done` is called as the contract in `nowait.py` says. Raises RequestTooLarge,
        or the session's final error."""
        if self._connection is None:
            raise RuntimeError(_NOT_OPEN)
        pending = Pending(request, done, retry=type(request) in _REPEATABLE, arm=arm)
        self._connection.send(pending)
        return pending

    async def call(self, request: Request[ReplyT], *, arm: Arm | None = None) -> ReplyT:
        """Send a request with full paths and return its reply. If it is cancelled before it has left, it is not
        sent."""
        if self._loop is None or self._connection is None:
            raise RuntimeError(_NOT_OPEN)
        # Not asyncio.get_running_loop, which asks the system for the process id every time.
        future: asyncio.Future[ReplyT] = self._loop.create_future()

        # Any: the session decodes with the request's own reply_type, which the type of `done` cannot express.
        def done(reply: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None and reply is not None:
                future.set_result(reply)
            else:
                future.set_exception(error or errors.ClientClosed("the client is closed"))

        retry = type(request) in _REPEATABLE
        self._connection.send(Pending(request, done, retry=retry, arm=arm, is_cancelled=future.cancelled))
        return await future
