"""A pool of processes, for code that must be ended for certain, and for code that computes.

Each process runs one task at a time and leads a new process group. A task that is stopped or past its hard limit is
killed with its group, and delivered once the group is dead; a new process is started at the same moment. Nothing of a
killed task runs on, and no other task is affected.

Processes are spawned, never forked from the worker: a fork would copy locks and connections. They are started when
there is something to run, and kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Generic, TypeVar

from herdmaster.pools import child_logs
from herdmaster.pools.folder import Folder
from herdmaster.pools.guardian import Guardian
from herdmaster.pools.job import Job
from herdmaster.pools.limits import Died, Limits, NotStarted, Stopped, TimedOut
from herdmaster.pools.messages import (
    Answer,
    CannotStart,
    FromChild,
    HandlerFailed,
    Note,
    Question,
    Ready,
    Reply,
    Request,
    SoftlyTimedOut,
    Start,
)
from herdmaster.pools.output import Turns
from herdmaster.pools.spawned import Spawned, kill_group

T = TypeVar("T")

Result = bytes | TimedOut | Died | Stopped | NotStarted

_START_SECONDS: Final = 60.0
_RETIRE_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 2.0
_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 30.0

_log = logging.getLogger("herdmaster.worker")


class _Run(Generic[T]):
    """An item that a process runs."""

    __slots__ = ("ending", "has_asked", "item", "limits", "number", "timer")

    def __init__(self, item: T, number: int, limits: Limits) -> None:
        self.item = item
        self.number = number
        self.limits = limits
        self.timer: asyncio.TimerHandle | None = None
        self.has_asked = False  # so its process has read the request
        self.ending: TimedOut | Stopped | Died | None = None  # its process has been killed, and this will be delivered


class ProcessPool(Generic[T]):
    """Runs requests in up to `slots` processes. `deliver` is called in the loop with (item, result) pairs: the result
    is the bytes of the reply, or what came instead.

    - `make_request(item)` returns the bytes and the limits. It is called in the loop right before the hand-over; if it
      returns None, the item is delivered as `NotStarted`.
    - `handler` is `module:attribute` of a factory. Each process imports it and calls it with `handler_argument`. What
      it returns is called as `(request, send_note, ask) -> reply` in the main thread of the process, and may raise
      nothing but MemoryError and SoftTimeLimitExceeded.
    - `note(item, data)` is called for the data that the handler passes to `send_note` on any thread, in order and
      before the item is delivered.
    - `ask(item, data, answer)` is called for the data that the handler passes to its `ask` on any thread, which waits
      until `answer(data)` is called in the loop. An answer that comes after the end of the item is dropped.
    - `on_output` is called with each line that a process prints: the item that it runs or None, `stdout` or `stderr`,
      the line. While `has_room` returns False no output is read, and processes that print wait.
    - Each process is started in `folder`, by default the present working directory. Each of its tasks begins there,
      unless the import of the handler has changed the directory.

    What the code in a process logs is logged here. A task over its memory limit gets MemoryError. If the handler does
    not catch it, or the process dies by a signal or exits, the item is delivered as `Died` and the process is replaced.
    If no process can be started and none is left, each failed start ends one waiting item as `Died` with the cause, and
    the pause before the next start grows up to 30 seconds. The soft limit uses SIGALRM, so tasks must not use it.
    """

    def __init__(
        self,
        slots: int,
        make_request: Callable[[T], tuple[bytes, Limits] | None],
        deliver: Callable[[list[tuple[T, Result]]], None],
        *,
        handler: str,
        handler_argument: str,
        note: Callable[[T, bytes], None],
        ask: Callable[[T, bytes, Callable[[bytes], None]], None],
        on_output: Callable[[T | None, str, str], None],
        has_room: Callable[[], bool] = lambda: True,
        folder: Folder | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make_request = make_request
        self._deliver = deliver
        self._handler = handler
        self._handler_argument = handler_argument
        self._note = note
        self._ask = ask
        self._on_output = on_output
        self._folder = folder or Folder()
        self._turns = Turns(self._loop, has_room)
        self._log_mark = child_logs.new_mark()
        self._queue: deque[Job[T]] = deque()
        self._ended: list[tuple[T, Result]] = []
        self._starting: dict[Spawned, str] = {}  # with the reason why it cannot start, once it is known
        self._idle: list[Spawned] = []
        self._busy: dict[Spawned, _Run[T]] = {}
        self._leaving: dict[Spawned, _Run[T] | None] = {}  # killed while it ran something, or retired
        self._number = 0
        self._pause = 0.0
        self._start_after = 0.0
        self._guardian = Guardian()
        self._closed = False
        self.slots = slots

    def submit(self, items: Iterable[T], /) -> list[Job[T]]:
        jobs = [Job(item) for item in items]
        self._queue.extend(jobs)
        self._dispatch()
        return jobs

    @property
    def running(self) -> list[T]:
        """The items that the processes run now."""
        ending = (run for run in self._leaving.values() if run is not None)
        return [run.item for run in (*self._busy.values(), *ending)]

    def stop(self, item: T, /) -> bool:
        """Kill the process group in which an item runs. The item is delivered as `Stopped` once that is dead. Return
        False if no process runs it."""
        child = next((child for child, run in self._busy.items() if run.item is item), None)
        return child is not None and self._kill(child, self._busy[child], Stopped())

    def close(self) -> None:
        """Kill the processes that run something; idle ones end by themselves at once. Does not wait, and delivers
        nothing more."""
        self._closed = True
        for job in self._queue:
            job.claim()
        self._queue.clear()
        for run in self._busy.values():
            if run.timer is not None:
                run.timer.cancel()
        for child in (*self._busy, *self._starting, *self._leaving):
            child.kill()
        ended = [child.abandon() for child in (*self._busy, *self._starting, *self._leaving, *self._idle)]
        # Not a daemon: a process that is not waited for stays behind as a zombie of the embedding program.
        threading.Thread(target=_wait_ended, args=(ended, self._guardian), name="herdmaster-reaper").start()

    # --- handing over --------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while self._queue and self._idle:
            job = self._queue.popleft()
            if job.claim():
                self._hand_over(job.item)
        missing = min(len(self._queue) - len(self._starting), self.slots - len(self._busy) - len(self._starting))
        for _ in range(missing):
            if not self._start():
                return

    def _hand_over(self, item: T) -> None:
        made = self._make_request(item)
        if made is None:
            self._end(item, NotStarted())
            return
        data, limits = made
        child = self._idle.pop()  # the one that was used last is the warmest
        self._number += 1
        run = self._busy[child] = _Run(item, self._number, limits)
        if limits.hard is not None:
            run.timer = self._loop.call_later(limits.hard, self._overran, child, run, limits.hard)
        child.tasks += 1
        child.send(Request(self._number, data, limits.soft, limits.memory))

    def _end(self, item: T, result: Result) -> None:
        if not self._ended:
            self._loop.call_soon(self._collect)
        self._ended.append((item, result))

    def _collect(self) -> None:
        ended, self._ended = self._ended, []
        if ended and not self._closed:
            self._deliver(ended)

    # --- what processes say --------------------------------------------------------------------------------------

    def _heard(self, child: Spawned, message: FromChild | None) -> None:
        if self._closed:
            return
        match message:
            case Note(number, data):
                run = self._busy.get(child)
                if run is not None and run.number == number:
                    self._note(run.item, data)
            case Question(number, question, data):
                run = self._busy.get(child)
                if run is not None and run.number == number:
                    run.has_asked = True
                    self._ask(run.item, data, partial(self._answer_question, child, run, question))
            case Ready():
                self._starting.pop(child, None)
                self._pause = 0.0
                self._idle.append(child)
                self._dispatch()
            case CannotStart(reason):
                self._starting[child] = reason
            case Reply() | SoftlyTimedOut() | HandlerFailed():
                run = self._busy.get(child)
                if run is not None and run.number == message.number:
                    del self._busy[child]
                    self._answered(child, run, message)
                else:
                    self._distrust(child, "answered for another task")
            case None:
                self._distrust(child, "sent what is no answer")

    def _answered(self, child: Spawned, run: _Run[T], message: Reply | SoftlyTimedOut | HandlerFailed) -> None:
        if run.timer is not None:
            run.timer.cancel()
        most = run.limits.max_tasks
        is_spent = most is not None and child.tasks >= most
        match message:
            case Reply(_, data):
                self._end(run.item, data)
            case SoftlyTimedOut():
                self._end(run.item, TimedOut(run.limits.soft or 0.0))
            case HandlerFailed(_, reason):
                self._end(run.item, Died(_sentence(reason, run.limits)))
                is_spent = True
        if is_spent:
            self._leaving[child] = None
            child.retire()
            self._loop.call_later(_RETIRE_SECONDS, child.kill)
        else:
            self._idle.append(child)
        self._dispatch()

    def _answer_question(self, child: Spawned, run: _Run[T], question: int, data: bytes) -> None:
        if self._busy.get(child) is run:
            child.send(Answer(run.number, question, data))

    def _printed(self, child: Spawned, stream: str, line: str) -> None:
        if stream == "stderr" and self._log_mark in line:
            line = child_logs.relay(line, self._log_mark)
            if not line:
                return
        run = self._busy.get(child) or self._leaving.get(child)
        self._on_output(None if run is None else run.item, stream, line)

    # --- the ends of processes -----------------------------------------------------------------------------------

    def _overran(self, child: Spawned, run: _Run[T], seconds: float) -> None:
        if self._busy.get(child) is run:
            self._kill(child, run, TimedOut(seconds))

    def _kill(self, child: Spawned, run: _Run[T], ending: TimedOut | Stopped) -> bool:
        child.catch_up()
        if self._busy.get(child) is not run:
            return False  # it had replied
        self._end_process(child, run, ending)
        return True

    def _end_process(self, child: Spawned, run: _Run[T], ending: TimedOut | Stopped | Died) -> None:
        if run.timer is not None:
            run.timer.cancel()
        run.ending = ending
        self._leaving[child] = self._busy.pop(child)
        child.kill()
        self._start()

    def _distrust(self, child: Spawned, what: str) -> None:
        """End a process whose socket holds something that its code has not sent: its messages cannot be relied on."""
        run = self._busy.get(child)
        if run is not None:
            self._end_process(child, run, Died(_sentence(f"its process {what}, and was killed", run.limits)))
        elif child in self._idle:
            self._idle.remove(child)
            self._leaving[child] = None
            _log.warning("an idle process of the pool (%d) %s, and was killed", child.pid, what)
            child.kill()
        elif child in self._starting:
            self._starting[child] = f"it {what}"
            child.kill()

    def _gone(self, child: Spawned, code: int) -> None:
        if self._closed:
            return
        if child in self._starting:
            reason = self._starting.pop(child) or _words(code)
            self._could_not_start(reason)
        elif child in self._busy:
            self._died(child, self._busy.pop(child), code)
        elif (run := self._leaving.pop(child, None)) is not None and run.ending is not None:
            self._end(run.item, run.ending)
        elif child in self._idle:
            self._idle.remove(child)
            _log.warning("an idle process of the pool (%d) %s", child.pid, _words(code))
        self._watch_groups()
        self._dispatch()

    def _died(self, child: Spawned, run: _Run[T], code: int) -> None:
        if run.timer is not None:
            run.timer.cancel()
        if child.is_unread and not run.has_asked:
            self._end(run.item, NotStarted())  # it was dead, or dying, when the request came
        else:
            self._end(run.item, Died(_sentence(f"its process {_words(code)}", run.limits)))
        self._start()

    # --- the starts of processes ---------------------------------------------------------------------------------

    def _start(self) -> bool:
        """Start a process. Return False if none can be started now."""
        is_full = len(self._idle) + len(self._busy) + len(self._starting) >= self.slots
        if self._closed or is_full or self._loop.time() < self._start_after or (self._pause and self._starting):
            return False  # while starts fail, one at a time
        try:
            child = Spawned(self._heard, self._printed, self._gone, self._turns, self._folder.find())
        except OSError as error:
            self._could_not_start(str(error))
            return False
        self._starting[child] = ""
        self._watch_groups()
        level = logging.getLogger().getEffectiveLevel()
        path = self._folder.resolve(sys.path)
        child.send(Start(path, self._handler, self._handler_argument, level, self._log_mark))
        self._loop.call_later(_START_SECONDS, self._give_up_start, child)
        return True

    def _give_up_start(self, child: Spawned) -> None:
        if child in self._starting and not self._closed:
            self._starting[child] = f"it was not ready after {_START_SECONDS:g} s"
            child.kill()

    def _could_not_start(self, reason: str) -> None:
        now = self._loop.time()
        if now < self._start_after:
            return  # one of several that were started together
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        self._start_after = now + self._pause
        self._loop.call_later(self._pause, self._dispatch)
        _log.error("no process of the pool can be started: %s; the next attempt is in %g s", reason, self._pause)
        while self._queue and not (self._busy or self._idle or self._starting):
            job = self._queue.popleft()
            if job.claim():
                self._end(job.item, Died(f"no process could be started for it: {reason}"))
                return

    def _watch_groups(self) -> None:
        with contextlib.suppress(OSError):  # no room for a shell: then the parent-death signal has to do
            self._guardian.watch(child.pid for child in (*self._starting, *self._idle, *self._busy, *self._leaving))


def _words(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    text = f"was killed by {name} ({signal.strsignal(-code) or 'unknown'})"
    return f"{text}, perhaps because the system was out of memory" if -code == signal.SIGKILL else text


def _sentence(text: str, limits: Limits) -> str:
    return text if limits.memory is None else f"{text}; its memory limit was {limits.memory} bytes"


def _wait_ended(processes: list[subprocess.Popen[bytes]], guardian: Guardian) -> None:
    limit = time.monotonic() + _CLOSE_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(limit - time.monotonic(), 0))
        if process.returncode is None:
            kill_group(process.pid)
            process.wait()
    guardian.close()
