"""A closed namespace with signing keys, whose workers run flows beside one that does not know them."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from herdmaster import FlowFuture, FlowState, Herd, StepInfo, StepState
from herdmaster.core import layout
from herdmaster.core.access import POLICY, Identity
from herdmaster.inspection.overview import Overview
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from tests.cli.processes import HerdProcess, run_herd, wait_until
from tests.kills import flow_mix_app as app
from tests.kills.diary import BEGAN, ENDED, read
from tests.kills.secured import Credentials, ask, wait_for

T = TypeVar("T")

COUNT: Final = 60
"""Elements for each pool."""
MANY: Final = 20_000
"""Elements of the flow that is cancelled while its items are made."""
TTL: Final = 45.0
PATIENCE: Final = 150.0

_APP: Final = "--app=tests.kills.flow_mix_app"
_SESSION: Final = "--session-timeout=2"


class Programs(msgspec.Struct, frozen=True):
    """What programs are started with. `keys` is the file of the signing keys, `older` the environment of a version
    that does not know flows."""

    credentials: Mapping[Identity, Credentials]
    keys: Path
    older: Mapping[str, str]


class MixedNamespace:
    """Two masters, two workers, a worker of an older version, and a client."""

    def __init__(self, hosts: str, programs: Programs, folder: Path, stack: ExitStack) -> None:
        credentials = programs.credentials
        self.hosts = hosts
        self.folder = folder
        self._credentials = credentials
        self._stack = stack
        self._signing = {"HERD_SIGNING_KEYS_FILE": str(programs.keys)}
        ids = [part for each, known in credentials.items() for part in (f"--{each}", known.id)]
        assert "is closed" in self.run(Identity.MASTER, "access", "init", "--scheme", "x509", *ids)
        self.masters = [self._start_master() for _ in range(2)]
        self.old = self._start_worker({**self._signing, **programs.older})
        self.workers = [self._start_worker(self._signing) for _ in range(2)]
        self.wait(lambda seen: len(seen.workers) == 3 and seen.primary is not None and len(seen.backups) == 1)
        security = credentials[Identity.CLIENT].security
        self.herd = Herd(hosts, session_timeout=4.0, tls=security.tls, auth=security.auth)
        stack.callback(self.herd.close)

    def _start(self, identity: Identity, environment: Mapping[str, str], *arguments: str) -> HerdProcess:
        command, *rest = arguments
        options = (*rest, _SESSION, *self._credentials[identity].options)
        return self._stack.enter_context(HerdProcess(command, self.hosts, *options, environment=environment))

    def _start_worker(self, environment: Mapping[str, str]) -> HerdProcess:
        return self._start(Identity.WORKER, environment, "worker", _APP, "--slots=8", "--processes=2")

    def run(self, identity: Identity, *arguments: str, exit_codes: tuple[int, ...] = (0,)) -> str:
        """Return what a command of `herd` printed."""
        options = ("--zookeeper", self.hosts, "--connect-timeout=30", *self._credentials[identity].options)
        done = run_herd(*arguments, *options, environment=self._signing if identity is not Identity.MASTER else {})
        assert done.returncode in exit_codes, f"{arguments}: {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def ask(self, question: Callable[[Client], Awaitable[T]]) -> T:
        return ask(self.hosts, self._credentials[Identity.OBSERVER].security, question)

    def wait(self, condition: Callable[[Overview], bool]) -> Overview:
        return wait_for(self.hosts, self._credentials[Identity.OBSERVER].security, condition, PATIENCE)

    def _submit_main(self) -> FlowFuture[object]:
        """Submit a flow that goes over a list in each pool, and joins what comes of it."""
        with self.herd.flow("main", ttl=TTL, keep_outcome=True) as flow:
            numbers = self.herd.task(app.count_to.function).step(COUNT)
            threads = flow.each(self.herd.task(app.in_thread.function), numbers, self.folder, 0.2)
            coroutines = flow.each(self.herd.task(app.in_coroutine.function), numbers, self.folder, 0.2)
            process = self.herd.task(pool="process")(app.in_process.function)
            processes = flow.each(process, numbers, self.folder, 0.2)
            self.herd.task(app.join.function).step(threads, coroutines, processes, self.folder)
        return flow.submit()

    def _submit_cancelled(self) -> FlowFuture[object]:
        """Submit a flow whose items need many transactions."""
        with self.herd.flow("cancelled", ttl=TTL) as flow:
            flow.each(self.herd.task(app.sink.function), self.herd.task(app.count_to.function).step(MANY), "x" * 2_000)
        return flow.submit()

    def cancel_while_items_are_made(self) -> None:
        """Kill the primary when it is to cancel the flow."""
        cancelled = self._submit_cancelled()
        wait_until(lambda: self.ask(partial(_has_items, cancelled.name)), "no items were made", PATIENCE)
        cancelled.cancel_nowait()
        self._kill_primary()
        self.run(Identity.CLIENT, "flows", "cancel", cancelled.name, "--timeout=60s")
        items = self._steps(cancelled)[1].items or {}
        assert 0 < sum(items.values()) < MANY, f"not while items were made: {items}"

    def _steps(self, flow: FlowFuture[object]) -> tuple[StepInfo, ...]:
        return flow.steps(timeout=60.0)

    def retry_while_it_runs(self) -> None:
        """Retry failed steps in vain, while others run."""
        self.main = self._submit_main()
        wait_until(lambda: self._failed() >= 3, "no step failed", PATIENCE)
        assert self.main.info(60.0).state is FlowState.RUNNING
        self.run(Identity.CLIENT, "flows", "retry", self.main.name)

    def _failed(self) -> int:
        return sum((step.items or {}).get(StepState.FAILED, 0) for step in self._steps(self.main))

    def kill_primary_and_worker(self) -> None:
        self._kill_primary()
        self.workers[0].send(signal.SIGKILL)
        self.workers.append(self._start_worker(self._signing))

    def _kill_primary(self) -> None:
        seen = self.wait(lambda seen: seen.primary is not None and bool(seen.backups))
        assert seen.primary is not None
        pid = seen.primary.pid
        next(each for each in self.masters if each.pid == pid).send(signal.SIGKILL)
        self.masters.append(self._start_master())

    def _start_master(self) -> HerdProcess:
        return self._start(Identity.MASTER, {}, "master", f"--outcome-ttl={TTL}s")

    def mend_and_retry(self) -> None:
        """Retry until the flow is done: a step may have read the folder just before it was mended."""
        (self.folder / "mended").touch()

        def is_done() -> bool:
            if self.main.info(60.0).state is FlowState.DONE:
                return True
            self.run(Identity.CLIENT, "flows", "retry", self.main.name, exit_codes=(0, 1))
            return False

        wait_until(is_done, "the flow did not end", PATIENCE)

    def check_steps(self) -> None:
        """Each step ended well, the join began once, and no worker without flows was given a step."""
        expected = sum(range(COUNT))
        assert self.herd.flow_run(self.main.name).result(timeout=60.0) is None
        began = Counter(line.number for line in read(self.folder / "diary", BEGAN))
        assert began.pop(app.JOIN) == 1
        bases = (app.THREAD, app.COROUTINE, app.PROCESS)
        assert began.keys() == {base + number for base in bases for number in range(COUNT)}
        assert began.keys() == {line.number for line in read(self.folder / "diary", ENDED)}
        assert (self.folder / "sums").read_text() == f"{[expected] * 3}"
        assert self.old.pid not in {line.pid for line in read(self.folder / "diary")}

    def check_output(self) -> None:
        """The only errors are those that steps raised."""
        for process in (*self.masters, *self.workers, self.old):
            raised = process.stderr.count("\n  LookupError: number ")
            assert process.stderr.count("Traceback (") == raised, process.stderr

    def check_nothing_is_left(self) -> None:
        """Count the znodes once the flows are older than their time to live."""
        self.herd.close()
        left: list[set[str]] = []

        def is_clean() -> bool:
            left.append(self.ask(_left))
            return not left[-1]

        try:
            wait_until(is_clean, "znodes were left", PATIENCE)
        except AssertionError as error:
            error.add_note(f"{len(left[-1])}: {sorted(left[-1])[:50]}")
            raise


async def _has_items(flow: str, client: Client) -> bool:
    stat = await client.exists(layout.flow_running_path(flow))
    return stat is not None and stat.num_children > 1


async def _left(client: Client) -> set[str]:
    """Return all znodes but the permanent ones, and those of programs that run."""
    found, folders = set[str](), [f"/{name}" for name in await client.children("/")]
    workers = set(await client.children(layout.WORKERS))
    while folders:
        path = folders.pop()
        found.add(path)
        try:
            folders += [f"{path}/{name}" for name in await client.children(path)]
        except errors.NoNode:
            found.discard(path)
    permanent = {POLICY, layout.MASTER, *layout.FOLDERS, *map(layout.inbox_path, workers)}
    alive = (f"{layout.WORKERS}/", f"{layout.MASTERS}/", f"{layout.HISTORY}/")
    return {path for path in found - permanent if not path.startswith(alive)}
