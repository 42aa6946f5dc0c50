"""What the tests of roles see of each other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest


def complain() -> None:
    logging.getLogger("herdmaster").warning("the event loop stood still")


@pytest.fixture(scope="module")
def other() -> Iterator[Callable[[], None]]:
    """Let a thread that runs since before the test log something."""
    asked, answered = threading.Event(), threading.Event()

    def run() -> None:
        asked.wait(20)
        complain()
        answered.set()

    thread = threading.Thread(target=run)
    thread.start()

    def ask() -> None:
        asked.set()
        assert answered.wait(20)

    yield ask
    asked.set()
    thread.join()


def test_what_threads_of_other_tests_log_is_not_captured(
    other: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    other()
    assert caplog.records == []
    thread = threading.Thread(target=complain)
    thread.start()
    thread.join()
    complain()
    assert caplog.messages == ["the event loop stood still"] * 2
