"""`herd zookeeper` and `herd dev`: the embedded server, alone or with a master and a worker in one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from herdmaster.roles.lifecycle import Role
from herdmaster.zookeeper.server import EmbeddedServer

_log = logging.getLogger("herdmaster.zookeeper")

TICK_MS = 100
MIN_SESSION_TIMEOUT_MS = 1000
MAX_SESSION_TIMEOUT_MS = 60_000


class ServerProcess:
    """The embedded server as something that `run_until_stopped` can run."""

    kind = "zookeeper"

    def __init__(self, host: str, port: int, data_dir: str | None) -> None:
        self._server = EmbeddedServer(
            host=host,
            port=port,
            data_dir=data_dir,
            tick_time=TICK_MS,
            min_session_timeout=MIN_SESSION_TIMEOUT_MS,
            max_session_timeout=MAX_SESSION_TIMEOUT_MS,
        )
        self._data_dir = data_dir
        self._stopping = asyncio.Event()

    @property
    def hosts(self) -> str:
        return self._server.hosts

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    async def start(self) -> None:
        """Raises OSError where the port is taken, JournalError where the data directory is damaged or in use."""
        await self._server.start()
        kept = f"data in {self._data_dir}" if self._data_dir else "in memory: everything is forgotten when it stops"
        _log.info("serving on %s, %s; for development, production belongs on Apache ZooKeeper", self.hosts, kept)

    async def run(self) -> None:
        """Raises JournalError when the disk fails."""
        await self.start()
        await self.serve()

    async def serve(self) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        failing = asyncio.ensure_future(self._server.wait_stopped())
        try:
            await asyncio.wait((stopping, failing), return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
        finally:
            for waiting in (stopping, failing):
                waiting.cancel()
            await asyncio.gather(stopping, failing, return_exceptions=True)
            await self._server.stop()


class Development:
    """Server, master and worker on one event loop. The roles end before the server does."""

    kind = "dev"

    def __init__(self, server: ServerProcess, make_roles: Callable[[str], list[Role]]) -> None:
        self._server = server
        self._make_roles = make_roles
        self._stopping = asyncio.Event()

    @property
    def hosts(self) -> str:
        return self._server.hosts

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Raises what starting the server raises."""
        await self._server.start()
        serving = asyncio.ensure_future(self._server.serve())
        roles = self._make_roles(self.hosts)
        running = [asyncio.ensure_future(role.run()) for role in roles]
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((serving, stopping, *running), return_when=asyncio.FIRST_COMPLETED)
            for role, ending in zip(roles, running, strict=True):
                role.stop()
                await ending
            self._server.stop()
            await serving
        finally:
            rest = (serving, stopping, *running)
            for each in rest:
                each.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
