"""The I/O of a session: the socket, the timers, the choice of servers.

Requests of one turn of the event loop leave in one send. Events are handed out in the order of the wire, synchronously,
so a listener sees a change before the reply that shows it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from herdmaster import forks
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.authentication import Authentication
from herdmaster.zookeeper.client.connect_string import Address
from herdmaster.zookeeper.client.dialing import Unreachable, dial
from herdmaster.zookeeper.client.predecessors import Predecessors, SessionCloser
from herdmaster.zookeeper.client.requests import (
    Accepted,
    Completed,
    DropConnection,
    Event,
    Fired,
    Pending,
    StateChanged,
)
from herdmaster.zookeeper.client.security import PLAIN, Security
from herdmaster.zookeeper.client.session import Session
from herdmaster.zookeeper.client.tls_faults import explain_end
from herdmaster.zookeeper.model import SessionState, WatchEvent
from herdmaster.zookeeper.wire.framing import IT_IS_TLS

_log = logging.getLogger("herdmaster.zookeeper")

_NewsT = TypeVar("_NewsT", SessionState, WatchEvent)

Clock = Callable[[], float]
StateListener = Callable[[SessionState], None]

_READ_SIZE = 64 * 1024

_CLOSED: Final = (
    "the server closed the connection without an answer, as one without a quorum does, and a port for TLS",
    "the server closed the connection",
)
"""Why a connection ended that the session was not attached to, and that it was."""

IS_IT_RUNNING: Final = ": is ZooKeeper running?"
NO_ANSWER_YET: Final = "no server has answered yet"
"""The fault before the first attempt has an end."""


def boot_clock() -> float:
    """Return seconds of a clock that never goes back and that runs on while the machine sleeps: sessions expire
    meanwhile, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class _Link(asyncio.Protocol, asyncio.BufferedProtocol):
    """One TCP connection. If the loop supports asyncio.BufferedProtocol, it reads into a permanent buffer: for every
    other read asyncio allocates 256 KiB and frees it again, which costs more than handling the data."""

    def __init__(self, owner: Connection) -> None:
        self._owner = owner
        self._buffer = memoryview(bytearray(_READ_SIZE))
        self.transport: asyncio.Transport | None = None
        self._fd = -1
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass of it
        channel = transport.get_extra_info("socket")
        if channel is not None:  # a simulation has none
            self._fd = channel.fileno()
            forks.add_fd(self._fd)
        self._owner.handle_connected(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        self.data_received(bytes(self._buffer[:size]))

    def data_received(self, data: bytes) -> None:
        self._owner.handle_data(self, data)

    def eof_received(self) -> None:
        # A server that ends its half is done with this client; a plain close would first wait for unsent data.
        self.abort()

    def pause_writing(self) -> None:
        self._owner.handle_writable(self, writable=False)

    def resume_writing(self) -> None:
        self._owner.handle_writable(self, writable=True)

    def connection_lost(self, error: Exception | None) -> None:
        forks.discard_fd(self._fd)
        if not self.lost.done():
            self.lost.set_result(error)

    def abort(self) -> None:
        """Close at once: data that the socket still holds must not wait for a peer that may be gone."""
        if self.transport is not None:
            self.transport.abort()


class Connection:
    """Keeps a session connected until it is over. `clock` and `rng` are parameters for simulations."""

    def __init__(
        self,
        session: Session,
        addresses: tuple[Address, ...],
        security: Security = PLAIN,
        *,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._session = session
        self._tls = security.tls
        self._authentication = Authentication(security, session, self.handle)
        self._clock = clock
        self._rng = rng
        self._addresses = list(addresses)
        rng.shuffle(self._addresses)  # clients spread over the servers
        self._link: _Link | None = None
        self._logged: set[str] = set()  # faults of settings since the last connection
        self.says_faults = True  # until there is a session: whether to log them
        self._drop_reason: str | None = None  # why this side closed the present link
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._flush_scheduled = False
        self._listeners: list[StateListener] = []
        self._address: Address | None = None  # of the newest attempt
        self._closing: asyncio.Task[None] | None = None
        self.last_fault = NO_ANSWER_YET
        self.advice = IS_IT_RUNNING
        """What to do about the fault, unless the fault says so itself."""
        self._task = self._loop.create_task(self._run(), name="zookeeper-connection")
        self._task.add_done_callback(self._handle_run_ended)

    def add_listener(self, listener: StateListener) -> None:
        self._listeners.append(listener)

    def remove_listener(self, listener: StateListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    # --- out -----------------------------------------------------------------------------------------------------

    def send(self, pending: Pending) -> None:
        """Send a request. Raises the session's final error when it is over."""
        self._session.enqueue(pending)
        if not self._flush_scheduled:
            self.schedule_flush()

    def schedule_flush(self) -> None:
        """Flush in the next turn of the loop: requests until then leave in one send."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        link = self._link
        if link is None or link.transport is None or link.transport.is_closing():
            return
        output = self._session.take_output(self._clock())
        if output:
            link.transport.write(output)

    # --- in ------------------------------------------------------------------------------------------------------

    def handle_connected(self, link: _Link) -> None:
        if self._link is not None:  # an attempt that was given up at the moment in which it succeeded
            self._link = None
            self.handle(self._session.connection_lost(self._clock()))
        if self._session.is_over:
            link.abort()  # attaching now would keep the session alive on the server
            return
        self._link = link
        self._drop_reason = None
        self._session.paused = False
        self._session.connection_made(self._clock(), self._authentication.presented)
        self._flush()
        self._set_timer()

    def handle_data(self, link: _Link, data: bytes) -> None:
        if link is self._link:
            self.handle(self._session.receive(data, self._clock()))

    def handle_writable(self, link: _Link, *, writable: bool) -> None:
        if link is self._link:
            self._session.paused = not writable
            self.schedule_flush()

    def handle(self, events: list[Event]) -> None:
        """Hand out the session's events, then send what it has to send."""
        for event in events:
            match event:
                case Completed():
                    try:
                        event.pending.done(event.reply, event.error)
                    except Exception as error:  # noqa: BLE001 - one caller's fault must not keep the others waiting
                        self._report(error)
                case Fired():
                    if not self._session.is_over:
                        self._notify(event.watchers, event.event)
                case StateChanged():
                    self._set_timer()
                    self._notify(self._listeners, event.state)
                case Accepted():
                    self._authentication.begin()
                case DropConnection():
                    self._drop(event.reason)
        # Scheduled after the tasks that these events wake, so that requests of these tasks leave in the same turn.
        self.schedule_flush()

    def _notify(self, listeners: Sequence[Callable[[_NewsT], None]], news: _NewsT) -> None:
        for listener in tuple(listeners):
            try:
                listener(news)
            except Exception as error:  # noqa: BLE001 - one listener's fault must not keep the news from the others
                self._report(error)

    def _report(self, error: Exception) -> None:
        if isinstance(error, errors.SessionExpired):
            return  # a listener sent a request although the session is over; it is told of the end like all others
        self._loop.call_exception_handler({"message": "a ZooKeeper listener failed", "exception": error})

    def _drop(self, reason: str) -> None:
        if self._link is not None:
            self._drop_reason = self._drop_reason or reason
            self._link.abort()

    # --- time ----------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Set the timer to the session's next tick. One that fires too early costs less than moving it."""
        when = self._session.next_tick()
        if self._timer is not None:
            if when is not None and self._timer_at <= when:
                return
            self._timer.cancel()
            self._timer = None
        if when is not None:
            # At least a millisecond, so that rounding never makes this spin.
            self._timer_at = when
            self._timer = self._loop.call_later(max(when - self._clock(), 0.001), self._handle_timer)

    def _handle_timer(self) -> None:
        # After a stall the socket may hold data that arrived in time: a timer of the next turn runs after these reads.
        self._timer = self._loop.call_later(0, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        events = self._session.tick(now)
        if not events and self._link is not None and self._link.transport is not None:
            ping = self._session.take_ping(now)
            if ping:
                self._link.transport.write(ping)
        self.handle(events)
        self._set_timer()

    # --- the round over the servers --------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        for address in itertools.cycle(self._addresses):
            was_of_use = await self._attempt(address)
            # A TCP connection alone does not reset the backoff, because a server without quorum accepts and closes; nor
            # does the handshake, because a server may refuse everything that follows it.
            failures = 0 if was_of_use else failures + 1
            if not self._session.is_over:
                await asyncio.sleep(self._backoff(failures))
            if self._session.is_over:
                return

    def _handle_run_ended(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None or (task.cancelled() and task.cancelling()):  # `stop` cancels it
            return
        # A fault of this module; no caller may wait for ever because of it.
        self._loop.call_exception_handler({"message": "a ZooKeeper connection failed", "exception": error})
        self.handle(self._session.abandon())

    def _backoff(self, failures: int) -> float:
        """Return the seconds before the next attempt, with jitter: short at first, at most a tenth of the timeout."""
        rounds = failures // len(self._addresses)
        ceiling = min(1.0, self._session.timeout / 10, 0.02 * 2.0 ** min(rounds, 10))
        return self._rng.uniform(0.2, 1.0) * ceiling

    async def _attempt(self, address: Address) -> bool:
        """Run one connection from its start to its end. Return whether anything was answered on it."""
        self._address = address
        link = await self._connect(address)
        error = None if link is None else await link.lost
        self._authentication.stop()
        was_attached = self._session.state is SessionState.CONNECTED
        was_of_use = self._session.was_answered
        if was_attached:
            self._logged.clear()
            self.says_faults = True
        if self._link is not None:
            refusal = explain_end(error, self._tls)
            reason = refusal or str(self._drop_reason or error or _CLOSED[was_attached])
            self._note_fault(f"{address}: {reason}", explains_itself=bool(refusal) or reason.endswith(IT_IS_TLS))
            self._link = None
            self.handle(self._session.connection_lost(self._clock()))
        else:
            self.handle(self._session.tick(self._clock()))
        if was_attached and not self._session.is_over:
            _log.info("a ZooKeeper connection was lost: %s", self.last_fault)
        return was_of_use

    async def _connect(self, address: Address) -> _Link | None:
        try:
            await self._authentication.prepare(address)
            return await dial(address, self._tls, lambda: _Link(self), self._dial_limit, self._rng)
        except errors.CredentialUnavailable as fault:
            self._note_fault(str(fault), explains_itself=True)
        except Unreachable as fault:
            self._note_fault(f"{address}: {fault}", explains_itself=fault.is_tls)
        except errors.InvalidTls as fault:  # a file that could be read when the session began
            self._note_fault(str(fault), explains_itself=True)
        return None

    def _note_fault(self, fault: str, *, explains_itself: bool = False) -> None:
        """Note why no server is connected. One that explains itself is logged once: it may last until an
        operator acts."""
        if explains_itself and fault not in self._logged and self.says_faults and not self._session.is_over:
            self._logged.add(fault)
            _log.warning("no connection with ZooKeeper: %s; trying again", fault)
        self.last_fault = fault
        self.advice = "" if explains_itself else IS_IT_RUNNING

    @property
    def _dial_limit(self) -> float:
        return max(self._session.timeout / len(self._addresses) / 2, 0.1)

    # --- the sessions before this one ------------------------------------------------------------------------------

    def close_predecessors(self, predecessors: Predecessors) -> None:
        """Start to close them in the background, through the server of the present connection."""
        if predecessors and (self._closing is None or self._closing.done()):
            self._closing = self._loop.create_task(
                predecessors.close(
                    self._dial_again,
                    self._session.timeout,
                    self._authenticate_again if self._authentication.is_wanted else None,
                ),
                name="zookeeper-predecessors",
            )

    async def _authenticate_again(self, closer: SessionCloser) -> None:
        assert self._address is not None
        await self._authentication.authenticate(self._address, closer.request)

    async def _dial_again(self, factory: Callable[[], SessionCloser]) -> SessionCloser:
        assert self._address is not None
        return await dial(self._address, self._tls, factory, self._dial_limit, self._rng)

    async def stop(self) -> None:
        """End the task and the socket. The session has to be over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._link is not None:
            self._link.abort()
        self._authentication.stop()
        tasks = [self._task] if self._closing is None else [self._task, self._closing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
