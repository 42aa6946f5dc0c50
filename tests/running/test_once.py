"""What `once` calls, saves, returns and refuses, without a worker."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import msgspec
import pytest

from herdmaster.core.payload import MAX_SAVED, Call, encode_arguments
from herdmaster.core.retry import Raised
from herdmaster.core.run import ChunkRan, Returned
from herdmaster.errors import ConfigurationError, NotSaved, NotSerializable, SavedTooLarge, SoftTimeLimitExceeded
from herdmaster.running.current import CurrentTask, Running, current_task
from herdmaster.running.delivery import Delivered
from herdmaster.running.invocation import invoke
from herdmaster.running.once import Saved, _Call, call_once
from herdmaster.running.program import Program


class Worker:
    """Answers each save at once, unless told otherwise."""

    def __init__(self) -> None:
        self.results: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.uncertain = 0
        self.held: list[Callable[[], None]] | None = None

    def may_begin_once(self, task: Delivered) -> bool:
        if self.error is not None:
            raise self.error
        self.uncertain -= 1
        return self.uncertain < 0

    def save(self, task: Delivered, name: str, data: bytes, saved: Saved) -> None:
        def answer() -> None:
            self.results.setdefault(name, data)
            results = {each: msgspec.Raw(found) for each, found in self.results.items()}
            task.call = msgspec.structs.replace(task.call, saved=results) if task.call is not None else None
            saved(results[name])

        if self.held is not None:
            self.held.append(answer)
        else:
            answer()


def call(*args: object, **fields: Any) -> Call:
    return Call(1, "m:f", *encode_arguments(args, {}), **fields)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def run(worker: Worker) -> Delivered:
    return Delivered("task-a", b"", 1, call(), saver=worker)


@pytest.fixture
def task(run: Delivered) -> CurrentTask:
    return CurrentTask(run)


@dataclass
class Receipt:
    number: int
    day: date


def pay(amount: int, day: date = date(2026, 1, 2)) -> Receipt:
    return Receipt(amount, day)


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


def test_the_function_is_called_once_and_the_result_comes_from_json_each_time(
    worker: Worker, task: CurrentTask
) -> None:
    first = task.once("pay", pay, 5, day=date(2026, 3, 4))
    assert worker.results == {"pay": b'{"number":5,"day":"2026-03-04"}'}
    assert first == task.once("pay", pay, 6) == Receipt(5, date(2026, 3, 4))
    assert task.once("other", functools.partial(pay, 7)) == Receipt(7, date(2026, 1, 2))
    assert cast("object", task.once("pair", lambda: (1, b"\x00"))) == [1, "AA=="]
    assert task.once("none", lambda: None) is None
    assert task.once("none", lambda: None) is None


def test_what_an_earlier_run_saved_is_returned(worker: Worker) -> None:
    run = Delivered("task-a", b"", 1, call(saved={"n": msgspec.Raw(b"41")}), saver=worker)
    counting = Counting()
    assert CurrentTask(run).once("n", counting) == 41
    assert not counting.calls


def test_a_result_that_does_not_fit_the_hint_stays_as_json_gave_it(
    task: CurrentTask, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong() -> int:
        return cast("int", "five")

    assert cast("object", task.once("n", wrong)) == "five"
    assert "its return hint does not say" in caplog.text


def test_what_the_function_raises_is_not_saved(worker: Worker, task: CurrentTask) -> None:
    def fail() -> int:
        raise LookupError("no")

    with pytest.raises(LookupError):
        task.once("n", fail)
    assert not worker.results
    assert task.once("n", Counting()) == 1


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", 5])
def test_a_name_is_short_printable_text(task: CurrentTask, name: Any) -> None:
    counting = Counting()
    with pytest.raises(ConfigurationError, match="a name is 1 to 100 printable characters"):
        task.once(name, counting)
    assert not counting.calls


def test_a_result_that_cannot_be_saved_says_why(worker: Worker, task: CurrentTask) -> None:
    with pytest.raises(
        NotSerializable, match=r"the result of once\('lock', ...\), a lock, cannot be written"
    ) as raised:
        task.once("lock", threading.Lock)
    assert raised.value.is_of_once
    with pytest.raises(SavedTooLarge, match=f"{MAX_SAVED + 8} bytes together, at most {MAX_SAVED}"):
        task.once("x", lambda: "x" * MAX_SAVED)
    task.once("y", lambda: "y" * (MAX_SAVED - 10))
    counting = Counting()
    with pytest.raises(SavedTooLarge):
        task.once("z", counting)
    assert not counting.calls, "there was no room before it was called"


@pytest.mark.parametrize("unsaveable", [threading.Lock, lambda: "x" * MAX_SAVED])
def test_a_task_whose_result_cannot_be_saved_is_not_retried(worker: Worker, unsaveable: Callable[[], object]) -> None:
    program = Program({"m:f": lambda: current_task().once("n", unsaveable)})
    callee = program.find("m:f")
    assert callee is not None
    ending = invoke(Delivered("task-a", b"", 1, call(), callee, saver=worker), callee, call())
    assert isinstance(ending, Raised)
    assert ending.is_final


def test_the_function_is_not_called_for_a_task_that_is_gone_and_waits_while_that_is_unknown(
    worker: Worker, task: CurrentTask
) -> None:
    worker.uncertain = 2
    counting = Counting()
    assert task.once("n", counting) == 1
    worker.error = NotSaved("gone")
    with pytest.raises(NotSaved, match="gone"):
        task.once("m", counting)
    assert counting.calls == 1


def test_a_result_that_another_thread_has_saved_since_the_first_look_counts(worker: Worker, run: Delivered) -> None:
    function = Counting()
    late = _Call(run, None, "pay", function)
    assert call_once(run, None, "pay", function) == 1
    with late:
        assert late.read() == 1
    assert function.calls == 1


def test_a_name_that_is_under_way_is_refused(worker: Worker, task: CurrentTask) -> None:
    with pytest.raises(ConfigurationError, match="under way in this task already"):
        task.once("n", lambda: task.once("n", Counting()))
    assert task.once("n", Counting()) == 1

    barrier = threading.Barrier(8)
    counting = Counting()

    def use() -> object:
        barrier.wait()
        try:
            return task.once("m", counting)
        except ConfigurationError:
            return None

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: use(), range(8)))
    assert (counting.calls, found - {None}) == (1, {1})


def test_a_result_whose_saving_was_interrupted_is_saved_without_another_call(
    worker: Worker, run: Delivered, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.held = []
    counting = Counting()
    task = CurrentTask(run)

    def interrupt(*_: object) -> bool:
        raise SoftTimeLimitExceeded

    with monkeypatch.context() as patch:
        patch.setattr("threading.Event.wait", interrupt)
        with pytest.raises(SoftTimeLimitExceeded):
            task.once("n", counting)
    worker.held = None
    assert task.once("n", counting) == 1
    assert counting.calls == 1
    run.calls = None  # as at the begin of a run
    assert task.once("n", counting) == 1


def test_a_thread_whose_save_is_never_answered_ends_when_the_task_is_gone(worker: Worker, task: CurrentTask) -> None:
    worker.held = []

    def leave() -> int:
        worker.error = NotSaved("gone")
        return 1

    with pytest.raises(NotSaved, match="gone"):
        task.once("n", leave)


def test_each_item_of_a_chunk_has_its_own_names(worker: Worker) -> None:
    program = Program({"m:f": lambda number: current_task().once("n", lambda: 10 * number)})
    callee = program.find("m:f")
    assert callee is not None
    chunk = call([1], [2], chunk=True)
    run = Delivered("task-a", b"", 1, chunk, callee, saver=worker)
    ending = invoke(run, callee, chunk)
    assert isinstance(ending, ChunkRan)
    assert [bytes(item.result) for item in ending.items] == [b"10", b"20"]
    assert worker.results == {"0/n": b"10", "1/n": b"20"}
    assert run.item is None


async def test_coroutines_wait_for_the_function_and_for_the_save(worker: Worker, task: CurrentTask) -> None:
    async def fetch(number: int) -> Receipt:
        await asyncio.sleep(0)
        return pay(number)

    worker.held = []
    waiting = asyncio.ensure_future(task.once_async("n", fetch, 5))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    with pytest.raises(ConfigurationError, match="under way"):
        await task.once_async("n", fetch, 6)
    await asyncio.to_thread(worker.held.pop())
    assert await waiting == await task.once_async("n", fetch, 7) == Receipt(5, date(2026, 1, 2))
    worker.held = None
    assert await task.once_async("in a thread", asyncio.to_thread, pay, 3) is not None
    plain = cast("Callable[[], Awaitable[int]]", Counting())
    assert await task.once_async("plain", plain) == 1


async def test_a_coroutine_that_is_cancelled_while_it_saves_goes_on_to_save(worker: Worker, task: CurrentTask) -> None:
    worker.held = []
    counting = Counting()

    async def count() -> int:
        return counting()

    waiting = asyncio.ensure_future(task.once_async("n", count))
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    worker.held.pop()()
    await asyncio.sleep(0)
    assert await task.once_async("n", count) == 1
    assert counting.calls == 1


async def test_the_blocking_form_is_refused_in_a_coroutine_and_the_other_one_for_an_async_def(
    task: CurrentTask,
) -> None:
    async def fetch() -> int:
        return 1

    with pytest.raises(RuntimeError, match="use `await current_task"):
        task.once("n", Counting())
    with pytest.raises(ConfigurationError, match="is an `async def`"):
        _ = task.once("n", fetch)  # mypy also says that the coroutine is not awaited


def test_nothing_is_saved_for_a_task_that_was_never_begun() -> None:
    run: Running = Delivered("task-a", b"", 1, call())
    with pytest.raises(NotSaved, match="has ended"):
        CurrentTask(run).once("n", Counting())


def test_a_run_without_a_worker_returns_what_it_saved() -> None:
    program = Program({"m:f": lambda: current_task().once("n", Counting())})
    callee = program.find("m:f")
    assert callee is not None
    assert invoke(Delivered("task-a", b"", 1, call(), callee, saver=Worker()), callee, call()) == Returned(
        msgspec.Raw(b"1")
    )
