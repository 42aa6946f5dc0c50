"""Drives one machine from an event loop: input of the links, one round of output per turn, the ticks of the clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from herdmaster.zookeeper.model import Id
from herdmaster.zookeeper.server.clock import Clock
from herdmaster.zookeeper.server.commits import Commits, Output
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.link import Link
from herdmaster.zookeeper.server.machine import Machine

_MILLISECONDS: Final = 1000


class Hub:
    """The links of one machine. `commits` is None if there is no journal; `connections_per_host` 0 means no limit."""

    def __init__(
        self, machine: Machine, clock: Clock, loop: asyncio.AbstractEventLoop, connections_per_host: int
    ) -> None:
        self.machine = machine
        self.commits: Commits | None = None
        self._clock = clock
        self._loop = loop
        self._limit = connections_per_host
        self._links: dict[Connection, Link] = {}
        self._hosts: Counter[str] = Counter()
        self._waiting: dict[Link, None] = {}
        self._received = 0
        self._turn: asyncio.Handle | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._is_late = False
        self._is_stopping = False
        self._release: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        self._is_stopped = False
        self._schedule_tick()

    # --- links -------------------------------------------------------------------------------------------------------

    def attach(self, link: Link, host: str, port: int, identities: Sequence[Id]) -> Connection | None:
        if self._is_stopped or (self._limit and self._hosts[host] >= self._limit):
            return None
        self._hosts[host] += 1
        connection = self.machine.connect(host, port, self._clock.now(), identities)
        self._links[connection] = link
        return connection

    def receive(self, link: Link, data: bytes) -> None:
        if self._is_stopping:
            return
        self._received += len(data)
        self.machine.receive(link.connection, data, self._clock.now(), handle=self._may_handle(link))
        if link.connection.backlog:
            self._waiting[link] = None
            link.read_on(False)
        self.wake()

    def end(self, link: Link) -> None:
        if self._is_stopping:
            return
        self.machine.end(link.connection, self._clock.now())
        if link.connection.backlog:
            self._waiting[link] = None
        self.wake()

    def detach(self, link: Link) -> None:
        connection = link.connection
        self.machine.disconnect(connection)
        self._links.pop(connection, None)
        self._waiting.pop(link, None)
        if self._emptied is not None and not self._links:
            self._emptied.set()
        self._hosts[connection.host] -= 1
        if not self._hosts[connection.host]:
            del self._hosts[connection.host]

    # --- turns -------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Run a turn in the next turn of the loop: there is something to send, or something that waits may go on."""
        if self._turn is None and not self._is_stopping:
            self._turn = self._loop.call_soon(self.run_turn)

    def run_turn(self) -> None:
        """Send the output of every connection, then go on with requests that wait."""
        self._turn = None
        outputs = []
        for connection in self.machine.take_output():
            arrivals = connection.take_arrivals()
            data = b"".join(connection.take())
            link = self._links.get(connection)
            if link is not None:
                link.undelivered += len(data)
                outputs.append(Output(link, data, connection.is_closed, arrivals))
        if self.commits is None:
            self.deliver(outputs)
        else:
            self.commits.submit(outputs, self.machine.take_recorded(), self._received)
        self._received = 0
        self._resume_waiting()
        self._schedule_release()

    def deliver(self, outputs: Sequence[Output]) -> None:
        now = self._clock.now()
        for link, data, close, arrivals in outputs:
            link.undelivered -= len(data)
            link.deliver(data, close=close)
            self.machine.note_delivered(link.connection, arrivals, now)

    def _resume_waiting(self) -> None:
        for link in list(self._waiting):
            if not self._may_handle(link):
                continue
            self.machine.resume(link.connection, self._clock.now())
            self.wake()
            if not link.connection.backlog:
                del self._waiting[link]
                link.read_on(True)

    def _may_handle(self, link: Link) -> bool:
        return not link.is_blocked and (self.commits is None or not self.commits.is_full)

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        self.machine.tick(self._clock.now())
        self.wake()

    def _schedule_tick(self) -> None:
        seconds = self.machine.settings.tick / _MILLISECONDS
        self._ticker = self._loop.call_later(seconds, self._run_tick, self._loop.time() + 2 * seconds)

    def _run_tick(self, deadline: float) -> None:
        """Tick. After a stall of the whole process no session is expired before one more tick: clients in this very
        process could not send a sign of life either."""
        was_late, self._is_late = self._is_late, self._loop.time() > deadline
        if was_late or not self._is_late:
            self.tick()
        self._schedule_tick()

    def _schedule_release(self) -> None:
        """Send what a fault holds back when it is due, not with the next tick."""
        due = self.machine.next_release()
        if due is not None and self._release is None and not self._is_stopping:
            wait = max(0, due - self._clock.now().monotonic) / _MILLISECONDS
            self._release = self._loop.call_later(wait, self._run_release)

    def _run_release(self) -> None:
        self._release = None
        self.tick()

    def on_each(self, action: Callable[[Link], None]) -> None:
        for link in list(self._links.values()):
            action(link)

    async def wait_empty(self) -> None:
        """Wait until every link is closed."""
        if self._links:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    def stop(self) -> None:
        """Handle nothing any more, whatever clients send; `run_turn` still delivers the answers that exist."""
        self._is_stopping = True
        for timer in (self._ticker, self._release, self._turn):
            if timer is not None:
                timer.cancel()
        self._waiting.clear()
        self.on_each(lambda link: link.read_on(False))
