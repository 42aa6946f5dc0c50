"""One process's part of a Herd: a thread with an event loop that talks to ZooKeeper and resolves futures.

Calls from other threads are collected and wake the loop once per turn. No code of the user's runs in the loop's thread:
callbacks go to `CallbackThreads`, and what awaits is woken in its own loop, once per turn.

The garbage collector may drop a future anywhere, in the middle of any of these methods and of those of the standard
library's futures. So what it calls takes no lock: a dropped future's line is put aside and forgotten later. Finalisers
and signal handlers of the user's, which run in as many places, may submit and even wait. So locks are reentrant, the
loop's thread waits for none of them, and it is woken through a socket: between the flag that says that it is woken and
the system call nothing else can run. (`call_soon_threadsafe` makes objects and calls functions first; code that ran
there and waited would wait for a loop that has not been woken yet.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from herdmaster.api import fork_and_exit
from herdmaster.api.callbacks import CallbackThreads
from herdmaster.api.daemon_executor import DaemonExecutor
from herdmaster.api.errors import HerdClosed
from herdmaster.api.future import Future
from herdmaster.api.future_refs import Line, line_to
from herdmaster.api.options import OnDuplicate
from herdmaster.api.order import Order
from herdmaster.api.pending_submissions import Settled, Submitting, Unsettled, explain
from herdmaster.api.results import Reader, not_kept, read_outcome, resolve_with_outcome
from herdmaster.api.session import HerdClient
from herdmaster.api.wakeups import Wakeups
from herdmaster.core.outcome import Outcome, OutcomeState
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted
from herdmaster.roles.client.backlog_limit import Asked
from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.client.questions import Failed, Question
from herdmaster.roles.shared.cancel_requests import Told
from herdmaster.zookeeper.errors import ClientClosed

R = TypeVar("R")
_log = logging.getLogger("herdmaster.client")

CLOSED: Final = "this Herd is closed, by close() or at the end of its `with` block: another `with herd:` opens it again"
_CLOSED_EARLY: Final = "the Herd was closed before the outcome came; wait for it with herd.future(name)"
GOODBYE_SECONDS: Final = 2.0
"""How long the farewell to ZooKeeper may take. A server that does not answer holds up the end no longer; the session
then lapses."""
_CANCEL_SECONDS: Final = 0.5
CALLBACK_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 10.0
_SOON: Final = 0.01
_MANY_DROPPED: Final = 100


class Runtime:
    """Starts its thread at once; `close` ends the session and the thread."""

    def __init__(self, hosts: str, settings: ClientSettings, patience: float) -> None:
        """A submission that is not accepted within `patience` seconds is given up. Raises InvalidConnectString."""
        self._client = HerdClient(hosts, settings)
        self._patience = patience
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.RLock()
        self._woken = False
        self._closed = False
        self.has_failed = False
        """Its thread has ended, although nothing has closed it: another runtime takes its place."""
        self._lines: dict[str, Line] = {}  # of futures that are not done
        self._dropped: deque[Line] = deque()
        self._pinned: set[object] = set()
        self._bell, self._rung = socket.socketpair()
        self._ring = self._bell.send  # never more than a few bytes are on their way, so it does not block
        self._rung.setblocking(False)
        self._loop = asyncio.new_event_loop()
        self._loop.add_reader(self._rung, self._take_calls)
        self._loop.set_default_executor(DaemonExecutor())
        self._callbacks = CallbackThreads(self._loop.call_later)
        # Of the loop's thread alone:
        self._unsettled = Unsettled(self._loop, self._give_up)
        self._cancels: dict[str, list[Told]] = {}  # of tasks that are not accepted yet
        self._wakeups = Wakeups(self._loop)
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="herdmaster-io", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter ends, or the machine has no more threads
            self._release()
            raise
        fork_and_exit.add_session(self)

    # --- from any thread -------------------------------------------------------------------------------------------

    def submit(self, order: Order, owner: object, settled: Settled | None = None) -> Future[R]:
        """Sends the task on its way. The future gets its outcome, or the error of the submission; until then it keeps
        `owner`. Raises RuntimeError when closed."""
        future: Future[R] = self._new_future(order, owner)
        self._post(partial(self._submit, Submitting(order, settled)))
        return future

    def submit_many(
        self, orders: Iterable[Order], owner: object, settled: Callable[[str, HerdError | None], None]
    ) -> list[Future[R]]:
        """As `submit`, all in one turn of the loop, so that they share transactions."""
        wanted = [Submitting(order, partial(settled, order.task.name)) for order in orders]
        futures: list[Future[R]] = [self._new_future(each.order, owner) for each in wanted]
        self._post(partial(self._submit_all, wanted))
        return futures

    def _new_future(self, order: Order, owner: object) -> Future[R]:
        future: Future[R] = Future(order.task.name, self, owner, has_outcome=not order.ignore_result)
        self._lines[future.name] = line_to(future, order.reader, self._drop)
        return future

    def attach(self, name: str, owner: object, reader: Reader | None = None) -> Future[object]:
        """A task's future: the one that this process waits for it with already, or a new one. Raises RuntimeError when
        closed."""
        with self._lock:
            line = self._lines.get(name)
            future = None if line is None else line()
            if future is None:
                future = Future(name, self, owner)
                self._lines[name] = line_to(future, reader, self._drop)
                self._post(partial(self._client.attach, name, self._ended))
            return future

    def attach_holder(self, holder: str, owner: object, order: Order) -> Future[object]:
        """The future of the task that holds the key of an order, as the order wants it."""
        if not order.ignore_result:
            return self.attach(holder, owner, order.reader)
        future: Future[object] = Future(holder, self, owner, has_outcome=False)
        future.set_exception(not_kept(holder))
        return future

    def request_cancel(self, name: str, told: Told) -> None:
        """Asks the primary to cancel a task. `told` is called once in the loop's thread, after the task's future, if
        there is one here, has been given its outcome. Raises RuntimeError when closed."""
        self._post(partial(self._cancel, name, told))

    def ask(self, question: Question, failed: Failed, /) -> None:
        """Both are called in the loop's thread. Raises RuntimeError when closed."""
        self._post(partial(self._client.questions.ask, question, failed))

    def give_up(self, name: str) -> None:
        """Ends the wait for acceptance with what is known by now."""
        self._post(partial(self._give_up, name))

    def pin(self, future: Future[R], /) -> None:
        self._pinned.add(future)
        if future.done():  # perhaps since before it was added
            self._pinned.discard(future)

    def unpin(self, future: Future[R], /) -> None:
        self._pinned.discard(future)

    def begin_close(self) -> None:
        """Asks for the end and does not wait for it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._calls.append(self._stop.set)
            with contextlib.suppress(OSError):  # the thread was awake, has taken that, and has ended already
                self._ring(b"!")

    def close(self) -> None:
        """Ends the session. Futures that are not done fail with HerdClosed; their tasks go on."""
        self.begin_close()
        if threading.current_thread() is self._thread:
            return  # a finaliser that the collector happened to run here
        self._thread.join(JOIN_SECONDS)
        self._callbacks.close(CALLBACK_SECONDS)

    def leave_to_parent(self) -> None:
        """In a forked child. See `fork_and_exit`."""
        error = ClientClosed(
            "this future was made before the fork, and the parent process has its session; "
            "to wait in this process use herd.future(name)"
        )
        for line in tuple(self._lines.values()):
            future = line()
            if future is not None:
                future.leave_to_parent(error)

    def _drop(self, line: Line) -> None:
        """Called by the garbage collector, hence without a lock, and seldom with a system call."""
        self._dropped.append(line)
        if len(self._dropped) >= _MANY_DROPPED and not self._woken and not self._closed:
            self._woken = True
            with contextlib.suppress(OSError):  # the thread ends just now
                self._ring(b"!")  # at once, see above

    def _post(self, call: Callable[[], None]) -> None:
        """Runs `call` in the loop's thread, in order."""
        with self._lock:
            if self._closed:
                raise HerdClosed(CLOSED)
            self._calls.append(call)
            if not self._woken:
                self._woken = True
                try:
                    self._ring(b"!")  # at once, see above
                except OSError:  # the thread has failed just now
                    raise HerdClosed(CLOSED) from None

    # --- the loop's thread: its life -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            # Not asyncio.Runner: it would begin a thread to end the default executor with, and at the end of the
            # interpreter no thread can begin any more.
            try:
                self._loop.run_until_complete(self._serve())
            finally:
                self._cancel_tasks()
        except BaseException:  # noqa: BLE001 - who waits must not be left waiting
            self.has_failed = True
            _log.exception("the thread that talks to ZooKeeper failed")
        finally:
            self._end()

    async def _serve(self) -> None:
        session = asyncio.ensure_future(self._client.keep(self._stop))
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((session, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            stopped.cancel()
            await session  # raises: without it nothing would be sent any more
        self._client.stop()
        await asyncio.wait((session,), timeout=GOODBYE_SECONDS)

    def _cancel_tasks(self) -> None:
        """In good order there are none left."""
        for _ in range(4):  # each step of a farewell waits anew
            tasks = asyncio.all_tasks(self._loop)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_SECONDS))

    def _end(self) -> None:
        self._closed = True
        self._release()
        self._take_calls()
        for name in self._unsettled:
            self._give_up(name)
        error = HerdClosed(_CLOSED_EARLY)
        for name in tuple(self._lines):
            self._ended(name, None, error)
        self._client.cancels.end()
        self._client.questions.end()
        self._pinned.clear()
        self._wakeups.flush()
        self._callbacks.end()
        fork_and_exit.remove_session(self)

    def _release(self) -> None:
        self._loop.close()
        self._bell.close()
        self._rung.close()

    def _take_calls(self) -> None:
        with contextlib.suppress(OSError):
            self._rung.recv(4096)
        # Before the calls: a caller that adds one from here on wakes the loop again.
        self._woken = False
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception:  # noqa: BLE001 - the others are to be begun all the same
                _log.exception("a request of this program could not be begun")
        if self._dropped and not self._loop.is_closed():
            self._forget_dropped()

    def _forget_dropped(self) -> None:
        # The lock is against `attach`, which may be putting a new line in place of a dropped one.
        if not self._lock.acquire(blocking=False):
            self._loop.call_later(_SOON, self._take_calls)
            return
        dropped: list[Line] = []
        try:
            while self._dropped:
                line = self._dropped.popleft()
                if self._lines.get(line.name) is line:
                    del self._lines[line.name]
                    dropped.append(line)
        finally:
            self._lock.release()
        for line in dropped:
            self._client.outcomes.forget(line.name)

    # --- the loop's thread: submissions and outcomes -----------------------------------------------------------------

    def _submit_all(self, wanted: Iterable[Submitting]) -> None:
        for submitting in wanted:
            self._submit(submitting)

    def _submit(self, submitting: Submitting) -> None:
        order, name = submitting.order, submitting.order.task.name
        self._unsettled.add(submitting)
        if self._loop.is_closed():
            return  # `_end` settles it
        if not order.waits:
            self._unsettled.limit(name, self._patience)
        if order.max_backlog is None:
            self._send(order)
            return
        admit, refuse = partial(self._send, order), partial(self._settle, name)
        self._client.backlog_limit.ask(Asked(name, order.max_backlog, order.waits, admit, refuse))

    def _send(self, order: Order) -> None:
        name = order.task.name
        if order.waits:  # from here on it may take as long as any other
            self._unsettled.limit(name, self._patience)
        ended = None if order.ignore_result else self._ended
        self._client.submit(order.task, lambda _task, error: self._settle(name, error), ended)

    def _cancel(self, name: str, told: Told) -> None:
        if self._loop.is_closed():
            told(False)
        elif name in self._unsettled:
            self._cancels.setdefault(name, []).append(told)
        else:
            self._client.cancels.request(name, told)

    def _give_up(self, name: str) -> None:
        self._client.give_up(name)
        if name in self._unsettled:  # it never came as far as the journal
            self._settle(name, NotSubmitted(f"{name} was not accepted"))

    def _settle(self, name: str, error: HerdError | None) -> None:
        submitting = self._unsettled.pop(name)
        if submitting is None:
            return
        order, settled = submitting.order, submitting.settled
        self._client.backlog_limit.forget(name)
        if error is not None:
            is_over = self._stop.is_set() or self._loop.is_closed()
            error = explain(name, error, self._client.fault, is_over=is_over)
            if isinstance(error, DuplicateTask) and settled is None and order.on_duplicate is OnDuplicate.RETURN:
                self._follow(order, error.name)
            else:
                self._ended(name, None, error)
        elif order.ignore_result:
            self._ended(name, None, not_kept(name))
        elif name not in self._lines:
            self._client.outcomes.forget(name)  # its future was dropped before it was accepted
        for told in self._cancels.pop(name, ()):
            if error is None or isinstance(error, DuplicateTask):
                self._client.cancels.request(name if error is None else error.name, told)
            else:
                told(False)
        if settled is not None:
            settled(error)

    def _follow(self, order: Order, holder: str) -> None:
        """A future that was given out already becomes that of the task that holds the key."""
        line = self._lines.pop(order.task.name, None)
        future = None if line is None else line()
        if future is not None:
            self._callbacks.put(partial(self._attach_to, future, holder, order))  # it takes a lock, so not here

    def _attach_to(self, future: Future[object], holder: str, order: Order) -> None:
        future.name = holder
        try:
            future.follow(self.attach_holder(holder, future.owner, order))
        except RuntimeError:
            future.resolve(None, HerdClosed(_CLOSED_EARLY))

    def _ended(self, name: str, outcome: Outcome | None, error: Exception | None) -> bool:
        """True if there was a future to deliver it to."""
        line = self._lines.pop(name, None)
        future = None if line is None else line()
        if line is not None and future is not None:
            self._resolve(future, line.reader, outcome, error)
        self._client.cancels.settle(name, is_cancelled=outcome is not None and outcome.state is OutcomeState.CANCELLED)
        return future is not None

    def _resolve(
        self, future: Future[object], reader: Reader | None, outcome: Outcome | None, error: Exception | None
    ) -> None:
        if outcome is not None and reader is not None and reader.runs_code(outcome):
            self._callbacks.put(partial(resolve_with_outcome, future, outcome, reader))
            return
        value: object = None
        if outcome is not None:
            value, error = read_outcome(outcome, reader)
        if not future.resolve_nowait(value, error):
            self._callbacks.put(partial(future.resolve, value, error))

    # --- for futures, from the thread that resolves them -------------------------------------------------------------

    def call_back(self, callback: Callable[[], None], /) -> None:
        if threading.current_thread() is self._thread:
            self._callbacks.put(callback)
        else:
            callback()  # one of the callback threads

    def wake(self, waiter: asyncio.Future[None], /) -> None:
        if threading.current_thread() is self._thread:
            self._wakeups.wake_soon(waiter)
        else:
            self._wakeups.wake_at_once(waiter)
