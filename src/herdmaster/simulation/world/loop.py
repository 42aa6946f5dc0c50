"""An event loop on virtual time. Nothing sleeps, and the order of callbacks depends on nothing outside the loop.

Each callback belongs to the owner in whose callback it was scheduled, as in a real process. So a process can be killed
(its callbacks are dropped), be paused (its callbacks are put aside while time goes on), or have slept with its machine
(its timers are late by that time).
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

MAX_STEPS_PER_INSTANT: Final = 100_000
"""More callbacks than this in one instant mean that the code spins."""
MAX_CLOCK_READS_PER_STEP: Final = 20_000
"""A callback that reads the clock more often than this waits for time to pass, which it does not meanwhile."""
_MANY_TASKS: Final = 100


class Spin(BaseException):
    """Raised in code that would never return."""


def _no_trap() -> None:
    """The default of `Owner.trapped`."""


class Owner:
    """An owner of callbacks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.lag = 0.0
        """Seconds for which the machine has slept, by which its loop's clock is behind."""
        self.frozen: list[Handle] = []
        self.tasks: list[asyncio.Task[object]] = []
        self.steps = 0
        """Callbacks that have run."""
        self.trap = 0
        """The step before which `trapped` is called."""
        self.trapped: Callable[[], None] = _no_trap

    def __repr__(self) -> str:
        return self.name


class Handle(asyncio.TimerHandle):
    """A callback and its owner. `is_io`: the callback brings something from outside, so the lag of its owner does not
    apply."""

    __slots__ = ("args", "callback", "is_io", "lag", "owner")

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[object, ...],
        loop: VirtualLoop,
        owner: Owner,
        context: Context | None = None,
        *,
        is_io: bool = False,
    ) -> None:
        # The base class's constructor does work for debugging that costs as much as running the callback.
        self._when = when
        self._loop = loop
        self._cancelled = False
        self._scheduled = False
        self._source_traceback = None
        self._repr = None
        self._context = copy_context() if context is None else context
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.owner = owner
        self.lag = owner.lag
        self.is_io = is_io

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return hash(self._when)  # as in the base class; with an address the order of sets would differ in each run

    def __repr__(self) -> str:
        return f"<{self.callback} of {self.owner} at {self._when:.6f} s>"

    def cancel(self) -> None:
        self._cancelled = True
        self.callback = None
        self.args = ()

    def run(self) -> None:
        assert self.callback is not None
        try:
            self._context.run(self.callback, *self.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as the base class does it
            context = {"message": f"Exception in callback {self.callback}", "exception": error, "handle": self}
            self._loop.call_exception_handler(context)


class Connector(Protocol):
    """Opens connections for the loop; see `Network`."""

    async def connect(
        self, owner: Owner, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]: ...


class VirtualLoop(asyncio.AbstractEventLoop):
    """The one loop of all processes. `now` is the time of the world in seconds; `fail` is called with what a callback
    raises."""

    def __init__(self, start: float, fail: Callable[[str], None]) -> None:
        self.now = start
        self.world = Owner("world")
        self.current = self.world
        self.steps = 0
        self.connector: Connector | None = None
        self._fail = fail
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._sequence = 0
        self._stopped = False
        self._closed = False
        self._clock_reads = 0

    # --- running -----------------------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until `stop` is called, or no callback is left."""
        self._stopped = False
        _set_running_loop(self)
        try:
            instant, count = self.now, self.steps
            while not self._stopped and (self._ready or self._advance()):
                if self.now > instant:
                    instant, count = self.now, self.steps
                while self._ready and not self._stopped:
                    self._step(self._ready.popleft())
                    if self.steps - count > MAX_STEPS_PER_INSTANT:
                        self._fail(f"{self.current.name} spins: {count} callbacks at {instant:.6f} s")
                        self._stopped = True
        finally:
            self.current = self.world
            _set_running_loop(None)

    def _advance(self) -> bool:
        """Move time to the next timer, and make ready all that are due then. Return whether there was one."""
        timers = self._timers
        while timers and (timers[0][0] <= self.now or not self._ready):
            when, sequence, handle = heapq.heappop(timers)
            late = 0.0 if handle.is_io else handle.owner.lag - handle.lag
            if late:
                handle.lag = handle.owner.lag
                heapq.heappush(timers, (when + late, sequence, handle))
            elif handle.owner.alive and handle.callback is not None:
                self.now = max(self.now, when)
                self._ready.append(handle)
        return bool(self._ready)

    def _step(self, handle: Handle) -> None:
        owner = handle.owner
        if not owner.alive or handle.callback is None:
            return
        if owner.paused:
            owner.frozen.append(handle)
            return
        owner.steps += 1
        if owner.steps == owner.trap:
            self.run_as(self.world, owner.trapped)
            self._step(handle)
            return
        self.current = owner
        self.steps += 1
        self._clock_reads = 0
        handle.run()

    def stop(self) -> None:
        self._stopped = True

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Drop all callbacks; nothing can be scheduled any more."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    # --- owners ------------------------------------------------------------------------------------------------------

    def thaw(self, owner: Owner, *, io_first: bool) -> None:
        """Let the callbacks that were put aside run: in their order, or those from outside first, as in a loop that
        polls its sockets before its timers."""
        frozen, owner.frozen = owner.frozen, []
        owner.paused = False
        if io_first:
            frozen.sort(key=lambda handle: not handle.is_io)
        self._ready.extend(frozen)

    def pending_of(self, owner: Owner) -> list[Handle]:
        """Return the callbacks that are scheduled for an owner, in no particular order."""
        handles = [*self._ready, *owner.frozen, *(entry[2] for entry in self._timers)]
        return [handle for handle in handles if handle.owner is owner and not handle.cancelled()]

    # --- scheduling --------------------------------------------------------------------------------------------------

    def note_clock_read(self) -> None:
        self._clock_reads += 1
        if self._clock_reads > MAX_CLOCK_READS_PER_STEP:
            self._clock_reads = 0
            self._fail(f"{self.current.name} spins in one callback at {self.now:.6f} s")
            raise Spin

    def time(self) -> float:
        self.note_clock_read()
        return self.now - self.current.lag

    def call_soon(self, callback: Callable[..., object], *args: object, context: Context | None = None) -> Handle:
        handle = Handle(self.now, callback, args, self, self.current, context)
        if self.current.alive and not self._closed:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> Handle:
        return self._push(self.now + delay, Handle(self.now + delay, callback, args, self, self.current, context))

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> Handle:
        owner = self.current
        return self._push(when + owner.lag, Handle(when, callback, args, self, owner, context))

    def call_for(self, owner: Owner, when: float, callback: Callable[..., object], *args: object) -> Handle:
        """Schedule a callback at a time of the world for another owner, as something that arrives from outside."""
        return self._push(when, Handle(when, callback, args, self, owner, is_io=True))

    def call_world(self, when: float, callback: Callable[..., object], *args: object) -> Handle:
        """Schedule a callback that belongs to no process."""
        return self.call_for(self.world, when, callback, *args)

    def _push(self, when: float, handle: Handle) -> Handle:
        if handle.owner.alive and not self._closed:
            self._sequence += 1
            heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: a cancelled timer stays until its time comes."""

    def run_as(self, owner: Owner, action: Callable[[], T]) -> T:
        """Call `action`; what it schedules belongs to `owner`."""
        before, self.current = self.current, owner
        try:
            return action()
        finally:
            self.current = before

    # --- the interface of asyncio -----------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[object]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[object, None, T] | Coroutine[object, object, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)  # type: ignore[arg-type]  # typeshed wants no generators, asyncio takes them
        tasks = self.current.tasks
        if len(tasks) > _MANY_TASKS:
            tasks[:] = [each for each in tasks if not each.done()]
        tasks.append(task)
        return task

    def run_in_executor(self, _executor: object, func: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Run a function in a callback: there are no other threads."""
        done: asyncio.Future[T] = asyncio.Future(loop=self)

        def run() -> None:
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - the caller gets it
                done.set_exception(error)

        self.call_soon(run)
        return done

    def get_debug(self) -> bool:
        return False

    def get_exception_handler(self) -> None:
        """Return None: the loop handles exceptions itself."""

    def set_exception_handler(self, _handler: object) -> None:
        """Do nothing: a callback that raises fails the run."""

    def call_exception_handler(self, context: dict[str, object]) -> None:
        if not self._closed and self.current.alive:
            error = context.get("exception")
            self._fail(f"{self.current.name}: {context.get('message')}: {type(error).__name__}: {error}")

    async def create_connection(  # type: ignore[override]  # of the many forms only the one that the client uses
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        assert self.connector is not None
        return await self.connector.connect(self.current, protocol_factory, host, port)
