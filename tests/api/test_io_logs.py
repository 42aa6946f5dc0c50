"""Log handlers of a program do not hold up the thread that talks to ZooKeeper."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator

import pytest

from tests.api.tasks import App

_log = logging.getLogger("herdmaster.client")


class Blocking(logging.Handler):
    """Blocks until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.gate = threading.Event()
        self.handled: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        assert self.gate.wait(30)
        self.handled.append(record.getMessage())


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    handler = Blocking()
    _log.addHandler(handler)
    yield handler
    handler.gate.set()
    _log.removeHandler(handler)


def test_a_log_handler_that_blocks_holds_up_no_submission(quiet: App, blocking: Blocking) -> None:
    quiet.herd._core.started()._post(lambda: _log.warning("from the I/O thread"))
    assert blocking.reached.wait(30)

    assert quiet.add.submit(1, 2).name
    assert blocking.handled == []


def test_a_closed_herd_has_no_log_records_left(quiet: App, blocking: Blocking) -> None:
    blocking.gate.set()
    quiet.herd._core.started()._post(lambda: _log.warning("from the I/O thread"))
    quiet.herd.close()

    assert blocking.handled == ["from the I/O thread"]


def test_a_forked_child_handles_the_records_of_its_own_io_thread(quiet: App, blocking: Blocking) -> None:
    blocking.gate.set()
    quiet.herd._core.started()._post(lambda: _log.warning("in the parent"))
    reading, writing = os.pipe()
    if os.fork() == 0:
        quiet.herd._core.started()._post(lambda: _log.warning("in the child"))
        quiet.herd.close()
        os.write(writing, "|".join(blocking.handled).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read().decode().split("|")[-1] == "in the child"
    os.wait()
