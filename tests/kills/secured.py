"""A closed namespace on an ensemble, in which every program has an identity: the play, and what must hold in it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Final, TypeVar

import msgspec

from herdmaster import Future, Herd
from herdmaster.core.access import Identity
from herdmaster.inspection.overview import Overview, OverviewReader
from herdmaster.zookeeper.client import Client, Security
from tests.begin_call import begin_call
from tests.cli.processes import HerdProcess, run_herd, wait_until
from tests.kills.ledger import Ledger

T = TypeVar("T")

APP: Final = "tests.kills.app"
SESSION_TIMEOUT: Final = 2.0
PATIENCE: Final = 60.0

_REFUSALS: Final = ("takes only clients that have authenticated", "NoAuth", "refused a client without a certificate")
"""What a program without credentials is told."""


class Credentials(msgspec.Struct, frozen=True):
    """One identity: `id` is that of the access policy, `options` are those of `herd`."""

    id: str
    options: tuple[str, ...]
    security: Security


def ask(hosts: str, security: Security, question: Callable[[Client], Awaitable[T]]) -> T:
    """Return the answer to a question in a session with these credentials."""

    async def ask() -> T:
        async with Client(hosts, connect_timeout=30.0, security=security) as client:
            return await question(client)

    return asyncio.run(ask())


def wait_for(hosts: str, security: Security, condition: Callable[[Overview], bool], seconds: float) -> Overview:
    """Return what a session with these credentials sees once it is so."""

    def find() -> Overview | None:
        seen = ask(hosts, security, lambda client: OverviewReader(client).look())
        return seen if condition(seen) else None

    return wait_until(find, "the namespace did not get there", seconds)


class SecuredCluster:
    """Two masters, two workers, a client and an observer. `hosts` ends with a namespace that does not exist yet,
    `anonymous` are the options of a program without credentials."""

    def __init__(
        self,
        hosts: str,
        scheme: str,
        credentials: Mapping[Identity, Credentials],
        stack: ExitStack,
        anonymous: tuple[str, ...] = (),
    ) -> None:
        self.hosts = hosts
        self._anonymous = anonymous
        self._credentials = credentials
        self._stack = stack
        ids = [part for each, known in credentials.items() for part in (f"--{each}", known.id)]
        created = self.run(Identity.MASTER, "access", "init", "--scheme", scheme, *ids)
        assert "is closed" in created, created
        self.masters = [self._start(Identity.MASTER, "master") for _ in range(2)]
        self.workers = [self._start(Identity.WORKER, "worker", f"--app={APP}", "--slots=4") for _ in range(2)]
        self.wait(lambda seen: len(seen.workers) == 2 and seen.primary is not None and len(seen.backups) == 1)
        security = credentials[Identity.CLIENT].security
        self.herd = stack.enter_context(Herd(hosts, session_timeout=4.0, tls=security.tls, auth=security.auth))
        self.futures: list[Future[int]] = []
        self.outcomes: list[str] = []

    def _start(self, identity: Identity, *arguments: str) -> HerdProcess:
        command, *rest = arguments
        timeout = f"--session-timeout={SESSION_TIMEOUT}"
        options = self._credentials[identity].options
        return self._stack.enter_context(HerdProcess(command, self.hosts, *rest, timeout, *options))

    def run(self, identity: Identity | None, *arguments: str, exit_code: int = 0) -> str:
        """What a command of `herd` printed that was run with these credentials, or with none."""
        options = self._anonymous if identity is None else self._credentials[identity].options
        done = run_herd(*arguments, "--zookeeper", self.hosts, "--connect-timeout", "20", *options)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, question: Callable[[Client], Awaitable[T]], identity: Identity = Identity.OBSERVER) -> T:
        """The answer to a question in a session of this identity."""
        return ask(self.hosts, self._credentials[identity].security, question)

    def wait(self, condition: Callable[[Overview], bool]) -> Overview:
        """What the observer sees once it is so."""
        return wait_for(self.hosts, self._credentials[Identity.OBSERVER].security, condition, PATIENCE)

    def submit(self, count: int, seconds: float) -> None:
        """Submits without waiting for each acceptance."""
        for number in range(len(self.futures), len(self.futures) + count):
            future: Future[int] = begin_call(self.herd, f"{APP}:nap", seconds, number)
            self.futures.append(future)
            future.add_done_callback(partial(self._note, future.name))

    def _note(self, name: str, _ended: object) -> None:
        self.outcomes.append(name)

    def kill_primary_and_worker(self) -> None:
        """Under load."""
        wait_until(lambda: len(self.outcomes) > 10, "no outcomes came", PATIENCE)
        seen = self.wait(lambda seen: seen.primary is not None and all(worker.assigned for worker in seen.workers))
        assert seen.primary is not None
        pid = seen.primary.pid
        primary = next(master for master in self.masters if master.pid == pid)
        for process in (primary, self.workers[0]):
            process.send(signal.SIGKILL)
        assert len(self.outcomes) < len(self.futures), "it was not under load any more"

    def wait_ended(self) -> None:
        """Each task has the result that is its own."""
        assert [future.result(timeout=PATIENCE) for future in self.futures] == list(range(len(self.futures)))

    def check_settled(self) -> None:
        """Nothing is left of the tasks, and each was told once."""
        wait_until(lambda: len(self.outcomes) >= len(self.futures), "a callback is missing")
        assert sorted(self.outcomes) == sorted(future.name for future in self.futures)
        seen = self.wait(
            lambda seen: seen.tasks.backlog == seen.tasks.assigned == seen.tasks.recovering == seen.tasks.ended == 0
        )
        assert [worker.pid for worker in seen.workers] == [self.workers[1].pid]
        assert seen.primary is not None
        assert seen.primary.pid in {master.pid for master in self.masters}

    def check_closed(self) -> None:
        """Every znode has the ACL of the policy, whatever was killed."""
        assert self.run(Identity.MASTER, "access", "check").startswith("as it should be: ")

    def check_forbidden(self) -> None:
        """An observer submits nothing, and a program without credentials sees nothing. Both are told why."""
        refused = self.run(Identity.OBSERVER, "submit", f"{APP}:nap", "0", "1", exit_code=1)
        assert "NoAuth" in refused, refused
        unknown = self.run(None, "status", exit_code=1)
        assert any(each in unknown for each in _REFUSALS), unknown


def play(cluster: SecuredCluster, ledger: Ledger) -> None:
    """Kill the primary and a worker under load. `ledger` has the security of an observer."""
    with ledger:
        cluster.submit(200, 0.05)
        cluster.kill_primary_and_worker()
        cluster.wait_ended()
        cluster.check_settled()
        ledger.check([future.name for future in cluster.futures])
    cluster.check_closed()
    cluster.check_forbidden()
