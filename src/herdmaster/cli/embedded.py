"""The processes of `herd zookeeper` and `herd dev`: an embedded server, alone or with a master and a worker."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

from herdmaster.api import fork_and_exit
from herdmaster.api.direction import Target
from herdmaster.errors import HerdError
from herdmaster.roles.shared.role import Role
from herdmaster.zookeeper.server import EmbeddedServer
from herdmaster.zookeeper.server.settings import Access
from herdmaster.zookeeper.tls import TLS

_log = logging.getLogger("herdmaster.zookeeper")

TICK_MS = 100
MIN_SESSION_TIMEOUT_MS = 1000
MAX_SESSION_TIMEOUT_MS = 60_000


class CannotListen(HerdError):
    """The address or the port is not available. The text says which of them to change. `option` chose the port."""

    def __init__(self, host: str, hosts: str, option: str, error: OSError | UnicodeError) -> None:
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.EADDRINUSE:
            text = f"cannot listen on {hosts}: another process uses the port; choose another with {option}"
        elif number in (errno.EACCES, errno.EPERM):
            text = f"cannot listen on {hosts}: not permitted; choose a port from 1024 with {option}"
        elif number == errno.EADDRNOTAVAIL or isinstance(error, (socket.gaierror, UnicodeError)):
            text = f"cannot listen on {host!r}: it is not a name or address of this machine; choose another with --host"
        else:
            text = f"cannot listen on {hosts}: {error}"
        super().__init__(text)


class ServerProcess:
    """The embedded server, for `run_until_stopped`."""

    kind = "zookeeper"

    def __init__(
        self,
        host: str,
        port: int,
        data_dir: str | None,
        tls: TLS | None = None,
        secure_port: int | None = None,
        *,
        access: Access | None = None,
    ) -> None:
        self._server = EmbeddedServer(
            host=host,
            port=port,
            tls=tls,
            secure_port=secure_port,
            # A task of `herd dev` may change the working directory.
            data_dir=None if data_dir is None else str(Path(data_dir).absolute()),
            tick_time=TICK_MS,
            min_session_timeout=MIN_SESSION_TIMEOUT_MS,
            max_session_timeout=MAX_SESSION_TIMEOUT_MS,
            access=access,
        )
        self._data_dir = data_dir
        self._tls = tls
        self._secure_port = secure_port
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
        """Start the server. Raises CannotListen, InvalidTls, JournalError if the data directory is damaged or used."""
        try:
            await self._server.start()
        except (OSError, UnicodeError) as error:  # UnicodeError: the name of the host is malformed
            if self._secure_port is not None and f":{self._secure_port}: " in str(error):
                raise CannotListen(self._server.host, self._server.secure_hosts, "--secure-port", error) from None
            raise CannotListen(self._server.host, self.hosts, "--port", error) from None
        kept = f"data in {self._data_dir}" if self._data_dir else "in memory: lost when it stops"
        advice = "this server is for development: production belongs on Apache ZooKeeper"
        _log.info("serving on %s, %s; %s", self._places(), kept, advice)

    def _places(self) -> str:
        if self._secure_port is not None:
            return f"{self.hosts}, and with TLS on {self._server.secure_hosts}"
        return self.hosts if self._tls is None else f"{self.hosts} with TLS"

    async def run(self) -> None:
        """Serve until `stop`. Raises what `start` raises, and JournalError if the disk fails."""
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
    """Server, master and worker on one event loop.

    The roles end before the server, and so do the sessions that tasks have opened.
    """

    kind = "dev"

    def __init__(
        self,
        server: ServerProcess,
        make_roles: Callable[[str], list[Role]],
        begin: Callable[[Role, Target], Coroutine[object, object, None]],
    ) -> None:
        """`begin` runs beside the roles, with the last of them and what they connect to."""
        self._server = server
        self._make_roles = make_roles
        self._begin = begin
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
        """Run until `stop`. Raises what the start of the server or of a role raises, and JournalError."""
        await self._server.start()
        serving = asyncio.ensure_future(self._server.serve())
        roles = self._make_roles(self.hosts)
        running = [asyncio.ensure_future(role.run()) for role in roles]
        stopping = asyncio.ensure_future(self._stopping.wait())
        beginning = asyncio.ensure_future(self._begin(roles[-1], Target(self.hosts)))
        try:
            await asyncio.wait((serving, stopping, *running), return_when=asyncio.FIRST_COMPLETED)
            beginning.cancel()
            for role, ending in zip(roles, running, strict=True):
                role.stop()
                await ending
            await asyncio.to_thread(fork_and_exit.close_all)
            self._server.stop()
            await serving
        finally:
            # Also after a second signal: the roles close their sessions while the server runs. Otherwise a data
            # directory would keep the sessions, and the next start would wait for their timeout.
            for rest in ((*running, stopping, beginning), (serving,)):
                for each in rest:
                    each.cancel()
                await asyncio.gather(*rest, return_exceptions=True)
