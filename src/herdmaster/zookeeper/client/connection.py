"""The shell around a session: the socket, the timers, the round over the servers.

Requests of one event-loop turn leave in one send. Events are handed out in the order of the wire, synchronously, so
that a listener sees a change before the reply that shows it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar, cast

from herdmaster import forks
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.connect_string import Address
from herdmaster.zookeeper.client.dialing import Unreachable, dial
from herdmaster.zookeeper.client.predecessors import Predecessors, SessionCloser
from herdmaster.zookeeper.client.requests import Completed, DropConnection, Event, Fired, Pending, StateChanged
from herdmaster.zookeeper.client.session import Session
from herdmaster.zookeeper.model import SessionState, WatchEvent

_log = logging.getLogger("herdmaster.zookeeper")

_NewsT = TypeVar("_NewsT", SessionState, WatchEvent)

Clock = Callable[[], float]
StateListener = Callable[[SessionState], None]

_READ_SIZE = 64 * 1024


def boot_clock() -> float:
    """Seconds that never go back and that run on while the machine sleeps: a session expires meanwhile, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class _Link(asyncio.Protocol, asyncio.BufferedProtocol):
    """One TCP connection. Where the loop can (asyncio.BufferedProtocol), it reads into a buffer that stays: for every
    other read it asks the system for 256 KiB and gives them back, which costs more than what is done with the data."""

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
        # A server that ends its half is done with us; a plain close would first wait for what is still to be written.
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
        """Closes at once: what the socket still holds must not wait for a peer that may be gone."""
        if self.transport is not None:
            self.transport.abort()


class Connection:
    """Keeps a session connected until it is over. `clock` and `rng` are parameters so that a simulation owns them."""

    def __init__(self, session: Session, addresses: tuple[Address, ...], *, clock: Clock, rng: random.Random) -> None:
        self._session = session
        self._clock = clock
        self._rng = rng
        self._addresses = list(addresses)
        rng.shuffle(self._addresses)  # clients spread over the servers
        self._link: _Link | None = None
        self._drop_reason: str | None = None  # why this side closed the present link
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._flush_scheduled = False
        self._listeners: list[StateListener] = []
        self._address: Address | None = None  # of the newest attempt
        self._closing: asyncio.Task[None] | None = None
        self.last_fault = "no server has been tried yet"
        self._task = self._loop.create_task(self._run(), name="zookeeper-connection")
        self._task.add_done_callback(self._handle_run_ended)

    def add_listener(self, listener: StateListener) -> None:
        self._listeners.append(listener)

    def remove_listener(self, listener: StateListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    # --- out -----------------------------------------------------------------------------------------------------

    def send(self, pending: Pending) -> None:
        """Raises the session's final error when it is over."""
        self._session.enqueue(pending)
        if not self._flush_scheduled:
            self.schedule_flush()

    def schedule_flush(self) -> None:
        """What is said until then leaves in one send."""
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
        if self._link is not None:  # an attempt that was given up in the moment in which it succeeded
            self._link = None
            self.handle(self._session.connection_lost(self._clock()))
        if self._session.is_over:
            link.abort()  # to attach now would keep alive on the server what is over here
            return
        self._link = link
        self._drop_reason = None
        self._session.paused = False
        self._session.connection_made(self._clock())
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
        """Hands out what the session decided, and sends what it has to say."""
        for event in events:
            match event:
                case Completed():
                    try:
                        event.pending.done(event.reply, event.error)
                    except Exception as error:  # noqa: BLE001 - one caller's fault must not keep the others waiting
                        self._report(error)
                case Fired():
                    if not self._session.is_over:
                        self._tell(event.watchers, event.event)
                case StateChanged():
                    self._set_timer()
                    self._tell(self._listeners, event.state)
                case DropConnection():
                    self._drop(event.reason)
        # After the tasks that these events wake in the next turn: what they have to say leaves in that turn.
        self.schedule_flush()

    def _tell(self, listeners: list[Callable[[_NewsT], None]], news: _NewsT) -> None:
        for listener in tuple(listeners):
            try:
                listener(news)
            except Exception as error:  # noqa: BLE001 - one listener's fault must not keep the news from the others
                self._report(error)

    def _report(self, error: Exception) -> None:
        if isinstance(error, errors.SessionExpired):
            return  # a listener wanted to go on although the session is over; it learns of the end like all others
        self._loop.call_exception_handler({"message": "a ZooKeeper listener failed", "exception": error})

    def _drop(self, reason: str) -> None:
        if self._link is not None:
            self._drop_reason = self._drop_reason or reason
            self._link.abort()

    # --- time ----------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Sees to it that the session is asked in time. A timer that proves too early costs less than moving it."""
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
        # After a stall the socket may hold what was sent in time: a timer of the next turn comes after its reads.
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
            # Not the TCP connection resets the backoff, for a server without quorum accepts and closes; and not the
            # handshake alone, for a server may refuse whatever follows it.
            failures = 0 if was_of_use else failures + 1
            if not self._session.is_over:
                await asyncio.sleep(self._backoff(failures))
            if self._session.is_over:
                return

    def _handle_run_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        # A fault of this module, but no caller may wait for ever because of it.
        self._loop.call_exception_handler({"message": "a ZooKeeper connection failed", "exception": task.exception()})
        self.handle(self._session.abandon())

    def _backoff(self, failures: int) -> float:
        """Seconds before the next attempt, with jitter: short at first, at most a tenth of the timeout."""
        rounds = failures // len(self._addresses)
        ceiling = min(1.0, self._session.timeout / 10, 0.02 * 2.0 ** min(rounds, 10))
        return self._rng.uniform(0.2, 1.0) * ceiling

    async def _attempt(self, address: Address) -> bool:
        """One connection from its start to its end. Returns whether anything was answered on it."""
        self._address = address
        link = await self._connect(address)
        error = None if link is None else await link.lost
        was_attached = self._session.state is SessionState.CONNECTED
        was_of_use = self._session.was_answered
        if self._link is not None:
            self.last_fault = f"{address}: {self._drop_reason or error or 'the server closed the connection'}"
            self._link = None
            self.handle(self._session.connection_lost(self._clock()))
        else:
            self.handle(self._session.tick(self._clock()))
        if was_attached and not self._session.is_over:
            _log.info("a ZooKeeper connection was lost: %s", self.last_fault)
        return was_of_use

    async def _connect(self, address: Address) -> _Link | None:
        try:
            return await dial(address, lambda: _Link(self), self._dial_limit, self._rng)
        except Unreachable as fault:
            self.last_fault = f"{address}: {fault}"
            return None

    @property
    def _dial_limit(self) -> float:
        return max(self._session.timeout / len(self._addresses) / 2, 0.1)

    # --- the sessions before this one ------------------------------------------------------------------------------

    def close_predecessors(self, predecessors: Predecessors) -> None:
        """Starts to close them, beside this session, by the server that it is connected to."""
        if predecessors and (self._closing is None or self._closing.done()):
            self._closing = self._loop.create_task(
                predecessors.close(self._dial_again, self._session.timeout), name="zookeeper-predecessors"
            )

    async def _dial_again(self, factory: Callable[[], SessionCloser]) -> SessionCloser:
        assert self._address is not None
        return await dial(self._address, factory, self._dial_limit, self._rng)

    async def stop(self) -> None:
        """Ends the loop and the socket; the session has to be over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._link is not None:
            self._link.abort()
        tasks = [self._task] if self._closing is None else [self._task, self._closing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
