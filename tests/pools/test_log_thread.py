"""Log records that another thread handles."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from herdmaster.pools import log_thread
from herdmaster.pools.log_thread import Deferral


class Gated(logging.Handler):
    """Blocks at each record until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.gate = threading.Event()
        self.handled: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        assert self.gate.wait(30)
        self.handled.append((threading.current_thread().name, record.getMessage()))


@pytest.fixture
def handler() -> Iterator[Gated]:
    handler = Gated()
    yield handler
    handler.gate.set()


@pytest.fixture
def logger(handler: Gated) -> Iterator[logging.Logger]:
    logger = logging.getLogger("herdmaster.test_log_thread")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


@pytest.fixture
def deferral(logger: logging.Logger) -> Iterator[Deferral]:
    deferral = Deferral(lambda: threading.current_thread() is threading.main_thread())
    logger.addFilter(deferral)
    yield deferral
    logger.removeFilter(deferral)


def test_a_handler_that_blocks_does_not_hold_up_the_thread_that_logs(
    logger: logging.Logger, handler: Gated, deferral: Deferral
) -> None:
    logger.info("first %s", 1)
    assert handler.reached.wait(30)
    logger.info("second")
    deferral.flush(0.01)
    assert handler.handled == []

    handler.gate.set()
    deferral.flush(30)
    assert handler.handled == [("herdmaster-log", "first 1"), ("herdmaster-log", "second")]


def test_records_of_other_threads_are_handled_there(logger: logging.Logger, handler: Gated, deferral: Deferral) -> None:
    handler.gate.set()
    thread = threading.Thread(target=logger.info, args=("here",), name="another")
    thread.start()
    thread.join()

    assert handler.handled == [("another", "here")]


def test_records_that_find_no_room_are_counted(
    logger: logging.Logger,
    handler: Gated,
    deferral: Deferral,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(log_thread, "MOST_RECORDS", 0)
    logger.info("not even the first")
    monkeypatch.setattr(log_thread, "MOST_RECORDS", 2)
    logger.info("0")
    assert handler.reached.wait(30)
    for number in range(1, 6):
        logger.info("%s", number)
    handler.gate.set()
    deferral.flush(30)

    assert [text for _, text in handler.handled] == ["0", "1", "2"]
    for number in (1, 3):
        assert f"{number} log lines were dropped: the handlers did not keep up" in caplog.text


def test_after_a_drain_records_are_handled_where_they_are_logged(
    logger: logging.Logger, handler: Gated, deferral: Deferral
) -> None:
    handler.gate.set()
    logger.info("before")
    deferral.drain(30)
    logger.info("after")

    assert handler.handled == [("herdmaster-log", "before"), ("MainThread", "after")]


def test_records_are_handled_where_they_are_logged_if_there_can_be_no_thread(
    logger: logging.Logger, handler: Gated, deferral: Deferral, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.gate.set()
    monkeypatch.setattr(threading.Thread, "start", _refuse_to_start)
    logger.info("without")
    monkeypatch.undo()
    logger.info("with")
    deferral.flush(30)

    assert handler.handled == [("MainThread", "without"), ("herdmaster-log", "with")]


def test_the_thread_keeps_no_process_from_ending(logger: logging.Logger, handler: Gated, deferral: Deferral) -> None:
    handler.gate.set()
    logger.info("one")
    deferral.flush(30)

    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "herdmaster-log")


def _refuse_to_start(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
