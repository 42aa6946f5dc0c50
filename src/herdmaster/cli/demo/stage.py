"""What the demo starts: a ZooKeeper, or a namespace on a running one, and the roles as processes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from herdmaster.api.security import environment_security
from herdmaster.cli.failures import Failed
from herdmaster.testing.child import WatchedChild
from herdmaster.testing.ports import LOOPBACK, free_ports
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, parse_connect_string
from herdmaster.zookeeper.paths import join

APP: Final = "herdmaster.cli.demo.app"
CONNECT_TIMEOUT: Final = 10.0
_STOP_SECONDS: Final = 10.0
_PORTS_TO_TRY: Final = 3
_LOG_TAIL: Final = 2000


@contextlib.contextmanager
def own_zookeeper() -> Iterator[str]:
    """Run an embedded server in a separate process, and yield its connect string. Raises Failed."""
    with tempfile.TemporaryDirectory(prefix="herd-demo-", ignore_cleanup_errors=True) as folder:
        server, hosts = _start_server(Path(folder))
        try:
            yield hosts
        finally:
            server.stop()


def _start_server(folder: Path) -> tuple[Actor, str]:
    log = ""
    for port in free_ports(_PORTS_TO_TRY):  # each was free a moment ago
        server = Actor("zookeeper", ["zookeeper", f"--port={port}"], folder)
        hosts = f"{LOOPBACK}:{port}"
        try:
            asyncio.run(_wait_serving(server, hosts))
        except errors.ZooKeeperError:
            server.stop()
            log = server.log_tail()
        except BaseException:
            server.stop()
            raise
        else:
            return server, hosts
    raise Failed(f"the embedded ZooKeeper did not start:\n{log}", "herd demo")


async def _wait_serving(server: Actor, hosts: str) -> None:
    """Raises NoServerReachable."""
    client = Client(hosts, connect_timeout=CONNECT_TIMEOUT, security=environment_security())
    opening = asyncio.ensure_future(client.open())
    while not opening.done() and not server.ended_by_itself:
        await asyncio.wait((opening,), timeout=0.1)
    if server.ended_by_itself:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        raise errors.NoServerReachable(f"the server on {hosts} ended by itself")
    await opening
    await client.close()


@contextlib.contextmanager
def own_namespace(hosts: str) -> Iterator[str]:
    """A namespace of the demo's own on a running ensemble, removed at the end. Raises InvalidConnectString,
    NoServerReachable."""
    given = parse_connect_string(hosts)
    path = f"/herd-demo-{uuid.uuid4().hex[:12]}"
    asyncio.run(_check_reachable(hosts))
    try:
        yield f"{given}{path}"
    except BaseException:
        with contextlib.suppress(errors.ZooKeeperError):  # the first error tells more
            asyncio.run(_remove(hosts, path))
        raise
    asyncio.run(_remove(hosts, path))


async def _check_reachable(hosts: str) -> None:
    async with Client(hosts, connect_timeout=CONNECT_TIMEOUT, security=environment_security()):
        pass


async def _remove(hosts: str, path: str) -> None:
    async with Client(hosts, connect_timeout=CONNECT_TIMEOUT, security=environment_security()) as client:
        await remove_tree(client, path)


async def remove_tree(client: Client, path: str) -> None:
    """Deletes a znode and all below it, whatever comes and goes meanwhile."""
    while True:
        try:
            for name in await client.children(path):
                await remove_tree(client, join(path, name))
            await client.delete(path)
        except (errors.NotEmpty, errors.ConnectionLoss):
            continue
        except errors.NoNode:
            return
        return


class Actor:
    """A role in a separate process."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name.replace(' ', '-')}.log"
        command = [sys.executable, "-m", "herdmaster", *arguments]
        self._child = WatchedChild(command, log=self._log, remove=folder)
        self.was_killed = False

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def ended_by_itself(self) -> bool:
        return not self.was_killed and not self._child.is_running

    def kill(self) -> None:
        self.was_killed = True
        self._child.kill()

    def stop(self) -> None:
        self._child.terminate(_STOP_SECONDS)

    def log_tail(self) -> str:
        return self._log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")


class Stage:
    """Two masters and two workers; all are stopped in good order at the end, and die with this process in any case."""

    def __init__(self, hosts: str, session_timeout: float) -> None:
        self._hosts = hosts
        self._common = [f"--session-timeout={session_timeout}", "--log-level=info"]
        self._folder = tempfile.TemporaryDirectory(prefix="herd-demo-", ignore_cleanup_errors=True)
        self.masters: list[Actor] = []
        self.workers: list[Actor] = []

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        try:
            for number in (1, 2):
                self.masters.append(Actor(f"master {number}", ["master", self._hosts, *self._common], folder))
            for number in (1, 2):
                arguments = ["worker", self._hosts, f"--app={APP}", *self._common]
                self.workers.append(Actor(f"worker {number}", arguments, folder))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def actors(self) -> list[Actor]:
        return [*self.masters, *self.workers]

    def close(self) -> None:
        # Workers first: they hand back to a primary what they have not begun.
        for actors in (self.workers, self.masters):
            with ThreadPoolExecutor(max(len(actors), 1)) as threads:
                list(threads.map(Actor.stop, actors))
        self._folder.cleanup()

    def check(self) -> None:
        """Raises Failed if something ended that was not told to."""
        for actor in self.actors:
            if actor.ended_by_itself:
                raise Failed(f"{actor.name} ended by itself. Its last lines:\n{actor.log_tail()}", "herd demo")

    def log_tails(self) -> str:
        return "\n".join(f"--- {actor.name} ---\n{actor.log_tail()}" for actor in self.actors)
