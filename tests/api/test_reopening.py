"""A Herd that was closed is opened by the next `with` block, and by nothing else."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

import pytest
from starlette.applications import Starlette

from herdmaster import Future, Herd, HerdClosed, HerdExecutor, NotSubmitted
from tests.api.tasks import App

pytestmark = pytest.mark.long

SECONDS = 20.0


def test_a_block_may_be_entered_again(app: App) -> None:
    for _ in range(3):
        with app.herd:
            assert app.add.submit(2, 3).result(SECONDS) == 5
        with pytest.raises(HerdClosed, match="another `with herd:` opens it again"):
            app.add.submit(2, 3)


async def test_an_async_block_may_be_entered_again(app: App) -> None:
    for _ in range(3):
        async with app.herd:
            assert await (await app.add.submit_async(2, 3)) == 5
        with pytest.raises(HerdClosed):
            await app.add.submit_async(2, 3)


def test_a_block_opens_what_close_has_closed(app: App) -> None:
    assert app.add.submit(2, 3).result(SECONDS) == 5
    app.herd.close()
    app.herd.close()
    with app.herd:
        assert app.add.submit(2, 3).result(SECONDS) == 5
        app.herd.close()
        with pytest.raises(HerdClosed):
            app.add.submit(2, 3)


def test_the_last_of_nested_blocks_closes(app: App) -> None:
    with app.herd:
        with app.herd:
            future = app.add.submit(2, 3)
        assert future.result(SECONDS) == 5
        assert app.add.submit(3, 4).result(SECONDS) == 7
    with pytest.raises(HerdClosed):
        app.add.submit(2, 3)


def test_futures_of_the_first_opening_stay_as_they_are(quiet: App, app: App) -> None:
    with app.herd:
        done = app.add.submit(2, 3)
        assert done.result(SECONDS) == 5
    with quiet.herd:
        lost = quiet.add.submit(2, 3)
    with pytest.raises(HerdClosed):
        lost.result(SECONDS)
    with app.herd, quiet.herd:
        again = quiet.herd.future(lost.name)
        assert not again.done()
        assert done.result() == 5
        with pytest.raises(HerdClosed):
            lost.result()


def test_an_executor_goes_on_with_the_next_opening(app: App) -> None:
    executor = HerdExecutor(app.herd)
    for _ in range(2):
        with app.herd:
            assert executor.submit(app.add, 2, 3).result(SECONDS) == 5


def test_a_lifespan_runs_once_for_each_test_client(app: App) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(_service: Starlette) -> AsyncIterator[None]:
        async with app.herd:
            yield

    service = Starlette(lifespan=lifespan)

    async def client() -> int:
        async with service.router.lifespan_context(service):
            return await (await app.add.submit_async(2, 3))

    assert [asyncio.run(client()) for _ in range(2)] == [5, 5]  # each in a loop of its own


@pytest.mark.parametrize("_number", range(2))
def test_herd_worker_opens_what_an_earlier_test_has_closed(
    herd_worker: Callable[..., AbstractContextManager[str]], _number: int
) -> None:
    with herd_worker(OF_THE_MODULE):
        future = OF_THE_MODULE.submit_raw(b"x")
        assert future.result(SECONDS) is None
        OF_THE_MODULE.close()
        with pytest.raises(HerdClosed):
            OF_THE_MODULE.submit_raw(b"x")


OF_THE_MODULE = Herd("127.0.0.1:1")
OF_THE_MODULE.raw_handler(lambda _name, _data: None)
OF_THE_MODULE.close()


def test_what_was_closed_before_a_direction_is_closed_after_it(namespace: str) -> None:
    with OF_THE_MODULE.directed_to(namespace):
        OF_THE_MODULE.submit_raw(b"x")
    with pytest.raises(HerdClosed):
        OF_THE_MODULE.submit_raw(b"x")


def test_threads_open_and_close_as_they_please(app: App) -> None:
    """What is submitted inside a block is answered: no other thread's end of a block closes it."""
    futures: list[Future[int]] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(15):
                with app.herd:
                    future = app.add.submit(number, 1)
                    assert future.result(SECONDS) == number + 1
                    futures.append(future)
        except BaseException as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (errors, len(futures)) == ([], 60)
    with pytest.raises(HerdClosed):
        app.add.submit(2, 3)


def test_close_against_threads_that_open_leaves_no_session_behind(app: App) -> None:
    """Each use is answered or refused, and the last close is the last word."""
    before = set(threading.enumerate())
    is_over = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not is_over.is_set():
                with app.herd, contextlib.suppress(HerdClosed, NotSubmitted):
                    assert app.add.submit(1, 1).result(SECONDS) == 2
        except BaseException as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        app.herd.close()
    is_over.set()
    for thread in threads:
        thread.join(60)
    app.herd.close()
    assert errors == []
    assert not [each for each in set(threading.enumerate()) - before if each.name == "herdmaster-io"]
    with pytest.raises(HerdClosed):
        app.add.submit(2, 3)
