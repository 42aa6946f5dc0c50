"""A worker as process 1 of a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from herdmaster.api import Herd
from tests.cli.processes import HerdProcess, wait_until
from tests.pools.process_setting import children, is_alive

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux")]

# A subreaper adopts orphans as process 1 does.
SUBREAPER = """
import ctypes, os, signal, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
from herdmaster.cli.first_process import go_on_in_child
go_on_in_child()
print(os.getpid(), flush=True)
"""


def start(program: str) -> subprocess.Popen[str]:
    """Its child's id is the first thing that it says."""
    return subprocess.Popen([sys.executable, "-c", SUBREAPER + program], stdout=subprocess.PIPE, text=True)


def test_an_orphan_is_reaped_and_the_exit_code_is_the_childs() -> None:
    program = """
if os.fork() == 0:
    print(orphan, flush=True) if (orphan := os.fork()) else time.sleep(60)
    os._exit(0)
os.wait()
sys.stdin.read()
sys.exit(7)
"""
    with subprocess.Popen(
        [sys.executable, "-c", SUBREAPER + program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        child, orphan = (int(first.stdout.readline()) for _ in range(2))
        wait_until(lambda: children(first.pid) == {child, orphan}, "the orphan was not adopted")
        os.kill(orphan, signal.SIGKILL)
        wait_until(lambda: children(first.pid) == {child}, "the orphan was not reaped")
        first.communicate("")
        assert first.returncode == 7


def test_signals_reach_the_child_and_one_that_kills_it_gives_the_code() -> None:
    program = """
def handle(number, frame):
    os.write(1, f"heard {number}\\n".encode())  # the signal may come in the middle of a print
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, handle)
print("ready", flush=True)
while True:
    time.sleep(60)
"""
    with start(program) as first:
        assert first.stdout is not None
        child = int(first.stdout.readline())
        assert first.stdout.readline() == "ready\n"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            first.send_signal(number)
            assert first.stdout.readline() == f"heard {int(number)}\n"
        os.kill(child, signal.SIGKILL)
        assert first.wait(20) == 128 + signal.SIGKILL


UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def container() -> tuple[str, ...]:
    """What runs a command as process 1 of a namespace of its own."""
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets no one make namespaces")
    return UNSHARE


def test_a_worker_that_is_process_1_reaps_what_killed_tasks_leave_and_drains(
    container: tuple[str, ...], namespace: str, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    with (
        HerdProcess("master", namespace),
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [*container, sys.executable, "-m", "herdmaster", "worker", namespace, "--app=tests.cli.forking_app"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as outer,
        Herd(namespace) as herd,
        ExitStack() as stack,
    ):
        stack.callback(outer.kill)
        (first,) = wait_until(lambda: children(outer.pid) or None, "no process 1")
        herd.submit_call("tests.cli.forking_app:leave_a_daemon", [str(stop)]).result(timeout=60)
        assert herd.submit_call("tests.cli.forking_app:use_in_process", ["subprocess"]).result(timeout=60) == -15
        wait_until(lambda: len(children(first)) == 2, "process 1 has not adopted the orphan")
        stop.touch()
        wait_until(lambda: len(children(first)) == 1, "the orphan was not reaped")
        (worker,) = children(first)
        os.kill(first, signal.SIGTERM)
        assert outer.wait(30) == 0
        assert "has drained" in (tmp_path / "log").read_text()
        assert not is_alive(worker)
