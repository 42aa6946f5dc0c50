"""`submit_many`, and what a limit of the backlog does to submissions of every kind."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from herdmaster import BacklogFull, Future, Herd, HerdClosed, NotAllSubmitted, NotSerializable, NotSubmitted
from herdmaster.api import submitting
from tests.api import tasks
from tests.api.conftest import run_roles
from tests.api.proxy import Proxy
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until

pytestmark = pytest.mark.long


def test_many_tasks_are_submitted_and_their_futures_come_in_order(app: App) -> None:
    futures = app.add.submit_many((number, 1) for number in range(300))

    assert [future.result(30) for future in futures] == [number + 1 for number in range(300)]
    assert app.herd.submit_many(app.add, []) == []


async def test_many_tasks_are_submitted_in_a_loop_too(app: App) -> None:
    futures = await app.add.submit_many_async([(1, 2), (3, 4)])

    assert [await future for future in futures] == [3, 7]
    with pytest.raises(RuntimeError, match="submit_many_async"):
        app.add.submit_many([(1, 2)])
    assert await app.add.submit_many_async([]) == []


def test_they_are_accepted_when_it_returns(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    futures = quiet.add.options(queue="mail").submit_many([(1, 2)] * 250)

    assert znodes(namespace).children("tasks") == sorted(future.name for future in futures)
    assert all(".mail" in future.name for future in futures)


def test_they_share_transactions(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    quiet.add.submit(1, 2)
    before = _accepted_batches(znodes(namespace))
    quiet.add.submit_many([(1, 2)] * 300)

    assert _accepted_batches(znodes(namespace)) - before == 3


def _accepted_batches(znodes: Znodes) -> int:
    (client,) = znodes.children("clients")
    return znodes.version(f"clients/{client}")


@pytest.mark.usefixtures("small_parts")
def test_more_than_a_part_are_submitted_part_by_part(app: App) -> None:
    futures = app.echo.submit_many((number,) for number in range(25))

    assert [future.result(30) for future in futures] == list(range(25))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "PART", 10)


def test_what_is_wrong_with_an_item_is_raised_before_anything_is_submitted(quiet: App) -> None:
    with pytest.raises(NotSerializable, match="argument 1") as raised:
        quiet.echo.submit_many([(1,), (2,), (object(),)])
    assert raised.value.__notes__ == ["This was item 2; none was submitted."]
    with pytest.raises(TypeError, match="item 1 is a int, where the arguments of one task are a tuple"):
        quiet.echo.submit_many([(1,), 2])  # type: ignore[list-item]  # what is refused
    assert quiet.herd._core._io_thread is None


def test_what_was_not_accepted_is_told_item_by_item(nowhere: Herd) -> None:
    with pytest.raises(NotAllSubmitted, match=r"^0 of 3 tasks were accepted, see `futures`; the first") as raised:
        nowhere.task(tasks.echo).submit_many([(1,), (2,), (3,)])

    error = raised.value
    assert error.futures == (None, None, None)
    assert sorted(error.errors) == [0, 1, 2]
    assert all(isinstance(each, NotSubmitted) for each in error.errors.values())


@pytest.mark.usefixtures("small_parts")
def test_after_a_failure_the_rest_is_not_tried(nowhere: Herd) -> None:
    with pytest.raises(NotAllSubmitted) as raised:
        nowhere.task(tasks.echo).submit_many((number,) for number in range(25))

    assert len(raised.value.errors) == 25
    assert "was not tried" in str(raised.value.errors[24])


async def test_what_was_not_accepted_is_told_in_a_loop_too(nowhere: Herd) -> None:
    with pytest.raises(NotAllSubmitted):
        await nowhere.task(tasks.echo).submit_many_async([(1,)])


def test_a_key_gives_the_same_future_in_many_too(quiet: App) -> None:
    task = quiet.echo.options(key=lambda value: f"key-{value}")
    first = task.submit("a")
    futures = task.submit_many([("a",), ("b",)])

    assert futures[0].name == first.name
    assert futures[1].name != first.name


def test_a_key_that_is_held_can_be_an_error_in_many_too(quiet: App) -> None:
    task = quiet.echo.options(key=lambda value: f"key-{value}", on_duplicate="error")
    first = task.submit("a")

    with pytest.raises(NotAllSubmitted, match="1 of 2 tasks were accepted") as raised:
        task.submit_many([("a",), ("b",)])
    assert first.name in str(raised.value.errors[0])
    assert raised.value.futures[1] is not None


def test_after_the_end_nothing_is_submitted(app: App) -> None:
    app.herd.close()

    with pytest.raises(HerdClosed):
        app.echo.submit_many([(1,)])


# --- the limit of the backlog ----------------------------------------------------------------------------------------


def test_a_full_backlog_is_an_error(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    task = quiet.echo.options(max_backlog=3)
    for number in range(3):
        task.submit(number)

    with pytest.raises(BacklogFull, match="3 tasks wait, at most 3 are allowed") as raised:
        task.submit(3)
    assert (raised.value.waiting, raised.value.limit) == (3, 3)
    assert len(znodes(namespace).children("tasks")) == 3
    quiet.echo.submit(4)  # without a limit there is none


def test_never_more_than_the_limit_are_accepted_however_many_come_at_once(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    with pytest.raises(NotAllSubmitted, match="5 of 40 tasks were accepted") as raised:
        quiet.echo.options(max_backlog=5).submit_many((number,) for number in range(40))

    assert {type(error) for error in raised.value.errors.values()} == {BacklogFull}
    assert len(znodes(namespace).children("tasks")) == 5


async def test_a_full_backlog_is_an_error_in_a_loop_too(quiet: App) -> None:
    task = quiet.echo.options(max_backlog=1)
    await task.submit_async(1)

    with pytest.raises(BacklogFull):
        await task.submit_async(2)


def test_a_map_may_wait_for_room_in_the_backlog(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    most = 0

    def source() -> Iterator[int]:
        nonlocal most
        for number in range(60):
            most = max(most, len(znodes(namespace).children("tasks")))
            yield number

    task = quiet.echo.options(max_backlog=10, on_full="wait")
    with run_roles(namespace):
        assert list(task.map(source(), window=30)) == list(range(60))
    assert most <= 10


def test_a_full_backlog_is_an_error_in_the_place_of_the_item_of_a_map(quiet: App) -> None:
    quiet.echo.submit_many([(1,)] * 3)
    results = iter(quiet.echo.options(max_backlog=3).map([1, 2]))

    with pytest.raises(BacklogFull):
        next(results)


def test_a_submission_that_waits_for_room_goes_on_when_there_is_some(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes], make_herd: Callable[..., Herd]
) -> None:
    herd = make_herd(namespace, submit_timeout=1.0)  # which does not count while it waits
    assert herd.future("task-nothing").exception(20) is not None  # so there is a session
    task = herd.task(tasks.echo).options(max_backlog=1, on_full="wait")
    first = task.submit(1)
    names: list[str] = []
    thread = threading.Thread(target=lambda: names.append(task.submit(2).name))
    thread.start()
    thread.join(2.0)
    assert thread.is_alive()
    assert znodes(namespace).children("tasks") == [first.name]

    znodes(namespace).delete(f"tasks/{first.name}")
    thread.join(20)
    assert znodes(namespace).children("tasks") == names


def test_a_submission_that_waits_for_room_ends_with_the_herd(quiet: App) -> None:
    task = quiet.echo.options(max_backlog=1, on_full="wait")
    task.submit(1)
    errors: list[Exception] = []

    def submit() -> None:
        try:
            task.submit(2)
        except NotSubmitted as error:
            errors.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    runtime = quiet.herd._core.started()
    wait_until(lambda: len(runtime._client.backlog_limit._asked) == 1, "it waits")
    quiet.herd.close()
    thread.join(20)

    assert len(errors) == 1


def test_a_limit_is_kept_over_a_lost_connection(
    namespace: str, make_herd: Callable[..., Herd], znodes: Callable[[str], Znodes]
) -> None:
    server, _, path = namespace.partition("/")
    with Proxy(server) as proxy:
        task = make_herd(f"{proxy.hosts}/{path}").task(tasks.echo).options(max_backlog=5, on_full="wait")
        begun: list[Future[object]] = [
            task._core.herd.begin_task(task._core.callee(), (number,), {}, task._core.options) for number in range(10)
        ]
        wait_until(lambda: len(znodes(namespace).children("tasks")) == 5, "as many as there is room for")
        proxy.cut()
        for name in znodes(namespace).children("tasks"):
            znodes(namespace).delete(f"tasks/{name}")
        wait_until(lambda: len(znodes(namespace).children("tasks")) == 5, "the others follow")

    assert len({future.name for future in begun}) == 10
