"""What a forked child has of its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from herdmaster import forks

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def in_child(check: Callable[[], object]) -> int:
    """The exit code of a forked child that calls it: 0 unless it raised."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:  # noqa: BLE001 - the child must not go on with the tests
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at_once() -> int:
    """The exit code of a child that gets SIGTERM perhaps before it has reset its handlers."""
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def task_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a pool had been made; the module remembers that for good."""
    monkeypatch.setattr(forks, "_runs_tasks", True)


def test_a_child_has_dev_null_in_place_of_a_registered_descriptor() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        forks.add_fd(ours.fileno())
        null = Path(os.devnull).stat()

        def check() -> None:
            assert os.fstat(ours.fileno()).st_rdev == null.st_rdev
            assert stat.S_ISSOCK(os.fstat(theirs.fileno()).st_mode)
            assert not os.get_inheritable(ours.fileno())
            ours.close()

        assert in_child(check) == 0
        ours.send(b"the parent's is as it was")
        assert theirs.recv(100) == b"the parent's is as it was"
        forks.discard_fd(ours.fileno())
        assert in_child(lambda: stat.S_ISSOCK(os.fstat(ours.fileno()).st_mode) or os._exit(9)) == 0


def test_a_number_that_has_become_another_file_is_left_alone(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    forks.add_fd(number)
    ours.close()
    theirs.close()
    with (tmp_path / "file").open("wb") as file:
        if file.fileno() != number:
            os.dup2(file.fileno(), number)
        assert in_child(lambda: os.write(number, b"kept")) == 0
        if file.fileno() != number:
            os.close(number)
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.usefixtures("task_host")
async def test_a_child_has_neither_the_handlers_nor_the_wake_up_descriptor_of_a_loop() -> None:
    loop = asyncio.get_running_loop()
    heard: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, heard.append, number)
    try:

        def check() -> None:
            assert signal.set_wakeup_fd(-1) == -1
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGTERM)

        assert in_child(check) == -signal.SIGTERM
        for _ in range(20):
            assert killed_at_once() == -signal.SIGTERM
        await asyncio.sleep(0)
        assert heard == []
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            while not heard:
                await asyncio.sleep(0.001)
        assert heard == [signal.SIGTERM]
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


@pytest.mark.usefixtures("task_host")
def test_a_child_keeps_the_handlers_that_are_neither_a_loops_nor_registered() -> None:
    def handle(_number: int, _frame: FrameType | None) -> None: ...

    def check() -> None:
        assert signal.getsignal(signal.SIGUSR1) is handle
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL

    before = signal.signal(signal.SIGUSR1, handle), signal.signal(signal.SIGUSR2, handle)
    try:
        forks.add_handler(signal.SIGUSR2)
        assert in_child(check) == 0
        assert signal.getsignal(signal.SIGUSR2) is handle
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])


@pytest.mark.parametrize(
    ("leave", "code", "words"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no luck')", 1, "no luck\n"),
        ("raise LookupError('lost')", 1, "LookupError: lost\n"),
    ],
)
def test_a_child_that_comes_back_ends_with_the_code_and_words_of_a_program(leave: str, code: int, words: str) -> None:
    program = f"""
import os, sys
from herdmaster import forks
print("printed before the end", end="")
def user_code():
    pid = os.fork()
    if pid == 0:
        {leave}
        return
    sys.stdout = None
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
with forks.UserCode():
    user_code()
os._exit(99)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == code
    assert ended.stderr.endswith(words)
    assert ended.stdout == "printed before the end"


def test_code_that_does_not_fork_is_not_ended() -> None:
    with pytest.raises(SystemExit), forks.UserCode():
        sys.exit(3)
