"""Submits tasks, one or many, and waits until they are accepted, on a thread or in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, Generic, TypeVar, cast

from herdmaster.api.future import Future
from herdmaster.api.io_thread import Runtime
from herdmaster.api.options import OnDuplicate
from herdmaster.api.order import Order
from herdmaster.errors import DuplicateTask, HerdError, NotAllSubmitted, NotSubmitted, SubmissionUnknown

R = TypeVar("R")

_GRACE_SECONDS: Final = 5.0


def submit_and_wait(runtime: Runtime, order: Order, owner: object, patience: float) -> Future[R]:
    """Raises NotSubmitted, SubmissionUnknown, DuplicateTask; RuntimeError when closed."""
    ended = threading.Lock()  # the cheapest thing that one thread can wait for and another can set
    ended.acquire()
    errors: list[HerdError] = []

    def settled(error: HerdError | None) -> None:
        if error is not None:
            errors.append(error)
        ended.release()

    future: Future[R] = runtime.submit(order, owner, settled)
    # The runtime gives up by itself when the time is over. This is for a process whose threads hardly get to run.
    try:
        settled_in_time = ended.acquire(timeout=-1 if order.waits else patience + _GRACE_SECONDS)
    except BaseException:  # Ctrl-C: what is not on its way is not to be submitted later
        runtime.give_up(order.task.name)
        raise
    if not settled_in_time:
        raise SubmissionUnknown([order.task.name])
    if not errors:
        return future
    del future  # it holds the error, too, and the error will hold this frame
    return attach_or_raise(runtime, order, owner, errors.pop())


async def submit_and_wait_async(runtime: Runtime, order: Order, owner: object) -> Future[R]:
    """As `submit_and_wait`. Cancelled, it gives the submission up: the task is accepted only if it was on its way."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    errors: list[HerdError] = []

    def settled(error: HerdError | None) -> None:
        if error is not None:
            errors.append(error)
        runtime.wake(waiter)

    future: Future[R] = runtime.submit(order, owner, settled)
    try:
        await waiter
    except asyncio.CancelledError:
        with contextlib.suppress(RuntimeError):  # closed: it is given up already
            runtime.give_up(order.task.name)
        raise
    if not errors:
        return future
    del future  # as above
    return attach_or_raise(runtime, order, owner, errors.pop())


def attach_or_raise(runtime: Runtime, order: Order, owner: object, error: HerdError) -> Future[R]:
    """The future of the task that holds the key, where that is wanted."""
    if isinstance(error, DuplicateTask) and order.on_duplicate is OnDuplicate.RETURN:
        # It gives what that task gives; that it is an R is the claim of the caller that chose the key.
        return cast("Future[R]", runtime.attach_holder(error.name, owner, order))
    raise error


PART: Final = 2000
"""Tasks that are under way at a time: each of them has `submit_timeout` seconds, however many there are in all."""


class _Part(Generic[R]):
    """Some of the tasks, on their way. `ended` is called when the last is settled, in the loop's thread."""

    def __init__(self, runtime: Runtime, orders: Sequence[Order], owner: object, ended: Callable[[], None]) -> None:
        self._runtime = runtime
        self._orders = orders
        self._owner = owner
        self._ended = ended
        self._errors: dict[str, HerdError] = {}
        self._left = len(orders)
        self._futures: list[Future[R]] = runtime.submit_many(orders, owner, self._settled)

    def _settled(self, name: str, error: HerdError | None) -> None:
        if error is not None:
            self._errors[name] = error
        self._left -= 1
        if self._left == 0:
            self._ended()

    def give_up(self) -> None:
        for order in self._orders:
            self._runtime.give_up(order.task.name)

    def futures(self) -> Iterator[Future[R] | HerdError]:
        """What is known of each."""
        for order, future in zip(self._orders, self._futures, strict=True):
            error = self._errors.get(order.task.name)
            try:
                yield future if error is None else attach_or_raise(self._runtime, order, self._owner, error)
            except HerdError as found:
                yield found


class _Whole(Generic[R]):
    """Collects the parts until one of them has an error."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self._orders = orders
        self._futures: list[Future[R] | None] = []
        self._errors: dict[int, HerdError] = {}

    def parts(self) -> Iterator[Sequence[Order]]:
        for start in range(0, len(self._orders), PART):
            if self._errors:
                return
            yield self._orders[start : start + PART]

    def add(self, found: Iterable[Future[R] | HerdError]) -> None:
        for each in found:
            if isinstance(each, Future):
                self._futures.append(each)
            else:
                self._errors[len(self._futures)] = each
                self._futures.append(None)

    def result(self) -> list[Future[R]]:
        """Raises NotAllSubmitted."""
        if self._errors:
            self.add(NotSubmitted(f"{order.task.name} was not tried") for order in self._orders[len(self._futures) :])
            raise NotAllSubmitted(self._futures, self._errors)
        return [future for future in self._futures if future is not None]


def submit_all(runtime: Runtime, orders: Sequence[Order], owner: object, patience: float) -> list[Future[R]]:
    """The futures in order. Raises NotAllSubmitted; HerdClosed."""
    whole: _Whole[R] = _Whole(orders)
    for some in whole.parts():
        ended = threading.Event()
        part: _Part[R] = _Part(runtime, some, owner, ended.set)
        # As for a single one: the runtime gives up by itself.
        try:
            settled_in_time = ended.wait(None if some[0].waits else patience + _GRACE_SECONDS)
        except BaseException:  # Ctrl-C, as for a single one
            part.give_up()
            raise
        if settled_in_time:
            whole.add(part.futures())
        else:
            whole.add(SubmissionUnknown([order.task.name]) for order in some)
    return whole.result()


async def submit_all_async(runtime: Runtime, orders: Sequence[Order], owner: object) -> list[Future[R]]:
    """As `submit_all`. Cancelled, it gives up those that are not on their way."""
    whole: _Whole[R] = _Whole(orders)
    for some in whole.parts():
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        part: _Part[R] = _Part(runtime, some, owner, partial(runtime.wake, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            part.give_up()
            raise
        whole.add(part.futures())
    return whole.result()


def orders_of(make: Callable[[tuple[object, ...]], Order], items: Iterable[tuple[object, ...]]) -> list[Order]:
    """All or nothing: what is wrong with one is raised before any is submitted."""
    orders: list[Order] = []
    for position, item in enumerate(items):
        if not isinstance(item, tuple):
            raise TypeError(
                f"item {position} is a {type(item).__qualname__}, where the arguments of one task are a tuple, "
                "such as (x,) or (x, y)"
            )
        try:
            orders.append(make(item))
        except HerdError as error:
            error.add_note(f"This was item {position}; none was submitted.")
            raise
    return orders
