"""The shell around a session: the socket, the timers, the round over the servers.

Requests of one event-loop turn leave in one send. Events are handed out in the order of the wire, synchronously, so
that whoever listens sees a change before the reply that shows it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.connect_string import Address
from herdmaster.zookeeper.client.session import (
    Completed,
    DropConnection,
    Event,
    Fired,
    Pending,
    Session,
    StateChanged,
)
from herdmaster.zookeeper.model import SessionState

_log = logging.getLogger("herdmaster.zookeeper")

Clock = Callable[[], float]
StateListener = Callable[[SessionState], None]


def boot_clock() -> float:
    """Seconds that never go back and that run on while the machine sleeps: a session expires meanwhile, too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class _Link(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, owner: Connection) -> None:
        self._owner = owner
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._owner.handle_connected(self)

    def data_received(self, data: bytes) -> None:
        self._owner.handle_data(self, data)

    def pause_writing(self) -> None:
        self._owner.handle_writable(self, writable=False)

    def resume_writing(self) -> None:
        self._owner.handle_writable(self, writable=True)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


class Connection:
    """Keeps a session connected until it is over. `clock` and `rng` are parameters so that a simulation owns them."""

    def __init__(self, session: Session, addresses: tuple[Address, ...], *, clock: Clock, rng: random.Random) -> None:
        self._session = session
        self._clock = clock
        self._rng = rng
        self._addresses = list(addresses)
        rng.shuffle(self._addresses)  # clients spread over the servers
        self._link: _Link | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._flush_scheduled = False
        self._listeners: list[StateListener] = []
        self._task = self._loop.create_task(self._run(), name="zookeeper-connection")
        self.last_fault = "no server has been tried yet"

    def add_listener(self, listener: StateListener) -> None:
        self._listeners.append(listener)

    def remove_listener(self, listener: StateListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    # --- out -----------------------------------------------------------------------------------------------------

    def send(self, pending: Pending) -> None:
        """Raises the session's final error when it is over."""
        self._session.enqueue(pending)
        self.schedule_flush()

    def schedule_flush(self) -> None:
        if not self._flush_scheduled and self._session.has_output:
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
        self._link = link
        self._session.paused = False
        self._session.connection_made(self._clock())
        self._flush()
        self._set_timer()

    def handle_data(self, link: _Link, data: bytes) -> None:
        if link is self._link:
            self._handle(self._session.receive(data, self._clock()))
            self.schedule_flush()

    def handle_writable(self, link: _Link, *, writable: bool) -> None:
        if link is self._link:
            self._session.paused = not writable
            self.schedule_flush()

    def handle(self, events: list[Event]) -> None:
        """What the session decided outside of a connection's own events, such as a close."""
        self._handle(events)
        self.schedule_flush()

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            try:
                self._handle_one(event)
            except errors.SessionExpired:
                continue  # a listener wanted to go on although the session is over; it learns of the end like all others
            except Exception as error:  # noqa: BLE001 - a listener's fault must not take the connection down
                self._loop.call_exception_handler({"message": "a ZooKeeper listener failed", "exception": error})
        if events:
            self._set_timer()

    def _handle_one(self, event: Event) -> None:
        match event:
            case Fired():
                if not self._session.state.is_final:
                    for watcher in event.watchers:
                        watcher(event.event)
            case Completed():
                event.pending.done(event.reply, event.error)
            case StateChanged(state):
                self._set_timer()
                for listener in tuple(self._listeners):
                    listener(state)
            case DropConnection(reason):
                self._drop(reason)

    def _drop(self, reason: str) -> None:
        self.last_fault = reason
        if self._link is not None and self._link.transport is not None:
            # Not close(): what the socket still holds must not wait for a peer that may be gone.
            self._link.transport.abort()

    # --- time ----------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        when = self._session.next_tick()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            # At least a millisecond, so that rounding never makes this spin.
            self._timer = self._loop.call_later(max(when - self._clock(), 0.001), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        ping = self._session.take_ping(now)
        if ping and self._link is not None and self._link.transport is not None:
            self._link.transport.write(ping)
        self._handle(self._session.tick(now))
        self._set_timer()

    # --- the round over the servers --------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        while not self._session.state.is_final:
            address = self._addresses[attempt % len(self._addresses)]
            attempt += 1
            link = await self._connect(address)
            if link is not None:
                await link.lost
                attached = self._session.state is SessionState.CONNECTED
                if self._link is link:
                    self._link = None
                self._handle(self._session.connection_lost(self._clock()))
                if attached:
                    # Only a completed handshake resets the backoff: a server without quorum accepts TCP and closes.
                    attempt = 0 if len(self._addresses) == 1 else attempt % len(self._addresses)
                    if not self._session.state.is_final:
                        _log.info("the connection to %s was lost: %s", address, self.last_fault)
            if not self._session.state.is_final:
                await asyncio.sleep(self._backoff(attempt))

    def _backoff(self, attempt: int) -> float:
        """Seconds before the next attempt, with full jitter: short at first, at most a tenth of the timeout."""
        rounds = attempt // len(self._addresses)
        ceiling = min(1.0, self._session.timeout / 10, 0.02 * 2.0 ** min(rounds, 10))
        return self._rng.uniform(0.2, 1.0) * ceiling

    async def _connect(self, address: Address) -> _Link | None:
        limit = max(self._session.timeout / len(self._addresses) / 2, 0.1)
        try:
            async with asyncio.timeout(limit):
                _, link = await self._loop.create_connection(lambda: _Link(self), address.host, address.port)
        except (OSError, TimeoutError) as error:
            self.last_fault = f"{address}: {str(error) or 'no answer in time'}"
            self._handle(self._session.tick(self._clock()))
            return None
        return link

    async def stop(self) -> None:
        """Ends the loop and the socket; the session has to be over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._link is not None and self._link.transport is not None:
            self._link.transport.abort()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
