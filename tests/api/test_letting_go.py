"""Futures without references, and their outcomes."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from herdmaster import Future, Herd, NotSubmitted, OutcomeGone
from herdmaster.api.options import TaskOptions
from herdmaster.api.order import order_call
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until


def test_the_status_is_collected_with_the_outcome(app: App, served: str, znodes: Callable[[str], Znodes]) -> None:
    future = app.add.submit(2, 3)
    future.result(10)

    znodes(served).wait_gone(f"status/{future.name}")


def test_a_kept_future_is_collected_without_references(app: App, served: str, znodes: Callable[[str], Znodes]) -> None:
    future = app.add.submit(2, 3)
    future._keep()
    name = future.name
    del future

    wait_until(lambda: name not in app.herd._core.started()._refs, "its outcome has come")
    znodes(served).wait_gone(f"status/{name}")
    with pytest.raises(OutcomeGone):
        app.herd.future(name).result(20)


@pytest.mark.long
def test_futures_without_references_do_not_leak_while_20_000_tasks_are_submitted(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    """They are dropped before anything has run, so nothing but forgetting them can set them free."""
    references: list[weakref.ref[Future[int]]] = []
    ahead = threading.Semaphore(2000)
    runtime = quiet.herd._core.started()
    callee = quiet.herd._core.registry.callee("m:f")

    def submit(count: int) -> None:
        for _ in range(count):
            ahead.acquire()
            order = order_call(quiet.herd._core.new_ulid(), callee, (), {}, TaskOptions())
            references.append(weakref.ref(runtime.submit(order, quiet.herd, lambda _error: ahead.release())))

    def settle() -> int:
        for _ in range(2000):
            assert ahead.acquire(timeout=20)
        ahead.release(2000)
        quiet.add.submit(1, 1)
        gc.collect()
        return len(gc.get_objects())

    try:
        submit(2000)
        before = settle()
        submit(18_000)
        after = settle()
        assert sum(reference() is not None for reference in references) == 0
        assert after - before < 18_000 + 2000  # the references themselves, and what little else there is
        wait_until(lambda: not runtime._dropped or len(runtime._dropped) < 100, "the dropped ones are forgotten")
        wait_until(lambda: len(runtime._refs) < 100, "their places are free")
        assert runtime._client.outcomes.waiting < 100
        assert runtime._client.journal.unresolved == 0
        assert not runtime._submissions
        assert len(znodes(namespace).children("tasks")) == 20_002
    finally:
        znodes(namespace).delete_all("tasks")


def test_a_failed_future_goes_with_its_last_reference_and_does_not_wait_for_the_collector(
    app: App, nowhere: Herd
) -> None:
    """An error holds the frames that it went through; if one of them held the future, they would hold each other."""

    gc.collect()
    gc.disable()
    try:
        before = {id(each) for each in gc.get_objects() if isinstance(each, Future)}  # of other tests
        future = app.fail.submit("KeyError")
        gone = weakref.ref(future)
        with contextlib.suppress(KeyError):
            future.result(10)
        del future
        wait_until(lambda: gone() is None, "the future has no references")
        with contextlib.suppress(NotSubmitted):
            nowhere.submit_raw(b"x")
        runtime = nowhere._core.started()
        assert not runtime._refs
        assert not [each for each in gc.get_objects() if isinstance(each, Future) and id(each) not in before]
    finally:
        gc.enable()


@pytest.mark.long
def test_nothing_is_kept_of_tasks_that_have_ended(app: App) -> None:
    runtime = app.herd._core.started()
    assert sum(app.add.map(range(500), range(500))) == 249_500
    gc.collect()
    before = len(gc.get_objects())

    assert sum(app.add.map(range(3000), range(3000))) == 8_997_000
    wait_until(lambda: gc.collect() + len(gc.get_objects()) - before < 1000, "what was made for them is gone")
    assert not runtime._refs
    assert not runtime._pinned
    assert not runtime._submissions._unsettled._due
