"""`IoThread`: the thread with an event loop that talks to ZooKeeper for a Herd and resolves its futures.

Calls from other threads are collected and wake the loop once per turn. No user code runs on the I/O thread: callbacks
go to `CallbackThreads`, and coroutines that wait are woken in their own loops, once per turn.

The garbage collector may drop a future at any place, in the middle of each of these methods and of those of the
standard library's futures. So the code that it calls takes no lock: a dropped future's reference is put aside and
forgotten later. Finalisers and signal handlers of the user run at any place, too, and may submit tasks and even wait.
So locks are reentrant, the I/O thread waits for none of them, and it is woken through a socket: nothing else can run
between the flag `_woken` and the system call. (`call_soon_threadsafe` makes objects and calls functions first; code
that ran there and waited would wait for a loop that has not been woken yet.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar, cast

import msgspec

from herdmaster.api import fork_and_exit, io_logs
from herdmaster.api.errors import HerdClosed
from herdmaster.api.flow_results import FlowReader, resolve_flow
from herdmaster.api.future import Future
from herdmaster.api.future_refs import FutureRef, ref_to
from herdmaster.api.internals import follow, leave_to_parent, note_cancelled, owner_of, resolve, resolve_nowait
from herdmaster.api.loop_thread import AnyLoopThread, LoopThread
from herdmaster.api.order import Order
from herdmaster.api.results import Reader, not_kept, read_outcome, resolve_with_outcome
from herdmaster.api.session import HerdClient
from herdmaster.api.submissions import Settled, Submission, Submissions
from herdmaster.api.wakeups import Wakeups
from herdmaster.core.outcome import Outcome, OutcomeState
from herdmaster.errors import HerdError, OutcomeGone
from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.client.flow_ends import EndOfFlow, FlowEnd, FlowEndQuestions
from herdmaster.roles.client.questions import Failed, Question
from herdmaster.roles.shared.cancel_requests import Answer
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper.errors import ClientClosed

R = TypeVar("R")
_log = logging.getLogger("herdmaster.client")

CLOSED: Final = "this Herd is closed, by close() or at the end of its `with` block: another `with herd:` opens it again"
_CLOSED_EARLY: Final = "the Herd was closed before the outcome came; wait for it with herd.future(name)"
GOODBYE_SECONDS: Final = 2.0
"""How long the farewell to ZooKeeper may take. If the server does not answer, the session lapses."""
CALLBACK_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 10.0
_SOON: Final = 0.01
_MANY_DROPPED: Final = 100


class IoThread:
    """Starts at once. `close` ends the session and the thread."""

    def __init__(
        self,
        hosts: str,
        settings: ClientSettings,
        patience: float,
        system: System | None = None,
        make_thread: Callable[[Callable[[], None]], AnyLoopThread] = LoopThread,
    ) -> None:
        """A submission that is not accepted within `patience` seconds is given up. Raises InvalidConnectString."""
        self._client = HerdClient(hosts, settings, system)
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.RLock()
        self._woken = False
        self._closed = False
        self._stop_is_asked = False
        self.has_failed = False
        """Whether the thread has ended although nothing closed it. The next use of the Herd starts another one."""
        self._refs: dict[str, FutureRef] = {}  # of futures that are not done
        self._dropped: deque[FutureRef] = deque()
        self._pinned: set[object] = set()
        self._thread = make_thread(self._take_calls)
        self._ring = self._thread.ring
        self._loop = self._thread.loop
        self._callbacks = self._thread.callbacks
        # Of the I/O thread alone:
        self._submissions = Submissions(self._client, self._loop, self, patience)
        self._flow_ends = FlowEndQuestions(self._client.questions)
        self._wakeups = Wakeups(self._loop)
        self._stop = asyncio.Event()
        try:
            self._thread.start(self._serve, self._note_failure, self._end)
        except RuntimeError:  # the interpreter ends, or the machine has no more threads
            self._thread.release()
            raise
        fork_and_exit.add_session(self)

    # --- any thread --------------------------------------------------------------------------------------------------

    def submit(self, order: Order, owner: object, settled: Settled | None = None) -> Future[R]:
        """Submit a task and return its future, which gets the outcome, or the error of the submission. Until then the
        future keeps `owner` alive. Raises HerdClosed."""
        future: Future[R] = self._new_future(order, owner)
        self._post(partial(self._submissions.submit, Submission(order, settled)))
        return future

    def submit_many(
        self, orders: Iterable[Order], owner: object, settled: Callable[[str, HerdError | None], None]
    ) -> list[Future[R]]:
        """As `submit`, all in one turn of the loop, so that they share transactions."""
        wanted = [Submission(order, partial(settled, order.task.name)) for order in orders]
        futures: list[Future[R]] = [self._new_future(each.order, owner) for each in wanted]
        self._post(partial(self._submissions.submit_many, wanted))
        return futures

    def _new_future(self, order: Order, owner: object) -> Future[R]:
        kind = cast("type[Future[R]]", order.future)
        future = kind(order.task.name, self, owner, has_outcome=not order.ignore_result)
        self._refs[future.name] = ref_to(future, order.reader, self._drop)
        return future

    def attach(
        self, name: str, owner: object, reader: Reader | None = None, kind: type[Future[object]] = Future
    ) -> Future[object]:
        """Return the future of a task, or with another `kind` of a flow: the one that this process already has, or a
        new one. Raises HerdClosed."""
        with self._lock:
            ref = self._refs.get(name)
            future = None if ref is None else ref()
            if future is None:
                future = kind(name, self, owner)
                self._refs[name] = ref_to(future, reader, self._drop)
                self._post(partial(self._client.attach, name, self.end))
            return future

    def attach_holder(self, holder: str, owner: object, order: Order) -> Future[object]:
        """Return the future of the task that holds the key of an order; a failed one if the order wants no result."""
        if not order.ignore_result:
            return self.attach(holder, owner, order.reader, order.future)
        future: Future[object] = Future(holder, self, owner, has_outcome=False)
        future.set_exception(not_kept(holder))
        return future

    def request_cancel(self, name: str, told: Answer) -> None:
        """Ask the primary to cancel a task. `told` is called once on the I/O thread, after the task's future, if there
        is one here, has its outcome. Raises HerdClosed."""
        self._post(partial(self._submissions.cancel, name, told))

    def ask(self, question: Question, failed: Failed, /) -> None:
        """Ask ZooKeeper a question. Both arguments are called on the I/O thread. Raises HerdClosed."""
        self._post(partial(self._client.questions.ask, question, failed))

    def not_ready(self) -> str | None:
        """Return what keeps the session from its work, as a sentence; None if nothing does."""
        return self._client.not_ready()

    def measure(self, instruments: Instruments) -> None:
        """Count submissions from now on, and measure the requests of further sessions. Raises HerdClosed."""
        self._post(partial(self._measure, instruments))

    def _measure(self, instruments: Instruments) -> None:
        self._client.system = msgspec.structs.replace(self._client.system, instruments=instruments)
        self._submissions.count = instruments.count_submissions

    def give_up(self, name: str) -> None:
        """End the wait for the acceptance of a task, with what is known then. Raises HerdClosed."""
        self._post(partial(self._submissions.give_up, name))

    def pin(self, future: Future[R], /) -> None:
        """Keep the future until it is done, even if nothing else refers to it."""
        self._pinned.add(future)
        if future.done():  # perhaps since before it was added
            self._pinned.discard(future)

    def unpin(self, future: Future[R], /) -> None:
        """Keep the future no longer."""
        self._pinned.discard(future)

    def begin_close(self) -> None:
        """Ask for the end of the session, and do not wait for it."""
        with self._lock:
            if self._stop_is_asked:
                return
            self._closed = True
            self._calls.append(self._stop.set)
            with contextlib.suppress(OSError):  # the thread was awake, and has ended already
                self._ring()
            self._stop_is_asked = True

    def close(self) -> None:
        """End the session. Futures that are not done fail with HerdClosed; their tasks go on. After Ctrl-C the session
        ends without this."""
        try:
            self.begin_close()
            if self._thread.is_current:
                return  # a finaliser that the collector happened to run here
            self._thread.join(JOIN_SECONDS)
            self._callbacks.close(CALLBACK_SECONDS)
            io_logs.flush()
        except KeyboardInterrupt:
            self.begin_close()  # it may have been interrupted itself
            raise

    def leave_to_parent(self) -> None:
        """In a forked child: fail all futures, because the session is the parent's."""
        error = ClientClosed(
            "this future was made before the fork, and the parent process has its session; "
            "to wait in this process use herd.future(name)"
        )
        for ref in tuple(self._refs.values()):
            future = ref()
            if future is not None:
                leave_to_parent(future, error)

    def _drop(self, ref: FutureRef) -> None:
        """Called by the garbage collector: takes no lock, and seldom makes a system call."""
        self._dropped.append(ref)
        if len(self._dropped) >= _MANY_DROPPED and not self._woken and not self._closed:
            self._woken = True
            with contextlib.suppress(OSError):  # the thread ends just now
                self._ring()  # at once, see above

    def _post(self, call: Callable[[], None]) -> None:
        """Run `call` on the I/O thread, in order."""
        with self._lock:
            if self._closed:
                raise HerdClosed(CLOSED)
            self._calls.append(call)
            if not self._woken:
                self._woken = True
                try:
                    self._ring()  # at once, see above
                except OSError:  # the thread has failed just now
                    raise HerdClosed(CLOSED) from None

    # --- the I/O thread: its life ------------------------------------------------------------------------------------

    def _note_failure(self, error: BaseException) -> None:
        self.has_failed = True
        _log.error("the thread that talks to ZooKeeper failed", exc_info=error)

    async def _serve(self) -> None:
        session = asyncio.ensure_future(self._client.keep(self._stop))
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((session, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            stopped.cancel()
            await session  # raises: without a session nothing is sent any more
        self._client.stop()
        await asyncio.wait((session,), timeout=GOODBYE_SECONDS)

    def _end(self) -> None:
        self._closed = True
        self._thread.release()
        self._take_calls()
        self._submissions.end()
        error = HerdClosed(_CLOSED_EARLY)
        for name in tuple(self._refs):
            self.end(name, None, error)
        self._client.cancels.end()
        self._client.questions.end()
        self._pinned.clear()
        self._wakeups.flush()
        self._callbacks.end()
        fork_and_exit.remove_session(self)

    def _take_calls(self) -> None:
        self._thread.hush()
        # Before the calls: a caller that adds one from here on wakes the loop again.
        self._woken = False
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception:  # noqa: BLE001 - the other calls must still begin
                _log.exception("a request of this program could not be begun")
        if self._dropped and not self._loop.is_closed():
            self._forget_dropped()

    def _forget_dropped(self) -> None:
        # `attach` may be replacing a dropped reference by a new one.
        if not self._lock.acquire(blocking=False):
            self._loop.call_later(_SOON, self._take_calls)
            return
        dropped: list[FutureRef] = []
        try:
            while self._dropped:
                ref = self._dropped.popleft()
                if self._refs.get(ref.name) is ref:
                    del self._refs[ref.name]
                    dropped.append(ref)
        finally:
            self._lock.release()
        for ref in dropped:
            self._client.outcomes.forget(ref.name)

    # --- the I/O thread: futures -------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the Herd is closed, or is being closed."""
        return self._stop.is_set() or self._loop.is_closed()

    def waits_for(self, name: str) -> bool:
        """Say whether there is a future for the task."""
        return name in self._refs

    def follow(self, order: Order, holder: str) -> None:
        """Make a future that was returned already that of the task that holds the order's key."""
        ref = self._refs.pop(order.task.name, None)
        future = None if ref is None else ref()
        if future is not None:
            self._callbacks.put(partial(self._attach_to, future, holder, order))  # it takes a lock, so not here

    def _attach_to(self, future: Future[object], holder: str, order: Order) -> None:
        future.name = holder
        try:
            follow(future, self.attach_holder(holder, owner_of(future), order))
        except RuntimeError:
            resolve(future, None, HerdClosed(_CLOSED_EARLY))

    def end(self, name: str, outcome: Outcome | None, error: Exception | None) -> bool:
        """End the future of a task with its outcome or an error. Return False if there is no future."""
        ref = self._refs.pop(name, None)
        future = None if ref is None else ref()
        is_cancelled = outcome is not None and outcome.state is OutcomeState.CANCELLED
        if ref is not None and future is not None:
            if is_cancelled:
                note_cancelled(future)
            self._resolve(future, ref.reader, outcome, error)
        self._client.cancels.settle(name, is_cancelled=is_cancelled)
        return future is not None

    def _resolve(
        self, future: Future[object], reader: Reader | None, outcome: Outcome | None, error: Exception | None
    ) -> None:
        if outcome is not None and reader is not None and reader.runs_code(outcome):
            self._callbacks.put(partial(resolve_with_outcome, future, outcome, reader))
            return
        if isinstance(reader, FlowReader) and (outcome is not None or isinstance(error, OutcomeGone)):
            self._ask_for_end(future, reader, outcome)
            return
        value: object = None
        if outcome is not None:
            value, error = read_outcome(outcome, reader)
        if not resolve_nowait(future, value, error):
            self._callbacks.put(partial(resolve, future, value, error))

    def _ask_for_end(self, future: Future[object], reader: FlowReader, outcome: Outcome | None) -> None:
        """Resolve the future of a flow with what it returns, which has to be read first."""
        question = EndOfFlow(future.name, outcome, self._client.signed_only, reader.steps)

        def told(end: FlowEnd) -> None:
            self._callbacks.put(partial(resolve_flow, future, end, reader))

        def failed(error: HerdError) -> None:
            shown = HerdClosed(_CLOSED_EARLY) if isinstance(error, ClientClosed) else error
            self._callbacks.put(partial(resolve, future, None, shown))

        self._flow_ends.ask(question, told, failed)

    # --- any thread that resolves futures ----------------------------------------------------------------------------

    def call_back(self, callback: Callable[[], None], /) -> None:
        """Run user code on a thread that may block."""
        if self._thread.is_current:
            self._callbacks.put(callback)
        else:
            callback()  # one of the callback threads

    def wake(self, waiter: asyncio.Future[None], /) -> None:
        """Set the result of a waiter in the loop that it belongs to."""
        if self._thread.is_current:
            self._wakeups.wake_soon(waiter)
        else:
            self._wakeups.wake_at_once(waiter)
