"""One process's part of a Herd: a thread with an event loop that talks to ZooKeeper, and one that resolves futures.

Calls from other threads are collected and wake the loop once per turn. Futures are resolved on a thread of their own,
because their callbacks are the user's code.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from herdmaster.api.future import Future
from herdmaster.core.outcome import Outcome, decode_result, exception_of
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError
from herdmaster.roles.client import ClientSettings, TaskClient
from herdmaster.zookeeper.errors import ClientClosed, NoServerReachable, ZooKeeperError

R = TypeVar("R")
Resolution = tuple[Future[object], object, Exception | None]

_log = logging.getLogger("herdmaster.client")

JOIN_SECONDS = 15.0


class Pending:
    """A submission on its way. `accepted` is done when ZooKeeper has the task, or fails with what is known."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepted: concurrent.futures.Future[None] = concurrent.futures.Future()


class Runtime:
    """Starts its threads at once; `close` ends the session and both threads."""

    def __init__(self, hosts: str, settings: ClientSettings) -> None:
        """Raises InvalidConnectString."""
        self._client = TaskClient(hosts, settings)
        self._calls: deque[Callable[[], None]] = deque()
        # Reentrant: the garbage collector may run a future's `_forget` in the middle of any of these blocks.
        self._lock = threading.RLock()
        self._woken = False
        self._closed = False
        self._pinned: set[Future[object]] = set()
        self._open_futures: weakref.WeakSet[Future[object]] = weakref.WeakSet()
        self._resolutions: SimpleQueue[list[Resolution] | None] = SimpleQueue()
        self._batch: list[Resolution] = []
        self._loop = asyncio.new_event_loop()
        self.last_fault: ZooKeeperError | None = None
        self._threads = (
            threading.Thread(target=self._run_loop, name="herdmaster-io", daemon=True),
            threading.Thread(target=self._resolve, name="herdmaster-futures", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    # --- from any thread -------------------------------------------------------------------------------------------

    def post(self, call: Callable[[], None]) -> None:
        """Runs `call` in the loop's thread, in order. Raises ClientClosed."""
        with self._lock:
            if self._closed:
                raise ClientClosed("the Herd is closed")
            self._calls.append(call)
            wake, self._woken = not self._woken, True
        if wake:
            self._loop.call_soon_threadsafe(self._take_calls)

    def submit(self, task: NewTask, future: Future[R]) -> Pending:
        """Sends the task on its way; the future gets its outcome, or the error of the submission."""
        pending = Pending(task.name)
        ended = self._sink(future)

        def accepted(_task: NewTask, error: HerdError | None) -> None:
            if error is None:
                pending.accepted.set_result(None)
            else:
                pending.accepted.set_exception(error)
                ended(task.name, None, error)

        self.post(lambda: self._client.submit(task, accepted, ended))
        return pending

    def attach(self, future: Future[R]) -> None:
        ended = self._sink(future)
        self.post(lambda: self._client.attach(future.name, ended))

    def expect(self, pending: Pending, seconds: float) -> None:
        """Gives up on a submission that is not accepted in time; its future fails then."""
        self.post(lambda: self._expect(pending, seconds))

    def give_up(self, pending: Pending) -> None:
        """Ends the wait for acceptance with what is known by now."""
        self.post(lambda: self._client.journal.give_up(pending.name))

    def pin(self, future: Future[R]) -> None:
        """Keeps the future until it is done."""
        with self._lock:
            if not future.done():
                self._pinned.add(future)  # type: ignore[arg-type]  # only kept, never read or set as another type

    def close(self) -> None:
        """Ends the session. Futures that are not done fail with ClientClosed; their tasks go on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._loop.call_soon_threadsafe(self._client.stop)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(JOIN_SECONDS)

    # --- the loop's thread -------------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())
        self._end()

    async def _serve(self) -> None:
        while not self._client.is_stopping:
            try:
                await self._client.run()
            except NoServerReachable as error:
                if self.last_fault is None:
                    _log.warning("%s; trying again", error)
                self.last_fault = error
            except ZooKeeperError as error:  # such as a refused credential: waiting would not mend it soon
                self.last_fault = error
                _log.error("%s; trying again", error)
                await asyncio.sleep(1.0)

    def _end(self) -> None:
        error = ClientClosed("the Herd was closed before the outcome came; wait for it with herd.future(name)")
        with self._lock:
            left: list[Resolution] = [(future, None, error) for future in self._open_futures]
            self._pinned.clear()
        self._resolutions.put(left)
        self._resolutions.put(None)

    def _expect(self, pending: Pending, seconds: float) -> None:
        if not pending.accepted.done():
            timer = self._loop.call_later(seconds, self._client.journal.give_up, pending.name)
            pending.accepted.add_done_callback(lambda _accepted: timer.cancel())

    def _take_calls(self) -> None:
        with self._lock:
            calls, self._calls = self._calls, deque()
            self._woken = False
        for call in calls:
            call()

    def _sink(self, future: Future[R]) -> Callable[[str, Outcome | None, HerdError | None], bool]:
        """What the client role calls at the end. It keeps no reference: whoever waits for the outcome does."""
        name = future.name
        reference: weakref.ref[Future[object]] = weakref.ref(
            future,  # type: ignore[arg-type]  # set with whatever the task returned; its type is the caller's claim
            lambda _reference: self._forget(name),
        )
        with self._lock:
            self._open_futures.add(future)  # type: ignore[arg-type]  # as above

        def ended(_name: str, outcome: Outcome | None, error: HerdError | None) -> bool:
            found = reference()
            if found is None:
                return False
            self._hand_over(found, outcome, error)
            return True

        return ended

    def _forget(self, name: str) -> None:
        if not self._closed:
            try:
                self.post(lambda: self._client.outcomes.forget(name))
            except (ClientClosed, RuntimeError):
                return  # it closes right now

    def _hand_over(self, future: Future[object], outcome: Outcome | None, error: Exception | None) -> None:
        value: object = None
        if outcome is not None:
            error = exception_of(outcome)
            if error is None:
                try:
                    value = decode_result(outcome)
                except HerdError as fault:
                    error = fault
        if not self._batch:
            self._loop.call_soon(self._send_batch)
        self._batch.append((future, value, error))

    def _send_batch(self) -> None:
        batch, self._batch = self._batch, []
        self._resolutions.put(batch)

    # --- the resolving thread ----------------------------------------------------------------------------------------

    def _resolve(self) -> None:
        while True:
            batch = self._resolutions.get()
            if batch is None:
                return
            for future, value, error in batch:
                if future.done():
                    continue
                with self._lock:
                    self._pinned.discard(future)
                    self._open_futures.discard(future)
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)
            del batch
