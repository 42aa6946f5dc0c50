"""`map` with chunks: many items in one task, and to its caller as if each had been alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest

from herdmaster import (
    ConfigurationError,
    NotSerializable,
    PayloadTooLarge,
    ResultTooLarge,
    TaskCancelled,
    TaskFailed,
    UnknownCall,
    WrongArguments,
)
from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.testing.running import RunningRoles
from tests.api import tasks
from tests.api.conftest import SESSION_TIMEOUT
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until

pytestmark = pytest.mark.long


def test_results_come_in_the_order_of_the_items(app: App) -> None:
    assert list(app.add.map(range(100), range(100), chunksize=7)) == [2 * number for number in range(100)]


async def test_results_come_in_order_in_a_loop_too(app: App) -> None:
    assert [each async for each in app.echo.map(range(50), chunksize=8)] == list(range(50))


def test_many_items_are_in_one_task(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    results = iter(quiet.echo.map(range(10), chunksize=4, timeout=0.05))
    with pytest.raises(TimeoutError):
        next(results)

    wait_until(lambda: len(znodes(namespace).children("tasks")) == 3, "all are there")
    calls = [
        json.loads(znodes(namespace).read(f"tasks/{name}")) for name in sorted(znodes(namespace).children("tasks"))
    ]
    assert [call["args"] for call in calls] == [[[0], [1], [2], [3]], [[4], [5], [6], [7]], [[8], [9]]]
    assert all(call["chunk"] for call in calls)


def test_a_failing_item_fails_alone(app: App) -> None:
    found = list(app.fail_if_text.map([1, "two", 3, "four", 5, 6], chunksize=3, return_exceptions=True))

    assert [found[0], found[2], found[4], found[5]] == [1, 3, 5, 6]
    for position, text in ((1, "two"), (3, "four")):
        error = found[position]
        assert isinstance(error, KeyError)
        assert error.args == (text,)
        assert isinstance(error.__cause__, TaskFailed)
        assert "fail_if_text" in error.__cause__.traceback


def test_a_failing_item_raises_in_its_place_and_ends_the_iteration(app: App) -> None:
    results = iter(app.fail_if_text.map([1, 2, "third", 4], chunksize=4))

    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(KeyError, match="third"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


async def test_errors_can_be_given_in_a_loop_too(app: App) -> None:
    found = [each async for each in app.fail_if_text.map([1, "two"], chunksize=2, return_exceptions=True)]

    assert found[0] == 1
    assert isinstance(found[1], KeyError)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_item_that_cannot_be_sent_fails_alone(app: App, chunksize: int) -> None:
    found = list(app.echo.map([1, object(), 3, 4], chunksize=chunksize, return_exceptions=True))

    assert [found[0], *found[2:]] == [1, 3, 4]
    assert isinstance(found[1], NotSerializable)


def test_an_item_of_the_wrong_type_fails_alone(app: App) -> None:
    found = list(app.add.map([1, "2", 3], [1, 1, 1], chunksize=3, return_exceptions=True))

    assert [found[0], found[2]] == [2, 4]
    assert isinstance(found[1], WrongArguments)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_what_the_source_raises_is_raised_in_its_place(app: App, chunksize: int) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("of the source")

    results = iter(app.echo.map(source(), chunksize=chunksize))

    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(LookupError, match="of the source"):
        next(results)


def test_a_chunk_that_would_be_too_large_is_split(app: App) -> None:
    items = ["x" * 100_000 + str(number) for number in range(12)]

    assert list(app.echo.map(items, chunksize=12)) == items


def test_an_item_that_is_too_large_alone_fails_alone(app: App) -> None:
    largest = "x" * (MAX_PAYLOAD - 200)
    found = list(app.count.map(["a", largest, largest + "x" * 400, "b"], chunksize=4, return_exceptions=True))

    assert [found[0], found[3]] == ["a", "b"]
    assert isinstance(found[1], ResultTooLarge)  # it ran, in a task of its own
    assert isinstance(found[2], PayloadTooLarge)


def test_results_that_are_too_large_together_fail_one_by_one(app: App) -> None:
    found = list(app.give.map(["large", "object"], chunksize=2, return_exceptions=True))

    assert [type(each) for each in found] == [ResultTooLarge, NotSerializable]
    assert isinstance(found[0], ResultTooLarge)
    assert "choose a smaller `chunksize`" in str(found[0].__cause__)


def test_a_source_is_never_read_further_ahead_than_the_window(app: App) -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in range(60):
            taken += 1
            yield number

    for done, result in enumerate(app.echo.map(source(), chunksize=5, window=15)):
        assert result == done
        assert taken <= done + 15
    assert taken == 60


def test_a_chunk_that_fails_as_a_whole_fails_for_each_of_its_items(app: App) -> None:
    task = app.herd.task(absent)
    found = list(task.options(max_attempts=1).map([1, 2, 3], chunksize=2, return_exceptions=True, timeout=55))

    assert [type(each) for each in found] == [UnknownCall] * 3


def absent(value: int) -> int:
    """No worker of these tests knows it."""
    return value


def test_breaking_out_early_leaves_nothing_behind(app: App) -> None:
    for _ in app.echo.map(range(40), chunksize=10):
        break
    runtime = app.herd._core.started()

    wait_until(lambda: not runtime._refs and not runtime._pinned, "all that was under way has come")


def test_a_closed_herd_ends_the_iteration(app: App) -> None:
    results = iter(app.echo.map(iter(range(100)), chunksize=10, window=10, return_exceptions=True))
    assert next(results) == 0
    app.herd.close()

    rest = list(results)
    assert rest[:9] == list(range(1, 10))
    assert len(rest) == 10
    assert "this Herd is closed" in str(rest[9])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"chunksize": 0}, "chunksize=0: from 1 to 1000"),
        ({"chunksize": 1001}, "from 1 to 1000 items make a chunk"),
        ({"chunksize": 10, "window": 5}, "a window of 5 items has no room for a chunk of 10"),
    ],
)
def test_sizes_that_cannot_work_are_refused(app: App, options: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        app.echo.map([1], **options)  # type: ignore[call-overload]  # by name


def test_a_key_is_for_tasks_of_one_item(app: App) -> None:
    with pytest.raises(ConfigurationError, match="key= is for tasks of one item"):
        app.echo.options(key=str).map([1], chunksize=2)


def test_each_item_of_a_chunk_runs_once(app: App) -> None:
    keys = [f"once-{number}" for number in range(50)]

    assert list(app.count.map(keys, chunksize=9)) == keys
    assert {tasks.executions[key] for key in keys} == {1}


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_cancelled_task_is_an_error_in_the_place_of_its_items(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes], chunksize: int
) -> None:
    found: list[object] = []
    results = quiet.echo.map([1, 2], chunksize=chunksize, return_exceptions=True)
    thread = threading.Thread(target=lambda: found.extend(results))
    thread.start()
    count = 2 // chunksize
    wait_until(lambda: len(znodes(namespace).children("tasks")) == count, "all are there")
    with RunningRoles(Master(namespace, MasterSettings(SESSION_TIMEOUT))):
        for name in znodes(namespace).children("tasks"):
            assert quiet.herd.future(name).cancel(timeout=20)
        thread.join(20)

    assert all(isinstance(each, TaskCancelled) for each in found)
    assert len(found) == 2
