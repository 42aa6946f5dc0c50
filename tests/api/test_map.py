"""`map`: pipelined, in order, bounded."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from herdmaster import ConfigurationError, NotSerializable
from herdmaster.api.map import Results
from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until


class Source:
    """Counts what has been taken from it."""

    def __init__(self, items: Iterator[float | int]) -> None:
        self._items = items
        self.taken = 0

    def __iter__(self) -> Iterator[float | int]:
        for item in self._items:
            self.taken += 1
            yield item


def test_results_come_in_the_order_of_the_items(app: App) -> None:
    seconds = [0.2, 0.0, 0.1, 0.0, 0.05]

    assert list(app.sleep.map(seconds)) == seconds


async def test_results_come_in_order_in_a_loop_too(app: App) -> None:
    seconds = [0.2, 0.0, 0.1, 0.0, 0.05]

    assert [each async for each in app.sleep.map(seconds)] == seconds


def test_items_of_several_iterables_are_taken_together_until_the_shortest_ends(app: App) -> None:
    assert list(app.add.map([1, 2, 3], iter([10, 20]))) == [11, 22]
    assert list(app.add.map([], [1])) == []


def test_nothing_is_taken_or_submitted_before_the_first_result_is_asked_for(app: App) -> None:
    source = Source(iter(range(5)))
    results = app.echo.map(source)

    assert source.taken == 0
    assert app.herd._core._io_thread is None
    assert list(results) == [0, 1, 2, 3, 4]


def test_a_source_is_never_read_further_ahead_than_the_window(app: App) -> None:
    source = Source(iter(range(60)))
    for done, result in enumerate(app.echo.map(source, window=7)):
        assert result == done
        assert source.taken <= done + 7
    assert source.taken == 60


async def test_a_source_is_never_read_further_ahead_in_a_loop_either(app: App) -> None:
    source = Source(iter(range(60)))
    done = 0
    async for result in app.echo.map(source, window=7):
        assert result == done
        assert source.taken <= done + 7
        done += 1
    assert source.taken == done == 60


def test_a_window_of_one_is_one_after_the_other(app: App) -> None:
    assert list(app.echo.map(range(5), window=1)) == [0, 1, 2, 3, 4]


def test_an_endless_source_can_be_mapped(app: App) -> None:
    def naturals() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    for result in app.echo.map(naturals(), window=20):
        if result == 100:
            break


def test_a_failing_item_raises_in_its_place_and_ends_the_iteration(app: App) -> None:
    results = iter(app.fail_if_text.map([1, 2, "third", 4]))

    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(KeyError, match="third"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


async def test_a_failing_item_raises_in_its_place_in_a_loop_too(app: App) -> None:
    results = aiter(app.fail_if_text.map([1, 2, "third", 4]))

    assert [await anext(results), await anext(results)] == [1, 2]
    with pytest.raises(KeyError, match="third"):
        await anext(results)
    with pytest.raises(StopAsyncIteration):
        await anext(results)


def test_an_item_that_cannot_be_sent_raises_in_its_place(app: App) -> None:
    results = iter(app.echo.map([1, 2, object(), 4]))

    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(NotSerializable, match="argument 1"):
        next(results)


def test_what_the_source_raises_is_raised_in_its_place(app: App) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("of the source")

    results = iter(app.echo.map(source()))

    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(LookupError, match="of the source"):
        next(results)


def test_breaking_out_early_leaves_no_status_behind(
    app: App, served: str, znodes: Callable[[str], Znodes], gate: str
) -> None:
    names: list[str] = []
    core = app.herd._core
    begin = core.begin_task

    def noting(*args: object, **kwargs: object) -> object:
        future = begin(*args, **kwargs)  # type: ignore[arg-type, var-annotated]  # passed through as it came
        names.append(future.name)
        return future

    core.begin_task = noting  # type: ignore[method-assign, assignment]  # to learn the names
    tasks.gates[gate].set()
    for _ in app.wait.map([gate] * 30, window=10):
        break
    gc.collect()

    assert len(names) == 10
    wait_until(lambda: not app.herd._core.started()._refs, "all that was under way has come")
    for name in names:
        znodes(served).wait_gone(f"status/{name}")


async def test_breaking_out_of_an_async_for_collects_too(
    app: App, served: str, znodes: Callable[[str], Znodes]
) -> None:
    async for _ in app.echo.map(range(30), window=10):
        break
    gc.collect()
    runtime = app.herd._core.started()

    await asyncio.to_thread(wait_until, lambda: not runtime._refs, "all that was under way has come")
    assert not runtime._pinned


def test_a_timeout_bounds_the_wait_for_each_result(app: App, gate: str) -> None:
    results = iter(app.wait.map([gate], timeout=0.05))

    with pytest.raises(TimeoutError, match=r"has not ended within 0\.05 s"):
        next(results)
    tasks.gates[gate].set()


async def test_a_timeout_bounds_the_wait_for_each_result_in_a_loop_too(app: App, gate: str) -> None:
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.05 s"):
        async for _ in app.wait.map([gate], timeout=0.05):
            pass
    tasks.gates[gate].set()


def test_a_timeout_of_the_tasks_own_is_told_from_one_of_the_wait(app: App) -> None:
    with pytest.raises(TimeoutError, match="its own"):
        list(app.fail.map(["TimeoutError"], ["its own"], timeout=10))


async def test_a_timeout_of_the_tasks_own_is_told_from_one_of_the_wait_in_a_loop_too(app: App) -> None:
    with pytest.raises(TimeoutError, match="its own"):
        async for _ in app.fail.map(["TimeoutError"], ["its own"], timeout=10):
            pass


async def test_a_for_loop_inside_a_running_loop_names_async_for(app: App) -> None:
    with pytest.raises(RuntimeError, match="async for"):
        for _ in app.echo.map([1]):
            pass


def test_results_can_be_iterated_once(app: App) -> None:
    results = app.echo.map([1, 2])

    assert list(results) == [1, 2]
    with pytest.raises(RuntimeError, match="call `map` again"):
        list(results)


def test_a_window_takes_at_least_one(app: App) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        app.echo.map([1], window=0)


def test_map_takes_an_iterable(app: App) -> None:
    with pytest.raises(TypeError, match="an iterable for each argument"):
        app.echo.map()


def test_options_hold_for_map(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    results = iter(quiet.echo.options(queue="mail", priority=8).map([1, 2], timeout=0.05))
    with pytest.raises(TimeoutError):
        next(results)

    wait_until(lambda: len(znodes(namespace).children("tasks")) == 2, "both are there")
    assert all(name.endswith(".mail.p8") for name in znodes(namespace).children("tasks"))


def test_the_results_of_a_generator_given_up_half_way_are_let_go(app: App) -> None:
    results = iter(app.echo.map(range(20), window=20))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]  # it is a generator
    runtime = app.herd._core.started()

    wait_until(lambda: not runtime._refs and not runtime._pinned, "all that was under way has come")


def test_async_results_are_an_async_iterator(app: App) -> None:
    results: Results[object] = app.echo.map([1])

    assert isinstance(results.__aiter__(), AsyncIterator)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
# The client that looks at the znodes pings with a jitter, out of the random module that hypothesis watches.
KAZOO_IS_RANDOM = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")


@pytest.mark.long
@KAZOO_IS_RANDOM
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(values=st.lists(JSON, min_size=1, max_size=20))
def test_whatever_json_can_carry_comes_back_as_it_went(app: App, values: list[object]) -> None:
    assert list(app.echo.map(values, timeout=20)) == values


@pytest.mark.long
@KAZOO_IS_RANDOM
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    args=st.lists(JSON, max_size=5),
    kwargs=st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), JSON, max_size=5),
)
def test_arguments_arrive_as_they_were_given(app: App, args: list[object], kwargs: dict[str, object]) -> None:
    assert app.echo_all.submit(*args, **kwargs).result(20) == [args, kwargs]
