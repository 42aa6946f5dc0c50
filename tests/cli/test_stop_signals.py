"""What stops masters and workers, and what does not stop the tasks of a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from herdmaster.api import Future, Herd
from tests.cli.processes import REPOSITORY, HerdProcess, wait_until
from tests.pools.process_setting import children

pytestmark = pytest.mark.long

APP = "--app=tests.cli.app"


def descendants(pid: int) -> list[int]:
    own = sorted(children(pid))
    return [*own, *(each for child in own for each in descendants(child))]


class Waiting:
    """A task in a process that goes on until it is told to."""

    def __init__(self, herd: Herd, folder: Path, name: str) -> None:
        self._sign, self._answer = folder / f"{name}-began", folder / f"{name}-go-on"
        arguments = [str(self._sign), str(self._answer)]
        self.future: Future[int] = herd.submit_call(
            "tests.cli.app:wait_in_process", arguments, max_attempts=2, backoff=0
        )

    def wait_began(self) -> None:
        wait_until(self._sign.exists, "the task has not begun")

    def let_go_on(self) -> None:
        self._answer.touch()


def test_a_signal_to_every_process_of_a_worker_costs_no_attempt(namespace: str, tmp_path: Path) -> None:
    """As systemd sends it by default: what ends in time ends, the rest is handed back."""
    with HerdProcess("master", namespace), Herd(namespace) as herd:
        with HerdProcess("worker", namespace, APP, "--processes=2", "--drain-timeout=3") as worker:
            quick, slow = Waiting(herd, tmp_path, "quick"), Waiting(herd, tmp_path, "slow")
            quick.wait_began()
            slow.wait_began()
            for pid in (worker.pid, *descendants(worker.pid)):
                os.kill(pid, signal.SIGTERM)
            worker.wait_for_log("drains: 2 tasks are running")
            quick.let_go_on()
            assert quick.future.result(timeout=60) == 1
            assert worker.wait() == 0
            assert "failed" not in worker.stderr
        slow.let_go_on()
        with HerdProcess("worker", namespace, APP):
            assert slow.future.result(timeout=60) == 1


def test_sighup_drains_a_worker_and_is_never_a_second_signal(namespace: str, tmp_path: Path) -> None:
    with HerdProcess("master", namespace) as master, Herd(namespace) as herd:
        for first in (signal.SIGHUP, signal.SIGTERM):
            with HerdProcess("worker", namespace, APP) as worker:
                task = Waiting(herd, tmp_path, first.name)
                task.wait_began()
                worker.send(first)
                worker.wait_for_log("drains")
                worker.send(signal.SIGHUP)
                task.let_go_on()
                assert worker.wait() == 0
                assert task.future.result(timeout=60) == 1
                assert "stops at once" in worker.stderr
                assert "stopping at once" not in worker.stderr
        master.send(signal.SIGHUP)
        assert master.wait() == 0


def test_a_worker_under_nohup_outlasts_sighup(namespace: str) -> None:
    """SIGHUP is ignored there from the start."""
    command = [sys.executable, "-m", "herdmaster", "worker", namespace, APP]
    with (
        HerdProcess("master", namespace),
        Herd(namespace) as herd,
        subprocess.Popen(
            ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as worker,
    ):
        assert worker.stderr is not None
        while "is ready" not in (line := worker.stderr.readline()):
            assert line, "it has ended"
        worker.send_signal(signal.SIGHUP)
        assert herd.submit_call("tests.cli.app:add", [1, 2]).result(timeout=60) == 3
        worker.terminate()
        assert worker.wait(20) == 0
