"""Nothing reads what a worker prints and logs: its session and its tasks do not wait for that."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from herdmaster.api import Future, Herd
from herdmaster.testing.ports import free_ports
from tests.cli.processes import HERD, REPOSITORY, HerdProcess, wait_until
from tests.cli.test_roles import look, wait_for_overview

pytestmark = pytest.mark.long

APP = """
from herdmaster import Herd

herd = Herd()

@herd.task
def fail(number):
    raise ValueError("x" * 300)

@herd.task(pool="process")
def flood(count):
    for _ in range(count):
        print("x" * 400)
    return count

@herd.task
def add(x, y):
    return x + y
"""

SESSION_SECONDS = 3.0


def submit_raw(herd: Herd, count: int) -> None:
    """Each prints as many bytes as a raw task may have."""
    futures = [herd.submit_raw(b"%03d" % number + b"x" * 400_000) for number in range(count)]
    assert [future.result(timeout=60) for future in futures] == [None] * count


def test_a_worker_whose_output_is_not_read_keeps_its_session_and_ends_its_tasks(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    reader, writer = os.pipe()
    command = (*HERD, "worker", namespace, "--app=app", f"--session-timeout={SESSION_SECONDS}", "--slots=4")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    with HerdProcess("master", namespace), Herd(namespace) as herd, os.fdopen(reader, "rb") as output:
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=environment)
        os.close(writer)
        try:
            (registered,) = wait_until(lambda: look(namespace).workers or None, "no worker")
            failing: list[Future[None]] = [herd.submit_call("app:fail", [number]) for number in range(200)]
            flood: Future[int] = herd.submit_call("app:flood", [10_000])  # 4 MB
            submit_raw(herd, 12)  # 4.8 MB
            assert flood.result(timeout=40) == 10_000
            assert {type(future.exception(timeout=60)) for future in failing} == {ValueError}
            time.sleep(1.2 * SESSION_SECONDS)  # in which a heartbeat that waited would have cost the session
            assert herd.submit_call("app:add", [1, 2]).result(timeout=60) == 3
            assert [each.name for each in look(namespace).workers] == [registered.name]

            os.set_blocking(output.fileno(), False)
            text = bytearray()

            def read_until_said() -> bool:
                text.extend(output.read() or b"")
                return b"were dropped: its reader did not keep up" in text

            wait_until(read_until_said, "it was not said that lines were dropped")
            assert b"stood still" not in text
            assert text.count(b"is ready") == 1

            submit_raw(herd, 4)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0, "the end does not wait for the reader for ever"
        finally:
            worker.kill()
            worker.wait()


@contextmanager
def unread(*command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command whose output goes to a pipe that is full from the start. It has to end in good order when it is told
    to."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb", buffering=0) as output:
        os.set_blocking(writer, False)
        for size in (4096, 1):
            with suppress(BlockingIOError):
                while os.write(writer, b"x" * size):
                    pass
        os.set_blocking(writer, True)  # of the pipe's end, which the command shares
        process = subprocess.Popen(
            (*HERD, *command, "--log-level=debug"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": f"{folder}:{REPOSITORY}"},
        )
        try:
            yield process
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def check_works(hosts: str) -> None:
    with Herd(hosts) as herd:
        failing: list[Future[None]] = [herd.submit_call("app:fail", [number]) for number in range(20)]
        assert {type(future.exception(timeout=60)) for future in failing} == {ValueError}


def test_a_master_whose_output_is_not_read_goes_on(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    with (
        unread("master", namespace, folder=tmp_path),
        HerdProcess("worker", namespace, "--app=app", folder=tmp_path),
    ):
        wait_for_overview(namespace, lambda seen: seen.primary is not None and bool(seen.workers), "no primary")
        check_works(namespace)


def test_herd_dev_whose_output_is_not_read_goes_on(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (port,) = free_ports(1)
    with unread("dev", f"--port={port}", "--app=app", folder=tmp_path):
        check_works(f"127.0.0.1:{port}")
