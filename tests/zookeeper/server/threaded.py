"""The embedded server in a thread of its own, for blocking clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from herdmaster.zookeeper.server import EmbeddedServer
from tests.zookeeper.server.wire import Wire

T = TypeVar("T")

_PATIENCE = 20.0


class ServerThread:
    """Runs a server's event loop; `run` executes something there."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedded-server")
        self._wires: list[Wire] = []

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for wire in self._wires:
                wire.close()
            self.stop()
        finally:
            self._end()

    def wire(self) -> Wire:
        """A connection that has said nothing; closed at the end."""
        self._wires.append(Wire(self.port))
        return self._wires[-1]

    def attach(self, timeout: int = 10_000) -> Wire:
        """A connection with a new session; closed at the end."""
        wire = self.wire()
        assert wire.handshake(timeout).session_id
        return wire

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def hosts(self) -> str:
        return self.server.hosts

    def start(self) -> None:
        self.wait(self.server.start)

    def stop(self) -> None:
        self.wait(self.server.stop)

    def wait(self, make: Callable[[], Awaitable[T]]) -> T:
        """The result of a coroutine in the server's loop."""

        async def run() -> T:
            return await make()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_PATIENCE)

    def run(self, action: Callable[[], T]) -> T:
        """The result of a call in the server's loop."""

        async def call() -> T:
            return action()

        return self.wait(call)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in 20 s"
        time.sleep(0.005)
