"""`herd workers`: draining and stopping, as an operator sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import REPOSITORY, HerdProcess, connect, run_herd, wait_until

pytestmark = pytest.mark.long


def test_a_worker_is_drained_resumed_and_stopped(namespace: str) -> None:
    at = ("--zookeeper", namespace)
    with HerdProcess("master", namespace) as master, HerdProcess("worker", namespace) as worker:
        master.wait_for_log("elected")
        name = worker.wait_for_log("is ready").split(" is ready")[0].split()[-1]
        result = run_herd("workers", "drain", name, "--wait", *at)
        assert (result.returncode, result.stdout) == (0, f"{name} has drained\n"), result.stderr
        assert "  drained  0 assigned" in run_herd("workers", namespace).stdout
        assert run_herd("workers", "resume", name, *at).stdout == f"{name} takes tasks again\n"
        result = run_herd("workers", "stop", name, "--wait", "--json", *at)
        assert (result.returncode, json.loads(result.stdout)) == (0, {"worker": name, "state": "gone"})
        assert worker.wait() == 0
        result = run_herd("workers", "stop", name, *at)
        assert (result.returncode, result.stderr) == (1, f"herd workers stop: {name} is not alive: no worker is\n")


def test_an_interrupted_wait_leaves_the_request_standing(namespace: str) -> None:
    with connect(namespace) as zk:
        zk.ensure_path("/assign/worker-aa/task-1")
        record = {"slots": 1, "request": "", "host": "h", "pid": 7}
        zk.create("/workers/worker-aa", json.dumps(record).encode(), makepath=True)
        command = [
            sys.executable,
            "-m",
            "herdmaster",
            "workers",
            "drain",
            "worker-aa",
            "--wait",
            "--zookeeper",
            namespace,
        ]
        with subprocess.Popen(
            command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        ) as waiting:
            wait_until(lambda: b"drain" in zk.get("/workers/worker-aa")[0] or None, "a request")
            assert waiting.stderr is not None
            assert waiting.stderr.readline() == "worker-aa: 1 task is left\n"
            waiting.send_signal(signal.SIGINT)
            assert "the request stands: worker-aa will drain all the same" in waiting.stderr.read()
        assert waiting.returncode == 130
        assert json.loads(zk.get("/workers/worker-aa")[0])["request"] == "drain"


def test_what_is_no_worker_is_a_mistake_of_the_caller() -> None:
    result = run_herd("workers", "drain", "nonsense")
    assert (result.returncode, result.stdout) == (2, "")
    assert "'nonsense' is not the name of a worker" in result.stderr


def test_a_signal_after_a_request_to_stop_is_the_first_and_ends_nothing_at_once(namespace: str, tmp_path: Path) -> None:
    sign, answer = tmp_path / "sign", tmp_path / "answer"
    at = ("--zookeeper", namespace)
    with HerdProcess("master", namespace), HerdProcess("worker", namespace, "--app=tests.cli.app") as worker:
        name = worker.wait_for_log("is ready").split(" is ready")[0].split()[-1]
        task = run_herd("submit", *at, "tests.cli.app:wait_for", f'"{sign}"', f'"{answer}"').stdout.strip()
        wait_until(lambda: sign.exists() or None, "a task that runs")
        assert run_herd("workers", "stop", name, *at).stdout == f"{name} drains and stops\n"
        worker.wait_for_log("drains: 1 task is running")
        worker.send(signal.SIGTERM)
        worker.wait_for_log("a second SIGTERM stops at once")
        answer.touch()
        assert worker.wait() == 0
        assert run_herd("tasks", "list", *at, "--state=done", "--json").stdout.count(task) == 1
