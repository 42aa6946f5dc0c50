"""One process's part of a Herd: a thread with an event loop that talks to ZooKeeper and resolves futures.

Calls from other threads are collected and wake the loop once per turn. No code of the user's runs in the loop's thread:
callbacks go to `CallbackThreads`, and what awaits is woken in its own loop, once per turn.

The garbage collector may drop a future anywhere, in the middle of any of these methods and of those of the standard
library's futures. So what it calls takes no lock: a dropped future's line is put aside and forgotten later. Finalisers
and signal handlers of the user's, which run in as many places, may submit and even wait. So locks are reentrant, the
loop's thread waits for none of them, and it is woken through a socket: between the flag that says that it is woken and
the system call nothing else can run. (`call_soon_threadsafe` makes objects and calls functions first; whoever ran there
and waited would wait for a loop that nobody has woken yet.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar, cast

from herdmaster.api import process
from herdmaster.api.callbacks import CallbackThreads
from herdmaster.api.daemon_executor import DaemonExecutor
from herdmaster.api.future import Future
from herdmaster.core.outcome import Outcome, decode_result, exception_of
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError, NotSubmitted, SubmissionUnknown
from herdmaster.roles.client import ClientSettings, TaskClient
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.errors import ClientClosed, NoServerReachable, ZooKeeperError

R = TypeVar("R")
Settled = Callable[[HerdError | None], None]
"""Called once, in the loop's thread, with None when the task was accepted. It must not block."""

_log = logging.getLogger("herdmaster.client")

CLOSED: Final = "this Herd is closed; make a new one to go on"
GOODBYE_SECONDS: Final = 2.0
"""How long the farewell to ZooKeeper may take. A server that does not answer holds up the end no longer; the session
then lapses."""
_CANCEL_SECONDS: Final = 0.5
CALLBACK_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.2
_SOON: Final = 0.01
_MANY_DROPPED: Final = 100


class _Line(weakref.ref["Future[object]"]):
    """From a task's name to the future that waits for it, as long as somebody keeps that."""

    __slots__ = ("name",)
    name: str


class _Client(TaskClient):
    """Remembers why there is no session, for those who wait for one."""

    fault: ZooKeeperError | None = None

    async def open(self) -> Client:
        try:
            client = await super().open()
        except ZooKeeperError as error:
            self.fault = error
            raise
        self.fault = None
        return client


class Runtime:
    """Starts its thread at once; `close` ends the session and the thread."""

    def __init__(self, hosts: str, settings: ClientSettings, patience: float) -> None:
        """A submission that is not accepted within `patience` seconds is given up. Raises InvalidConnectString."""
        self._client = _Client(hosts, settings)
        self._patience = patience
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.RLock()
        self._woken = False
        self._closed = False
        self._lines: dict[str, _Line] = {}  # of futures that are not done
        self._dropped: deque[_Line] = deque()
        self._pinned: set[object] = set()
        self._bell, self._rung = socket.socketpair()
        self._ring = self._bell.send  # never more than a few bytes are on their way, so it does not block
        self._rung.setblocking(False)
        self._loop = asyncio.new_event_loop()
        self._loop.add_reader(self._rung, self._take_calls)
        self._loop.set_default_executor(DaemonExecutor())
        self._callbacks = CallbackThreads(self._loop.call_later)
        # Of the loop's thread alone:
        self._unsettled: dict[str, Settled | None] = {}
        self._due: deque[tuple[float, str]] = deque()  # until when a submission may take, in order
        self._timer: asyncio.TimerHandle | None = None
        self._to_wake: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="herdmaster-io", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter ends, or the machine has no more threads
            self._release()
            raise
        process.add_session(self)

    # --- from any thread -------------------------------------------------------------------------------------------

    def submit(self, task: NewTask, owner: object, settled: Settled | None = None) -> Future[R]:
        """Sends the task on its way. The future gets its outcome, or the error of the submission; until then it keeps
        `owner`. Raises RuntimeError when closed."""
        future: Future[R] = Future(task.name, self, owner)
        self._lines[task.name] = self._line_to(future)
        self._post(partial(self._submit, task, settled))
        return future

    def attach(self, name: str, owner: object) -> Future[object]:
        """A task's future: the one that this process waits for it with already, or a new one."""
        with self._lock:
            line = self._lines.get(name)
            future = None if line is None else line()
            if future is None:
                future = Future(name, self, owner)
                self._lines[name] = self._line_to(future)
                self._post(partial(self._client.attach, name, self._ended))
            return future

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
            self._ring(b"!")

    def close(self) -> None:
        """Ends the session. Futures that are not done fail with ClientClosed; their tasks go on."""
        self.begin_close()
        if threading.current_thread() is self._thread:
            return  # a finaliser that the collector happened to run here
        self._thread.join(JOIN_SECONDS)
        self._callbacks.close(CALLBACK_SECONDS)

    def leave_to_parent(self) -> None:
        """In a forked child. See `process`."""
        error = ClientClosed(
            "this future was made before the fork, and the parent process has its session; "
            "to wait in this process use herd.future(name)"
        )
        for line in tuple(self._lines.values()):
            future = line()
            if future is not None:
                future.leave_to_parent(error)

    def _line_to(self, future: Future[R]) -> _Line:
        # The future gets whatever the task returned; that this is an R is the caller's claim.
        line = _Line(cast("Future[object]", future), self._drop)
        line.name = future.name
        return line

    def _drop(self, line: _Line) -> None:
        """Called by the garbage collector, hence without a lock, and seldom with a system call."""
        self._dropped.append(line)
        if len(self._dropped) >= _MANY_DROPPED and not self._woken and not self._closed:
            self._woken = True
            self._ring(b"!")  # at once, see above

    def _post(self, call: Callable[[], None]) -> None:
        """Runs `call` in the loop's thread, in order."""
        with self._lock:
            if self._closed:
                raise RuntimeError(CLOSED)
            self._calls.append(call)
            if not self._woken:
                self._woken = True
                self._ring(b"!")  # at once, see above

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
            _log.exception("the thread that talks to ZooKeeper failed")
        finally:
            self._end()

    async def _serve(self) -> None:
        session = asyncio.ensure_future(self._keep_session())
        await self._stop.wait()
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

    async def _keep_session(self) -> None:
        while not self._stop.is_set():
            known = self._client.fault
            try:
                await self._client.run()
            except NoServerReachable as error:
                if known is None:
                    _log.warning("%s; trying again", error)
            except ZooKeeperError as error:  # such as a namespace that this client may not use
                if str(error) != str(known):
                    _log.error("%s; trying again", error)
            except Exception:  # noqa: BLE001 - a fault of ours costs a session, not the thread
                _log.exception("the session ended in a way that was not foreseen; starting again")
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_RETRY_SECONDS):
                await self._stop.wait()
        except TimeoutError:
            return

    def _end(self) -> None:
        self._closed = True
        self._release()
        self._take_calls()
        for name in tuple(self._unsettled):
            self._give_up(name)
        error = ClientClosed("the Herd was closed before the outcome came; wait for it with herd.future(name)")
        for name in tuple(self._lines):
            self._ended(name, None, error)
        self._pinned.clear()
        self._wake_waiters()
        self._callbacks.end()
        process.remove_session(self)

    def _release(self) -> None:
        self._loop.close()
        self._bell.close()
        self._rung.close()

    def _take_calls(self) -> None:
        with contextlib.suppress(OSError):
            self._rung.recv(4096)
        # Before the calls: whoever adds one from here on wakes the loop again.
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
        dropped: list[_Line] = []
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

    def _submit(self, task: NewTask, settled: Settled | None) -> None:
        self._unsettled[task.name] = settled
        if self._loop.is_closed():
            return  # `_end` settles it
        self._due.append((self._loop.time() + self._patience, task.name))
        if self._timer is None:
            self._timer = self._loop.call_at(self._due[0][0], self._give_up_late_ones)
        self._client.submit(task, self._accepted, self._ended)

    def _give_up_late_ones(self) -> None:
        now = self._loop.time()
        while self._due and self._due[0][0] <= now:
            self._give_up(self._due.popleft()[1])
        self._timer = self._loop.call_at(self._due[0][0], self._give_up_late_ones) if self._due else None

    def _give_up(self, name: str) -> None:
        self._client.journal.give_up(name)
        if name in self._unsettled:  # it never came as far as the journal
            self._settle(name, NotSubmitted(f"{name} was not accepted"))

    def _accepted(self, task: NewTask, error: HerdError | None) -> None:
        self._settle(task.name, error)

    def _settle(self, name: str, error: HerdError | None) -> None:
        settled = self._unsettled.pop(name, None)
        while self._due and self._due[0][1] not in self._unsettled:
            self._due.popleft()
        if error is not None:
            error = self._explain(name, error)
            self._ended(name, None, error)
        elif name not in self._lines:
            self._client.outcomes.forget(name)  # its future was dropped before it was accepted
        if settled is not None:
            settled(error)

    def _explain(self, name: str, error: HerdError) -> HerdError:
        if isinstance(error, SubmissionUnknown):
            return error
        if self._stop.is_set() or self._loop.is_closed():
            return NotSubmitted(f"{name} was not accepted before the Herd was closed")
        fault = self._client.fault
        return error if fault is None else NotSubmitted(f"{error} ({fault})")

    def _ended(self, name: str, outcome: Outcome | None, error: Exception | None) -> bool:
        """True if there was a future to deliver it to."""
        line = self._lines.pop(name, None)
        future = None if line is None else line()
        if future is None:
            return False
        value: object = None
        if outcome is not None:
            error = exception_of(outcome)
            if error is None:
                try:
                    value = decode_result(outcome)
                except HerdError as fault:
                    error = fault
        if not future.resolve_nowait(value, error):
            self._callbacks.put(partial(future.resolve, value, error))
        return True

    # --- for futures, from the thread that resolves them -------------------------------------------------------------

    def call_back(self, callback: Callable[[], None], /) -> None:
        if threading.current_thread() is self._thread:
            self._callbacks.put(callback)
        else:
            callback()  # one of the callback threads

    def wake(self, waiter: asyncio.Future[None], /) -> None:
        if threading.current_thread() is not self._thread:
            _wake_in(waiter.get_loop(), [waiter])
            return
        if not self._to_wake and not self._loop.is_closed():
            self._loop.call_soon(self._wake_waiters)
        self._to_wake.setdefault(waiter.get_loop(), []).append(waiter)

    def _wake_waiters(self) -> None:
        waiting, self._to_wake = self._to_wake, {}
        for loop, waiters in waiting.items():
            _wake_in(loop, waiters)


def _wake_in(loop: asyncio.AbstractEventLoop, waiters: list[asyncio.Future[None]]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_set_all, waiters)


def _set_all(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
