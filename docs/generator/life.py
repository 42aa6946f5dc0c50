"""Trace which files run for one `submit` and `result`, and write the page that lists them.

A client, a primary and a worker run in this process, each on a thread of its own, against the embedded server in
another process. A profile function notes each file of Herdmaster in which a function is called, by thread. Code that
runs at import is left out, and so is code that runs for the first task of a program alone.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from docs.generator.files import SOURCE, first_sentence
from docs.generator.traced_app import area, herd
from herdmaster.api.internals import core_of
from herdmaster.roles.primary.master import Master
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.testing.embedded_process import EmbeddedProcess
from herdmaster.testing.running import RunningRoles, make_namespace_of

THREADS = {
    "program": "The calling thread of the program",
    "client": "The I/O thread of the program",
    "primary": "The event loop of the primary",
    "worker": "The event loop of the worker",
    "pool": "The pool thread of the worker",
}
"""In the order in which a task comes to them."""

SETTLING = 0.3
"""Seconds before and after a traced task: what the tasks before it left to do is done by then."""

_PREFIX = f"{SOURCE}/"
_HEAD = """# The life of a task

The files in which code runs for one plain `area.submit(6, 7)` and its `result()`: {total} files, {own} of them without
the ZooKeeper client. They were found by tracing a program, a primary and a worker. Each file stands once, where it runs
first; files that several processes use come last. [Architecture](architecture.md) tells the same in words.

`make pages` writes this page, and a test traces a task again and compares.
"""
_PROCESSES = {"program": "program", "client": "program", "primary": "primary", "worker": "worker", "pool": "worker"}


class Recorder:
    """A profile function that notes, while it is on, the files in which functions are called, by thread."""

    def __init__(self) -> None:
        self.files: dict[int, dict[str, None]] = {}
        self.is_on = False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if self.is_on and event == "call" and code.co_filename.startswith(_PREFIX) and code.co_name != "<module>":
            self.files.setdefault(threading.get_ident(), {})[code.co_filename.removeprefix(_PREFIX)] = None


def trace(times: int = 3) -> list[dict[str, list[str]]]:
    """The files that run for each of several tasks, by thread as in `THREADS`, in the order in which they first run."""
    recorder = Recorder()
    with _profiled(recorder), EmbeddedProcess() as server:
        make_namespace_of(server.hosts)
        worker = Worker(server.hosts, core_of(herd).registry.functions, WorkerSettings(slots=1))
        with herd.directed_to(server.hosts), RunningRoles(worker), RunningRoles(Master(server.hosts)):
            assert area.submit(1, 2).result(30) == 2
            try:
                return [_trace_one(recorder) for _ in range(times)]
            finally:
                herd.close()


def common(traces: list[dict[str, list[str]]]) -> dict[str, list[str]]:
    """What every trace has. The rest is due to timers, such as pings and sweeps."""
    first, *others = traces
    return {thread: [f for f in files if all(f in each[thread] for each in others)] for thread, files in first.items()}


def write(by_thread: dict[str, list[str]]) -> str:
    """The page, from what `common` returns."""
    processes: dict[str, set[str]] = {}
    for thread, files in by_thread.items():
        for file in files:
            processes.setdefault(file, set()).add(_PROCESSES[thread])
    left = {file for file, users in processes.items() if len(users) == 1}
    own = [file for file in processes if not file.startswith("zookeeper/")]
    parts = [_HEAD.format(total=len(processes), own=len(own))]
    for thread, title in THREADS.items():
        files = [file for file in by_thread[thread] if file in left]
        left.difference_update(files)
        parts.append(_section(title, files))
    shared = sorted(file for file, users in processes.items() if len(users) > 1)
    parts.append(_section("Several processes", [file for file in shared if file in own]))
    parts.append(_section("Several processes: the ZooKeeper client", [file for file in shared if file not in own]))
    return "\n".join(parts)


@contextmanager
def _profiled(recorder: Recorder) -> Iterator[None]:
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def _trace_one(recorder: Recorder) -> dict[str, list[str]]:
    time.sleep(SETTLING)
    recorder.files = {}
    recorder.is_on = True
    assert area.submit(6, 7).result(30) == 42
    time.sleep(SETTLING)
    recorder.is_on = False
    found: dict[str, list[str]] = {}
    for ident, files in recorder.files.items():
        found[_thread(ident, files)] = list(files)
    assert set(found) == set(THREADS)
    return found


def _thread(ident: int, files: dict[str, None]) -> str:
    if ident == threading.get_ident():
        return "program"
    for role in ("client", "primary"):
        if any(file.startswith(f"roles/{role}/") for file in files):
            return role
    return "pool" if "running/invocation.py" in files else "worker"


def _section(title: str, files: list[str]) -> str:
    rows = [f"| `{file}` | {first_sentence(SOURCE / file)} |" for file in files]
    return "\n".join([f"## {title}", "", "| file | what is inside |", "|---|---|", *rows]) + "\n"
