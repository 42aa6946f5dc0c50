"""The processes: three servers, two masters, four workers and three clients, on loopback."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from chaos.actor import Actor
from chaos.links import Network, Route
from chaos.records import EXECUTIONS
from chaos.remains import Lookout, Scene
from chaos.transactions import TransactionLogs
from herdmaster.testing.apache import QUICK_START, ApacheEnsemble, ApacheZooKeeper

T = TypeVar("T")

SERVERS: Final = 3
MASTERS: Final = 2
WORKERS: Final = 4
CLIENTS: Final = 3
SLOTS: Final = 8
NAMESPACE: Final = "/chaos"
TICK_MS: Final = 200
_JAVA: Final = (*QUICK_START, "-Dzookeeper.preAllocSize=2048")  # KiB: a small log for a small disk
_START_SECONDS: Final = 60.0
_POLL: Final = 0.1
_FOLLOWERS_PATIENCE: Final = 5.0  # what ZooKeeper's own takes to give up, about


class Stuck(Exception):
    """Something did not happen in time. The message has the reason and the last log lines of the roles."""


class Cast:
    """All processes and their links. They end with the `with` block, and in any case with this process."""

    def __init__(self, *, session_timeout: float, rate: float) -> None:
        self.session_timeout = session_timeout
        self.rate = rate  # tasks per second and client
        self.clients_killed = 0
        self._stack = ExitStack()
        self._network = Network()
        self._between_servers: dict[tuple[int, int], Route] = {}
        self.ensemble = ApacheEnsemble(SERVERS, tick_time=TICK_MS, java_options=_JAVA, reroute=self._reroute)
        self.masters: list[Actor] = []
        self.workers: list[Actor] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="herdmaster-chaos-", ignore_cleanup_errors=True)
            self.folder = Path(stack.enter_context(folder))
            os.environ[EXECUTIONS] = str(self.executions)
            stack.enter_context(self._network)
            stack.enter_context(self.ensemble)
            self.logs = TransactionLogs([member.data_dir for member in self.servers])
            self.lookout = Lookout([member.hosts + NAMESPACE for member in self.servers])
            stack.callback(self._end)
            self.masters = [self._role(f"master {number}", "master") for number in range(1, MASTERS + 1)]
            options = ("--app=chaos.app", f"--slots={SLOTS}")
            self.workers = [self._role(f"worker {number}", "worker", *options) for number in range(1, WORKERS + 1)]
            for actor in self.roles:
                actor.start()
            self.wait_whole()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _end(self) -> None:
        # Killed: whatever they would still do in good order has been seen before.
        with ThreadPoolExecutor(MASTERS + WORKERS) as threads:
            list(threads.map(Actor.kill, self.roles))

    @property
    def servers(self) -> tuple[ApacheZooKeeper, ...]:
        return self.ensemble.members

    @property
    def roles(self) -> list[Actor]:
        return [*self.masters, *self.workers]

    @property
    def executions(self) -> Path:
        return self.folder / "executions.jsonl"

    def actor(self, name: str, *command: str) -> Actor:
        """Make a process with separate links. `{hosts}` in the command is its connect string."""
        route = self._network.open_links([member.port for member in self.servers])
        hosts = route.hosts + NAMESPACE
        words = [word.replace("{hosts}", hosts) for word in command]
        return Actor(name, route, [*words, f"--session-timeout={self.session_timeout}"], self.folder)

    def _reroute(self, server: int, other: int, port: int) -> int:
        route = self._between_servers[server, other] = self._network.open_links([port], patience=_FOLLOWERS_PATIENCE)
        return route.port

    def routes_of(self, server: ApacheZooKeeper) -> list[Route]:
        """Over which it follows another, or another follows it."""
        number = self.servers.index(server)
        return [route for ends, route in self._between_servers.items() if number in ends]

    def _role(self, name: str, verb: str, *options: str) -> Actor:
        return self.actor(name, "herdmaster", verb, "{hosts}", *options)

    @contextmanager
    def clients(self, scenario: str) -> Iterator[list[Actor]]:
        """Starts the clients of one scenario; those that still run at the end are killed."""
        clients = [self.client(f"{scenario} client {number}") for number in range(1, CLIENTS + 1)]
        try:
            for client in clients:
                client.start()
            yield clients
        finally:
            for client in clients:
                client.kill()

    def client(self, name: str, *options: str) -> Actor:
        record = f"--record={self.record(name)}"
        rate = f"--rate={self.rate}"
        return self.actor(name, "chaos.client", "{hosts}", f"--name={name.replace(' ', '-')}", record, rate, *options)

    def record(self, client: str) -> Path:
        return self.folder / f"{client.replace(' ', '-')}.jsonl"

    def start_without_data(self, server: ApacheZooKeeper) -> None:
        """It keeps its number, and takes the rest from the leader."""
        server.kill()
        shutil.rmtree(server.data_dir / "version-2")
        server.start()

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait_whole(self) -> Scene:
        """Returns when all servers serve, and all masters and workers are there."""
        return self.wait_for(self._whole, "the cast is not whole")

    def _whole(self) -> Scene | None:
        if not all(server.mode() for server in self.servers):
            return None
        scene = self.lookout.look()
        whole = scene is not None and (scene.masters, scene.workers) == (MASTERS, WORKERS) and scene.primary_pid
        return scene if whole else None

    def wait_for(self, find: Callable[[], T | None], otherwise: str, *, poll: float = _POLL) -> T:
        """What it finds. Raises Stuck when that takes too long, or a role ended by itself."""
        limit = time.monotonic() + _START_SECONDS
        while True:
            found = find()
            if found is not None and found is not False:
                return found
            self.check()
            if time.monotonic() > limit:
                raise Stuck(f"{otherwise} after {_START_SECONDS:.0f} s\n{self.log_tails()}")
            time.sleep(poll)

    def check(self) -> None:
        """Raises Stuck if a role ended that was not told to."""
        for actor in self.roles:
            if actor.ended_by_itself:
                raise Stuck(f"{actor.name} ended by itself\n{actor.log_tail()}")

    def log_tails(self) -> str:
        return "\n".join(actor.log_tail() for actor in self.roles)

    def primary(self) -> Actor:
        """The master that is primary now."""
        return self.wait_for(self._find_primary, "no master is primary")

    def _find_primary(self) -> Actor | None:
        scene = self.lookout.look()
        if scene is None:
            return None
        return next((each for each in self.masters if each.is_running and each.pid == scene.primary_pid), None)
