"""A forked child has a session of its own, and its parent never notices."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import pytest

from herdmaster.api import fork_and_exit
from herdmaster.zookeeper.errors import ClientClosed
from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import Znodes, session_of, wait_until

# Newer Pythons warn of every fork of a process that has threads, which is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


class Child:
    """Runs a function in a forked child; what it returns (JSON) or raises comes back."""

    def __init__(self, function: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                answer = [True, function()]
            except BaseException:  # noqa: BLE001 - told to the parent
                answer = [False, traceback.format_exc()]
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
        os.close(writing)
        self._answer = os.fdopen(reading)

    def result(self) -> object:
        with self._answer:
            text = self._answer.read()
        os.waitpid(self._pid, 0)
        assert text, "the child ended without an answer"
        well, value = json.loads(text)
        assert well, value
        return value


@pytest.fixture(autouse=True)
def other_threads() -> Iterator[None]:
    """A process of many threads, some of them busy."""
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


def test_a_child_has_a_session_of_its_own(app: App, served: str, znodes: Callable[[str], Znodes]) -> None:
    assert app.add.submit(1, 2).result(10) == 3
    session = session_of(app.herd)

    def in_child() -> int:
        assert app.add.submit(2, 3).result(20) == 5
        own = session_of(app.herd)[0]
        app.herd.close()
        return own

    own = Child(in_child).result()
    assert own != session[0]
    assert session_of(app.herd) == session
    assert app.add.submit(3, 4).result(10) == 7
    wait_until(lambda: not any(f"{own:016x}" in each for each in znodes(served).sessions()), "the child's has ended")


def test_a_herd_that_was_not_used_before_the_fork_works_in_both(app: App) -> None:
    child = Child(lambda: app.add.submit(2, 3).result(20))

    assert app.add.submit(3, 4).result(20) == 7
    assert child.result() == 5


def test_a_grandchild_works_too(app: App) -> None:
    app.add.submit(1, 2).result(10)

    def in_child() -> object:
        app.add.submit(1, 2).result(20)
        return Child(lambda: app.add.submit(2, 3).result(20)).result()

    assert Child(in_child).result() == 5


@pytest.mark.long
def test_forking_while_submissions_are_under_way_loses_and_doubles_nothing(app: App, served: str) -> None:
    stop = threading.Event()
    submitted: list[list[str]] = [[], [], []]

    def submit_on(names: list[str]) -> None:
        while not stop.is_set():
            names.append(app.count.submit(f"{served}-parent-{id(names)}-{len(names)}").name)

    def in_child() -> list[str]:
        futures = [app.count.submit(f"{served}-child-{os.getpid()}-{number}") for number in range(5)]
        results = [future.result(20) for future in futures]
        app.herd.close()
        assert len(results) == 5
        return [future.name for future in futures]

    threads = [threading.Thread(target=submit_on, args=(names,)) for names in submitted]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(submitted), "all submit")
    of_children: list[str] = []
    for _ in range(5):
        names = Child(in_child).result()
        assert isinstance(names, list)
        of_children += names
    stop.set()
    for thread in threads:
        thread.join()

    everything = [*of_children, *(name for names in submitted for name in names)]
    assert len(set(everything)) == len(everything)
    for names in submitted:
        keys = [f"{served}-parent-{id(names)}-{number}" for number in range(len(names))]
        wait_until(lambda keys=keys: all(tasks.executions[key] for key in keys), "all have run")  # type: ignore[misc]
        assert [tasks.executions[key] for key in keys] == [1] * len(keys)


def test_parent_and_child_never_give_the_same_name(app: App) -> None:
    """Names count up within a millisecond; a child that went on counting would repeat the parent's."""
    clock = 1_700_000_000_000
    app.herd._core._ulids._now_ms = lambda: clock
    app.herd._core.new_ulid()
    child = Child(lambda: [app.herd._core.new_ulid() for _ in range(3)])
    of_parent = [app.herd._core.new_ulid() for _ in range(3)]

    of_child = child.result()
    assert isinstance(of_child, list)
    assert not set(of_parent) & set(of_child)


def test_a_future_from_before_the_fork_stays_with_the_parent_and_says_so_to_the_child(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    future.add_done_callback(lambda _done: None)
    done = app.add.submit(2, 3)
    assert done.result(10) == 5

    def in_child() -> None:
        with pytest.raises(ClientClosed, match=r"herd\.future\(name\)"):
            future.result(5)
        assert done.result(0) == 5

    Child(in_child).result()
    tasks.gates[gate].set()
    assert future.result(10) == gate


def test_a_child_may_wait_for_what_the_parent_submitted(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    name = future.name
    del future
    child = Child(lambda: app.herd.future(name).result(20))
    tasks.gates[gate].set()

    assert child.result() == gate


def test_forking_inside_of_a_running_loop_is_no_harm(app: App) -> None:
    async def main() -> list[object]:
        assert await (await app.add.submit_async(1, 2)) == 3
        child = Child(lambda: asyncio.run(in_child()))
        return [await asyncio.to_thread(child.result), await (await app.add.submit_async(3, 4))]

    async def in_child() -> int:
        return await (await app.add.submit_async(2, 3))

    assert asyncio.run(main()) == [5, 7]


def _in_pool(item: int) -> int:
    return _pool_app.add.submit(item, 1).result(20)


_pool_app: App


def test_a_process_pool_that_forks_can_submit_and_its_sessions_end_at_once(
    app: App, served: str, znodes: Callable[[str], Znodes]
) -> None:
    global _pool_app  # noqa: PLW0603 - what a forked process inherits
    _pool_app = app
    assert app.add.submit(1, 2).result(10) == 3
    before = set(znodes(served).sessions())
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_in_pool, range(10), chunksize=1) == list(range(1, 11))
        pool.close()
        pool.join()

    # A session that had to lapse would take two seconds.
    started = time.monotonic()
    wait_until(lambda: set(znodes(served).sessions()) <= before, "the pool's sessions have ended")
    assert time.monotonic() - started < 1


@pytest.mark.long
def test_a_child_that_ends_leaves_the_parents_session_alone(served: str) -> None:
    """The child's interpreter ends in good order, with everything that runs then."""
    program = """
import os, sys
from herdmaster import Herd
herd = Herd(sys.argv[1], session_timeout=2.0)
def call(number):
    return herd.submit_call("tests.api.tasks:add", [number, 1])
assert call(1).result(20) == 2
pending = call(2)
for number in range(3):
    pid = os.fork()
    if pid == 0:
        if number == 0:
            call(3).result(20)
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert call(number).result(20) == number + 1
assert pending.result(20) == 3
"""
    ended = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:.*multi-threaded.*fork:DeprecationWarning",
            "-c",
            program,
            served,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_child_leaves_the_sessions_of_its_parent_alone_and_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def begin_close(self) -> None:
            self.calls.append("begin to close")

        def close(self) -> None:
            self.calls.append("close")

        def leave_to_parent(self) -> None:
            self.calls.append("leave")

    parents, own = Session(), Session()
    kept: list[object] = []
    monkeypatch.setattr(fork_and_exit, "_sessions", {parents})
    monkeypatch.setattr(fork_and_exit, "_parents", kept)
    monkeypatch.setattr(fork_and_exit, "_apps", set())
    fork_and_exit._handle_fork()
    fork_and_exit.add_session(own)
    fork_and_exit.close_all()

    assert kept == [parents]
    assert parents.calls == ["leave"]
    assert own.calls == ["begin to close", "close"]
