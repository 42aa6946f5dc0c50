"""The eight mixes of {reference, ours} x {master, worker, client}, and one run of a mix.

Whatever has `start` and `close` is a role. Ours plug in as one `Kit`::

    OURS = Kit(
        master=lambda hosts: ProcessRole([sys.executable, "-m", "herdmaster", "master", hosts]),
        worker=lambda hosts: ProcessRole([sys.executable, "-m", "herdmaster", "worker", hosts]),
        client=lambda hosts: FutureClient(partial(OurApi, hosts)),
    )
    kit = mix.choose(REFERENCE, OURS)
    assert run_mix(kit.master, kit.worker, kit.client, namespace).complaints() == []
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

from tests.reference.client import ReferenceClient, is_success
from tests.reference.master import FOLDERS, ReferenceMaster
from tests.reference.processes import ProcessRole
from tests.reference.session import Znodes
from tests.reference.worker import ReferenceWorker

Ended = tuple[str, bytes]
"""A task's name and its outcome as it stood in `/status`."""


class Role(Protocol):
    """`start` returns when the role is on its way; it is up when its znodes are there."""

    def start(self) -> None: ...
    def close(self) -> None: ...


class ClientRole(Role, Protocol):
    def submit_many(self, payloads: list[bytes], window: int) -> list[Ended]: ...
    def submit_serially(self, payloads: list[bytes]) -> list[Ended]: ...


@dataclass(frozen=True)
class Kit:
    """How to make each role; all take HOSTS. A client's HOSTS has a namespace that a master already made."""

    master: Callable[[str], Role]
    worker: Callable[[str], Role]
    client: Callable[[str], ClientRole]


REFERENCE_SESSION_TIMEOUT = 2.0
"""Seconds. Far above what a role is silent for, and short enough to see what an unclosed session leaves behind."""


def _make_master(hosts: str) -> Role:
    return ReferenceMaster(hosts, session_timeout=REFERENCE_SESSION_TIMEOUT)


def _make_worker(hosts: str) -> Role:
    return ReferenceWorker(hosts, execute=lambda _name, _payload: None, session_timeout=REFERENCE_SESSION_TIMEOUT)


def _make_client(hosts: str) -> ClientRole:
    return ReferenceClient(hosts, session_timeout=REFERENCE_SESSION_TIMEOUT)


REFERENCE = Kit(_make_master, _make_worker, _make_client)

Side = Literal["reference", "ours"]


@dataclass(frozen=True)
class Mix:
    master: Side
    worker: Side
    client: Side

    def __str__(self) -> str:
        return f"{self.master}-master {self.worker}-worker {self.client}-client"

    def choose(self, reference: Kit, ours: Kit) -> Kit:
        kits = {"reference": reference, "ours": ours}
        return Kit(kits[self.master].master, kits[self.worker].worker, kits[self.client].client)


_SIDES: tuple[Side, Side] = ("reference", "ours")
MIXES = tuple(Mix(*sides) for sides in itertools.product(_SIDES, repeat=3))


class Submitter(Protocol):
    """What an API must look like for `FutureClient`; the future ends with the outcome as it stood in `/status`."""

    def submit(self, payload: bytes) -> tuple[str, Future[bytes]]: ...
    def close(self) -> None: ...


class FutureClient:
    """A client out of any API that gives a `concurrent.futures.Future` per task."""

    def __init__(self, open_submitter: Callable[[], Submitter], patience: float = 60.0) -> None:
        self._open = open_submitter
        self._patience = patience
        self._submitter: Submitter | None = None

    def start(self) -> None:
        self._submitter = self._open()

    def close(self) -> None:
        if self._submitter is not None:
            self._submitter.close()

    def submit_serially(self, payloads: list[bytes]) -> list[Ended]:
        return self.submit_many(payloads, window=1)

    def submit_many(self, payloads: list[bytes], window: int) -> list[Ended]:
        if self._submitter is None:
            raise RuntimeError("start the client first")
        room = threading.Semaphore(window)
        submitted: list[tuple[str, Future[bytes]]] = []
        for payload in payloads:
            if not room.acquire(timeout=self._patience):
                raise TimeoutError(f"{window} tasks under way and none ended within {self._patience:g} s")
            name, future = self._submitter.submit(payload)
            future.add_done_callback(lambda _: room.release())
            submitted.append((name, future))
        return [(name, future.result(self._patience)) for name, future in submitted]


@dataclass
class MixRun:
    """What a run showed. Times are in seconds."""

    serial_count: int
    parallel_count: int
    serial: list[Ended] = field(default_factory=list)
    parallel: list[Ended] = field(default_factory=list)
    serial_spans: list[float] = field(default_factory=list)
    parallel_span: float = 0.0
    leftovers: list[str] = field(default_factory=list)

    @property
    def tasks_per_second(self) -> float:
        return self.parallel_count / self.parallel_span

    def serial_quantile(self, share: float) -> float:
        return sorted(self.serial_spans)[int((len(self.serial_spans) - 1) * share)]

    def complaints(self) -> list[str]:
        """What is wrong with it, in words; empty when every task ended once, with success, and left nothing behind."""
        found = []
        for kind, ended, count in (
            ("serial", self.serial, self.serial_count),
            ("parallel", self.parallel, self.parallel_count),
        ):
            if len(ended) != count:
                found.append(f"{len(ended)} of {count} {kind} tasks ended")
            found += [f"{kind} {name} ended with {outcome!r}" for name, outcome in ended if not is_success(outcome)]
        names = [name for name, _ in self.serial + self.parallel]
        if len(set(names)) != len(names):
            found.append("one name stands for two tasks")
        return found + [f"left behind: {path}" for path in self.leftovers]


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    """Look fifty times a second. TimeoutError, naming `what` was waited for, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(0.02)


def find_leftovers(znodes: Znodes) -> list[str]:
    """Every task that is still in `/tasks`, in an inbox or in `/status`."""
    folders = ["/tasks", "/status", *(f"/assign/{worker}" for worker in znodes.children("/assign"))]
    return [f"{folder}/{name}" for folder in folders for name in znodes.children(folder)]


def run_mix(
    master: Callable[[str], Role],
    worker: Callable[[str], Role],
    client: Callable[[str], ClientRole],
    hosts: str,
    *,
    serial: int = 200,
    parallel: int = 200,
    window: int | None = None,
    workers: int = 2,
    patience: float = 60.0,
) -> MixRun:
    """Start a master, the workers, a client; run tasks one by one, then `window` (default: all) at a time; stop them.

    The reference's master strands a task that it sees before a worker, so the client starts only when the workers are
    there. TimeoutError after `patience` seconds for what does not come up; what processes printed is added as a note.
    """
    run = MixRun(serial, parallel)
    roles = [master(hosts), *(worker(hosts) for _ in range(workers))]
    try:
        with ExitStack() as stack:
            znodes = stack.enter_context(Znodes(hosts))
            _start_all(roles, stack, znodes, patience)
            submitting = client(hosts)
            stack.callback(submitting.close)
            submitting.start()
            _submit(submitting, run, window or parallel)
            run.leftovers = _settle(znodes, patience)
    except BaseException as error:
        for role in roles:
            if isinstance(role, ProcessRole):
                error.add_note(f"$ {' '.join(role.command)}\n{role.output()}")
        raise
    return run


def _start_all(roles: list[Role], stack: ExitStack, znodes: Znodes, patience: float) -> None:
    """The first is the master, and is up before the others start."""
    for role in roles:
        stack.callback(role.close)
    roles[0].start()
    for path in ("/master", *FOLDERS):
        wait_until(partial(znodes.exists, path), f"the master's {path}", patience)
    for role in roles[1:]:
        role.start()
    count = len(roles) - 1
    wait_until(lambda: len(znodes.children("/workers")) == count, f"{count} workers", patience)


def _submit(client: ClientRole, run: MixRun, window: int) -> None:
    for number in range(run.serial_count):
        began = time.perf_counter()
        run.serial += client.submit_serially([b"serial %d" % number])
        run.serial_spans.append(time.perf_counter() - began)
    began = time.perf_counter()
    run.parallel = client.submit_many([b"parallel %d" % number for number in range(run.parallel_count)], window)
    run.parallel_span = time.perf_counter() - began


def _settle(znodes: Znodes, patience: float) -> list[str]:
    """What is still there once nothing changes any more, or after `patience` seconds."""
    deadline = time.monotonic() + patience
    while (left := find_leftovers(znodes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
