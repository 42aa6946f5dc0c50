"""When sessions and threads begin and end."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable

import pytest

from herdmaster import Herd, HerdClosed, OutcomeGone
from herdmaster.api.internals import core_of
from herdmaster.api.loop_thread import LoopThread
from herdmaster.testing.child_server import ChildServer
from herdmaster.zookeeper.errors import ClientClosed, InvalidConnectString
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until

pytestmark = pytest.mark.long


def _python(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={**os.environ, **environment},
    )


def test_there_is_no_thread_and_no_socket_before_the_first_use() -> None:
    program = """
import os, threading
before = sorted(os.listdir("/proc/self/fd"))
from herdmaster import Herd
herd = Herd("127.0.0.1:1")
@herd.task
def add(x, y): return x + y
task = add.options(queue="mail", priority=9)
herd._core.registry.functions, herd.hosts, repr(herd), add(2, 3)
assert threading.active_count() == 1, threading.enumerate()
assert sorted(os.listdir("/proc/self/fd")) == before
herd.close()
assert threading.active_count() == 1
"""
    ended = _python(program)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_importing_the_errors_alone_imports_no_asyncio() -> None:
    ended = _python("import sys; from herdmaster import TaskFailed; print('asyncio' in sys.modules)")

    assert ended.stdout == "False\n"


def test_the_library_configures_no_logging(served: str) -> None:
    program = """
import logging, sys
from herdmaster import Herd
with Herd(sys.argv[1], session_timeout=2.0) as herd:
    herd.submit_call("tests.api.tasks:add", [2, 3]).result(10)
    assert logging.root.handlers == []
    assert logging.root.level == logging.WARNING
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("herdmaster") and isinstance(logger, logging.Logger):
            assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True), name
"""
    ended = _python(program, served)

    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")


def test_hosts_come_from_the_argument_the_variable_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HERD_ZOOKEEPER", raising=False)
    assert Herd().hosts == "127.0.0.1:2181"
    herd = Herd()
    monkeypatch.setenv("HERD_ZOOKEEPER", "zk1:2181,zk2:2181/prod")
    assert herd.hosts == "zk1:2181,zk2:2181/prod"
    assert Herd("other:1").hosts == "other:1"
    assert repr(herd) == "<Herd zk1:2181,zk2:2181/prod>"


def test_a_bad_connect_string_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConnectString, match="write host1:2181,host2:2181/path"):
        Herd("zk1:port")
    monkeypatch.setenv("HERD_ZOOKEEPER", "zk1:99999")
    herd = Herd()
    with pytest.raises(InvalidConnectString, match="zk1:99999"):
        herd.submit_raw(b"x")


def io_threads() -> set[threading.Thread]:
    """Return the I/O threads of all Herds. That of a Herd which another test dropped ends a moment later."""
    return {thread for thread in threading.enumerate() if thread.name == "herdmaster-io"}


def _ends_its_session(herd: Herd, hosts: str, znodes: Callable[[str], Znodes], end: Callable[[], object]) -> None:
    others = io_threads()
    herd.submit_raw(b"x")
    assert len(znodes(hosts).sessions()) == 1
    end()
    assert znodes(hosts).children("clients") == []
    assert io_threads() <= others


@pytest.mark.within(9)  # `close` waits 10 s for a thread that does not end
def test_close_ends_session_journal_and_thread(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    _ends_its_session(quiet.herd, namespace, znodes, quiet.herd.close)


def test_with_ends_them(namespace: str, znodes: Callable[[str], Znodes]) -> None:
    with Herd(namespace) as herd:
        _ends_its_session(herd, namespace, znodes, lambda: herd.__exit__(None, None, None))


async def test_async_with_ends_them_and_does_not_stop_the_loop(namespace: str, znodes: Callable[[str], Znodes]) -> None:
    async with Herd(namespace) as herd:
        await herd.submit_raw_async(b"x")
        assert len(znodes(namespace).sessions()) == 1
    assert znodes(namespace).children("clients") == []


def test_a_herd_without_references_ends_its_threads(namespace: str, znodes: Callable[[str], Znodes]) -> None:
    before = set(threading.enumerate())
    herd = Herd(namespace)
    future = herd.submit_raw(b"x")
    answered = herd.future("task-nothing")
    answered.add_done_callback(lambda _done: None)
    assert isinstance(answered.exception(10), OutcomeGone)
    gone = weakref.ref(herd._core)
    del herd
    gc.collect()
    assert gone() is not None  # its future needs it
    del future
    wait_until(lambda: bool(gc.collect() or gone() is None), "the Herd is gone")
    wait_until(lambda: not znodes(namespace).children("clients"), "the session has ended")
    wait_until(lambda: set(threading.enumerate()) <= before, "its threads have ended")


@pytest.mark.within(9)  # `close` waits 10 s for a thread that does not end
def test_closing_twice_and_from_several_threads_is_no_error(quiet: App) -> None:
    quiet.herd.submit_raw(b"x")
    threads = [threading.Thread(target=quiet.herd.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    quiet.herd.close()
    for thread in threads:
        thread.join(10)

    quiet.herd.close()
    assert not any(thread.is_alive() for thread in threads)


def test_after_closing_everything_says_so(quiet: App) -> None:
    future = quiet.add.submit(2, 3)
    quiet.herd.close()

    with pytest.raises(ClientClosed, match=r"wait for it with herd\.future\(name\)"):
        future.result(10)
    with pytest.raises(RuntimeError, match="this Herd is closed, by close"):
        quiet.add.submit(2, 3)
    with pytest.raises(RuntimeError, match="this Herd is closed"):
        quiet.herd.future(future.name)
    with pytest.raises(RuntimeError, match="this Herd is closed"):
        list(quiet.add.map([1], [2]))
    assert quiet.add(2, 3) == 5


def test_closing_before_the_first_use_is_the_end_too(quiet: App) -> None:
    quiet.herd.close()
    with pytest.raises(RuntimeError, match="this Herd is closed"):
        quiet.add.submit(2, 3)


@pytest.mark.within(9)  # `close` waits 10 s for a thread that does not end
async def test_closing_wakes_what_awaits(quiet: App) -> None:
    future = await quiet.add.submit_async(2, 3)
    waiting = asyncio.ensure_future(asyncio.wait_for(future, 20))
    await asyncio.sleep(0)
    await asyncio.to_thread(quiet.herd.close)

    with pytest.raises(ClientClosed):
        await waiting


@pytest.mark.within(9)  # `close` waits 10 s for a thread that does not end
def test_closing_calls_the_callbacks_that_are_left(quiet: App) -> None:
    errors: list[BaseException | None] = []
    quiet.add.submit(2, 3).add_done_callback(lambda done: errors.append(done.exception()))
    quiet.herd.close()

    assert [type(error) for error in errors] == [HerdClosed]


@pytest.mark.fallback("GOODBYE_SECONDS", "_CANCEL_SECONDS")  # so long it waits for the server
def test_a_server_that_hangs_does_not_hold_up_closing_for_long(
    new_zookeeper: Callable[..., ChildServer], make_herd: Callable[..., Herd]
) -> None:
    with new_zookeeper(tick_time=2000) as server:  # so that it grants long sessions
        herd, others = make_herd(server.hosts, session_timeout=30.0), io_threads()
        herd.submit_raw(b"x")
        server.pause()
        started = time.monotonic()
        herd.close()
        assert time.monotonic() - started < 8
        assert io_threads() <= others


@pytest.mark.parametrize("first", [KeyboardInterrupt, ValueError])
def test_a_second_interrupt_ends_the_wait_and_not_the_close(
    namespace: str, monkeypatch: pytest.MonkeyPatch, first: type[BaseException]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def leave_a_block() -> None:
        with Herd(namespace) as herd:
            herd.submit_raw(b"x")
            raise first

    others = io_threads()
    monkeypatch.setattr(LoopThread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        leave_a_block()
    shown = traceback.format_exception(caught.value)
    assert ("During handling of the above exception" in "".join(shown)) is (first is ValueError)
    wait_until(lambda: io_threads() <= others, "the session did not end")


def test_an_interrupt_at_any_place_of_a_close_leaves_no_thread(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    others = io_threads()
    herd = Herd(namespace)
    herd.submit_raw(b"x")
    io_thread = core_of(herd)._io_thread
    assert io_thread is not None
    ring = io_thread._ring

    def interrupt() -> None:
        io_thread._ring = ring
        raise KeyboardInterrupt

    io_thread._ring = interrupt
    with pytest.raises(KeyboardInterrupt):
        herd.close()
    wait_until(lambda: io_threads() <= others, "the session did not end")


# --- the end of the interpreter --------------------------------------------------------------------------------------


def test_the_end_of_the_interpreter_ends_the_session(namespace: str, znodes: Callable[[str], Znodes]) -> None:
    program = """
import sys
from herdmaster import Herd
kept = Herd(sys.argv[1], session_timeout=4.0)
print(kept.submit_raw(b"x").name)
Herd(sys.argv[1], session_timeout=4.0).submit_raw(b"x")
pending = kept.submit_raw(b"x")
pending.add_done_callback(lambda done: print(type(done.exception()).__name__))
"""
    ended = _python(program, namespace)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[1:] == ["HerdClosed"]
    assert znodes(namespace).children("clients") == []
    assert len(znodes(namespace).children("tasks")) == 3


def test_an_unhandled_error_ends_the_session_too(namespace: str, znodes: Callable[[str], Znodes]) -> None:
    ended = _python(
        "import sys; from herdmaster import Herd\nherd = Herd(sys.argv[1]); herd.submit_raw(b'x'); raise SystemExit(3)",
        namespace,
    )

    assert ended.returncode == 3
    assert znodes(namespace).children("clients") == []


def test_ctrl_c_ends_a_wait_and_the_session(namespace: str, znodes: Callable[[str], Znodes]) -> None:
    program = (
        "import sys; from herdmaster import Herd\n"
        "herd = Herd(sys.argv[1]); future = herd.submit_raw(b'x'); print('waiting', flush=True); future.result()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, namespace], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)

    assert errors.endswith("KeyboardInterrupt\n")
    assert znodes(namespace).children("clients") == []


@pytest.mark.parametrize(
    "prelude",
    [
        "hosts = '127.0.0.1:1'",
        # A name server that does not answer, which asyncio asks on threads that the interpreter waits for.
        "import socket, time; socket.getaddrinfo = lambda *a, **k: time.sleep(60); hosts = 'zookeeper.example:2181'",
    ],
)
def test_the_interpreter_ends_promptly_although_zookeeper_is_unreachable(prelude: str) -> None:
    program = f"""
{prelude}
import os.path, threading, time
from herdmaster import Herd, HerdExecutor
herd = Herd(hosts, connect_timeout=60.0)
future = HerdExecutor(herd).submit(os.path.basename, "a/b")
threading.Thread(target=future.exception, daemon=True).start()
time.sleep(0.3)
print(time.time(), flush=True)
"""
    ended = _python(program)

    assert time.time() - float(ended.stdout) < 20
    assert ended.returncode == 0


def test_a_callback_that_never_returns_does_not_keep_the_interpreter(served: str) -> None:
    program = """
import sys, threading, time
from herdmaster import Herd
herd = Herd(sys.argv[1], session_timeout=4.0)
blocked = threading.Event()
def block(_done):
    blocked.set()
    time.sleep(60)
herd.submit_call("tests.api.tasks:add", [2, 3]).add_done_callback(block)
assert blocked.wait(10)
print(time.time(), flush=True)
"""
    ended = _python(program, served)

    assert time.time() - float(ended.stdout) < 20
    assert ended.returncode == 0


def test_submitting_at_the_end_of_the_interpreter_is_answered(namespace: str) -> None:
    program = """
import atexit, sys
def late():
    try:
        herd.submit_raw(b"late")
    except RuntimeError as error:
        print(error)
atexit.register(late)  # runs after Herdmaster's own, which comes with the import
from herdmaster import Herd
herd = Herd(sys.argv[1])
herd.submit_raw(b"x")
atexit.register(lambda: print(herd.submit_raw(b"early").name))
"""
    ended = _python(program, namespace)

    assert (ended.returncode, ended.stderr) == (0, "")
    early, late = ended.stdout.splitlines()
    assert early.startswith("task-")
    assert late.startswith("this Herd is closed, by close")


def test_a_finaliser_may_submit(served: str) -> None:
    """The collector may run it on any thread, in the middle of anything; it must be answered, one way or the other."""
    program = """
import gc, sys, threading
from herdmaster import Herd
herd = Herd(sys.argv[1], session_timeout=4.0)
count = 0
class Submits:
    def __init__(self):
        self.me = self  # a cycle, so that the collector finds it
    def __del__(self):
        global count
        try:
            herd.submit_call("tests.api.tasks:add", [1, 1]).add_done_callback(print)
        except RuntimeError:
            pass  # on the thread that talks to ZooKeeper, which is a running loop
        count += 1
gc.set_threshold(50, 2, 2)
def work():
    for number in range(30):
        Submits()
        assert herd.submit_call("tests.api.tasks:add", [number, 1]).result(20) == number + 1
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
gc.collect()
assert count == 90, count
"""
    ended = _python(program, served)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_signal_handler_may_submit(served: str) -> None:
    program = """
import signal, sys
from herdmaster import Herd
herd = Herd(sys.argv[1], session_timeout=4.0)
herd.submit_raw(b"x")
names = []
def handle(*_):
    names.append(herd.submit_raw(b"from the handler").name)
    signal.setitimer(signal.ITIMER_REAL, 0.003)
signal.signal(signal.SIGALRM, handle)
handle()
for number in range(100):
    names.append(herd.submit_raw(b"x").name)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
assert len(set(names)) == len(names) > 110
"""
    ended = _python(program, served)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_program_can_be_directed_to_another_namespace_for_a_test(
    app: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    assert app.add.submit(2, 3).result(10) == 5
    with app.herd.directed_to(namespace):
        future = app.add.submit(2, 3)
        assert znodes(namespace).children("tasks") == [future.name]
    assert app.add.submit(2, 3).result(10) == 5
