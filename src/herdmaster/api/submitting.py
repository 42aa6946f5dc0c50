"""Submits tasks, one or many, and waits until they are accepted, on a thread or in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, Generic, TypeVar, cast

from herdmaster.api.callee import Callee
from herdmaster.api.future import Future
from herdmaster.api.herd_core import HerdCore
from herdmaster.api.io_thread import IoThread
from herdmaster.api.options import OnDuplicate, TaskOptions
from herdmaster.api.order import Order, order_call
from herdmaster.core.flow_creation import NewFlow
from herdmaster.errors import DuplicateTask, HerdError, NotAllSubmitted, NotSubmitted, SubmissionUnknown
from herdmaster.running.adopting import adopt, adopt_async

R = TypeVar("R")

PART: Final = 2000
"""Tasks of `submit_many` that are under way at a time. Each has `submit_timeout` seconds, however many there are."""
_GRACE_SECONDS: Final = 5.0
"""The I/O thread gives a submission up in time. These further seconds are for a process whose threads rarely run."""

# --- one task --------------------------------------------------------------------------------------------------------


def submit_and_wait(core: HerdCore, order: Order) -> Future[R]:
    """Submit a task and return its future once the task is accepted.

    Raises NotSubmitted, SubmissionUnknown, DuplicateTask, HerdClosed.
    """
    settled = threading.Lock()  # the cheapest object that one thread can wait for and another can set
    settled.acquire()
    errors: list[HerdError] = []

    def settle(error: HerdError | None) -> None:
        if error is not None:
            errors.append(error)
        settled.release()

    io_thread = core.started()
    if order.child:
        order = order.of_parent(adopt((order.task.name,)))
    future: Future[R] = io_thread.submit(order, core, settle)
    # A large flow may take longer: the I/O thread gives it up when no part of it is accepted for so long.
    is_open = order.waits or isinstance(order.task, NewFlow)
    patience = -1 if is_open else core.settings.submit_timeout + _GRACE_SECONDS
    try:
        settled_in_time = settled.acquire(timeout=patience)
    except BaseException:  # Ctrl-C: a task that is not on its way must not be submitted later
        io_thread.give_up(order.task.name)
        raise
    if not settled_in_time:
        raise SubmissionUnknown([order.task.name])
    if not errors:
        return _accepted(io_thread, core, order, future)
    del future  # it holds the error, and the error will hold this frame
    return _attach_or_raise(io_thread, core, order, errors.pop())


async def submit_and_wait_async(core: HerdCore, order: Order) -> Future[R]:
    """As `submit_and_wait`. If it is cancelled, the task is accepted only if it was already on its way."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    errors: list[HerdError] = []
    io_thread = core.started()

    def settle(error: HerdError | None) -> None:
        if error is not None:
            errors.append(error)
        io_thread.wake(waiter)

    if order.child:
        order = order.of_parent(await adopt_async((order.task.name,)))
    future: Future[R] = io_thread.submit(order, core, settle)
    try:
        await waiter
    except asyncio.CancelledError:
        with contextlib.suppress(RuntimeError):  # the Herd is closed, which has given it up
            io_thread.give_up(order.task.name)
        raise
    if not errors:
        return _accepted(io_thread, core, order, future)
    del future  # as above
    return _attach_or_raise(io_thread, core, order, errors.pop())


def _accepted(io_thread: IoThread, core: HerdCore, order: Order, future: Future[R]) -> Future[R]:
    """Return the future of what was accepted: of a flow with a key, the one that all who submit it share."""
    if isinstance(order.task, NewFlow) and order.task.keyed_name is not None:
        return cast("Future[R]", io_thread.attach_holder(order.task.keyed_name, core, order))
    return future


def _attach_or_raise(io_thread: IoThread, core: HerdCore, order: Order, error: HerdError) -> Future[R]:
    """Return the future of the task that holds the order's key, if `on_duplicate` asks for that."""
    if isinstance(error, DuplicateTask) and order.on_duplicate is OnDuplicate.RETURN:
        # The caller who chose the key claims that the holder's result is an R, too.
        return cast("Future[R]", io_thread.attach_holder(error.name, core, order))
    raise error


# --- many tasks ------------------------------------------------------------------------------------------------------


def order_many(
    core: HerdCore, callee: Callee, options: TaskOptions, items: Iterable[tuple[object, ...]]
) -> list[Order]:
    """Return an order for each tuple of arguments. The first error is raised before any task is submitted."""
    orders: list[Order] = []
    begin = None if core.spans is None else core.spans.begin_create
    for position, item in enumerate(items):
        if not isinstance(item, tuple):
            raise TypeError(
                f"item {position} is a {type(item).__qualname__}, where the arguments of one task are a tuple, "
                "such as (x,) or (x, y)"
            )
        try:
            orders.append(order_call(core.new_ulid(), callee, item, {}, options, begin=begin, keyring=core.keyring))
        except HerdError as error:
            error.add_note(f"This was item {position}; none was submitted.")
            raise
    return orders


def submit_all(core: HerdCore, orders: Sequence[Order]) -> list[Future[R]]:
    """Submit tasks and return their futures, in order, once all are accepted. Raises NotAllSubmitted, HerdClosed."""
    with _span_of(core, orders):
        return _submit_all(core, orders)


def _span_of(core: HerdCore, orders: Sequence[Order]) -> AbstractContextManager[None]:
    """Return the context in which a batch is submitted."""
    sendings = [order.sending for order in orders if order.sending is not None]
    return contextlib.nullcontext() if core.spans is None else core.spans.send_batch(sendings)


def _submit_all(core: HerdCore, orders: Sequence[Order]) -> list[Future[R]]:
    whole: _Whole[R] = _Whole(orders)
    for some in whole.parts():
        orders = some
        if any(order.child for order in some):
            parent = adopt(order.task.name for order in some)
            orders = [order.of_parent(parent) for order in some]
        settled = threading.Event()
        part: _Part[R] = _Part(core, core.started(), orders, settled.set)
        patience = None if some[0].waits else core.settings.submit_timeout + _GRACE_SECONDS
        try:
            settled_in_time = settled.wait(patience)
        except BaseException:  # Ctrl-C, as for one task
            part.give_up()
            raise
        if settled_in_time:
            whole.add(part.futures())
        else:
            whole.add(SubmissionUnknown([order.task.name]) for order in some)
    return whole.result()


async def submit_all_async(core: HerdCore, orders: Sequence[Order]) -> list[Future[R]]:
    """As `submit_all`. If it is cancelled, it gives up the tasks that are not on their way."""
    with _span_of(core, orders):
        return await _submit_all_async(core, orders)


async def _submit_all_async(core: HerdCore, orders: Sequence[Order]) -> list[Future[R]]:
    whole: _Whole[R] = _Whole(orders)
    for some in whole.parts():
        orders = some
        if any(order.child for order in some):
            parent = await adopt_async(order.task.name for order in some)
            orders = [order.of_parent(parent) for order in some]
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        io_thread = core.started()
        part: _Part[R] = _Part(core, io_thread, orders, partial(io_thread.wake, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            part.give_up()
            raise
        whole.add(part.futures())
    return whole.result()


class _Part(Generic[R]):
    """Some of the tasks, on their way. `settled` is called on the I/O thread when the last one is settled."""

    def __init__(
        self, core: HerdCore, io_thread: IoThread, orders: Sequence[Order], settled: Callable[[], None]
    ) -> None:
        self._core = core
        self._io_thread = io_thread
        self._orders = orders
        self._settled = settled
        self._errors: dict[str, HerdError] = {}
        self._left = len(orders)
        self._futures: list[Future[R]] = io_thread.submit_many(orders, core, self._settle)

    def _settle(self, name: str, error: HerdError | None) -> None:
        if error is not None:
            self._errors[name] = error
        self._left -= 1
        if self._left == 0:
            self._settled()

    def give_up(self) -> None:
        """End the wait for those that are not on their way."""
        for order in self._orders:
            self._io_thread.give_up(order.task.name)

    def futures(self) -> Iterator[Future[R] | HerdError]:
        """Yield the future or the error of each task, in order."""
        for order, future in zip(self._orders, self._futures, strict=True):
            error = self._errors.get(order.task.name)
            try:
                yield future if error is None else _attach_or_raise(self._io_thread, self._core, order, error)
            except HerdError as found:
                yield found


class _Whole(Generic[R]):
    """Collects the parts of `submit_many` until one of them has an error."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self._orders = orders
        self._futures: list[Future[R] | None] = []
        self._errors: dict[int, HerdError] = {}

    def parts(self) -> Iterator[Sequence[Order]]:
        """Yield the parts to submit, until one of them had an error."""
        for start in range(0, len(self._orders), PART):
            if self._errors:
                return
            yield self._orders[start : start + PART]

    def add(self, found: Iterable[Future[R] | HerdError]) -> None:
        """Add the futures and errors of the next part."""
        for each in found:
            if isinstance(each, Future):
                self._futures.append(each)
            else:
                self._errors[len(self._futures)] = each
                self._futures.append(None)

    def result(self) -> list[Future[R]]:
        """Return all futures. Raises NotAllSubmitted."""
        if self._errors:
            self.add(NotSubmitted(f"{order.task.name} was not tried") for order in self._orders[len(self._futures) :])
            raise NotAllSubmitted(self._futures, self._errors)
        return [future for future in self._futures if future is not None]
