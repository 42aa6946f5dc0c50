"""However items are cut into chunks, and whatever becomes of them: to their caller nothing changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from herdmaster import Herd, NotSerializable
from herdmaster.api.callee import Callee, callee_of
from herdmaster.api.future import Future
from herdmaster.api.internals import core_of, resolve
from herdmaster.api.map import Feeder, Results
from herdmaster.api.options import TaskOptions
from herdmaster.api.results import ChunkReader, ChunkResults
from herdmaster.core.chunk import ITEM_ROOM, join_items, join_results, split_chunk
from herdmaster.core.failure import ErrorInfo, error_info
from herdmaster.core.outcome import Outcome, OutcomeState, encode_result
from herdmaster.core.payload import Call, decode_arguments

LONG = ITEM_ROOM // 3


def measure(item: str | int) -> int:
    """Fails for negative numbers."""
    if isinstance(item, int) and item < 0:
        raise ValueError(item)
    return item if isinstance(item, int) else len(item)


class Keeper:
    """Of futures that are done before they are waited for."""

    def pin(self, future: object, /) -> None: ...

    def unpin(self, future: object, /) -> None: ...

    def call_back(self, callback: Callable[[], None], /) -> None:
        callback()

    def wake(self, waiter: asyncio.Future[None], /) -> None: ...

    def request_cancel(self, name: str, told: Callable[[bool], None], /) -> None: ...

    def find(self, name: str, found: Callable[..., None], /) -> None: ...


class Inline:
    """Runs what is submitted at once, as a worker would."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def begin_task(
        self, callee: Callee, args: tuple[object, ...], kwargs: dict[str, object], options: TaskOptions, /
    ) -> Future[object]:
        callee.write_item(args)  # raises for what cannot be sent
        self.sizes.append(1)
        future: Future[object] = Future("task-alone", Keeper())
        try:
            resolve(future, measure(cast("int", args[0])), None)
        except ValueError as error:
            resolve(future, None, error)
        return future

    def begin_chunk(
        self, callee: Callee, items: Sequence[msgspec.Raw], options: TaskOptions, /
    ) -> Future[ChunkResults]:
        self.sizes.append(len(items))
        call = Call(1, callee.call, join_items(items), msgspec.Raw(b"{}"), chunk=True)
        results = join_results([self._run(each) for each in split_chunk(call)])
        future: Future[ChunkResults] = Future("task-chunk", Keeper())
        read = ChunkReader(callee.reader, len(items)).read(Outcome(OutcomeState.DONE, results))
        resolve(future, cast("ChunkResults", read), None)
        return future

    def _run(self, call: Call) -> msgspec.Raw | ErrorInfo:
        (item,), _ = decode_arguments(call)
        try:
            return encode_result(measure(cast("int", item)))
        except ValueError as error:
            return error_info(error)


def expected(item: object) -> object:
    """What an item gives: errors are told by their types and arguments."""
    if isinstance(item, (int, str)):
        try:
            return measure(item)
        except ValueError as error:
            return ValueError, error.args
    return NotSerializable


def told(value: object) -> object:
    if isinstance(value, NotSerializable):
        return NotSerializable
    return (type(value), value.args) if isinstance(value, Exception) else value


items = st.lists(
    st.integers(-3, 100) | st.sampled_from(["", "x" * LONG, "x" * (LONG + 9), "x" * (ITEM_ROOM + 1)]) | st.just(1j),
    max_size=30,
)


@given(items, st.integers(1, 12), st.integers(0, 20))
def test_however_items_are_cut_into_chunks_their_results_are_the_same(
    values: list[object], chunksize: int, more: int
) -> None:
    taken = 0

    def source() -> Iterator[tuple[object]]:
        nonlocal taken
        for value in values:
            taken += 1
            yield (value,)

    submitter = Inline()
    feeder = Feeder(submitter, callee_of("m:f", measure_any, None), TaskOptions(), source(), chunksize)
    window = chunksize + more
    found: list[object] = []
    for value in Results[object](feeder, window=window, return_exceptions=True):
        assert taken <= len(found) + window + 1  # one more, which had no room in its chunk
        found.append(told(value))

    assert found == [expected(value) for value in values]
    assert max(submitter.sizes, default=0) <= chunksize
    assert sum(submitter.sizes) == sum(expected(value) is not NotSerializable for value in values)


def measure_any(item: object) -> int:
    return measure(cast("int", item))


def test_a_herd_is_a_submitter() -> None:
    Feeder(core_of(Herd("localhost:1")), callee_of("m:f", None, None), TaskOptions(), iter(()), 1)
