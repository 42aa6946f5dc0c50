"""Logs the start and the end of each task of a worker, summed up where there are too many lines."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from herdmaster.core.printable import printable
from herdmaster.running.delivery import Delivered
from herdmaster.running.log_fields import log_about

MOST_LINES: Final = 50
"""Lines of one kind in a second; further ones are counted."""
_WINDOW_SECONDS: Final = 1.0
_MAX_SHOWN: Final = 300
"""Characters of a call's name and of an error."""
_MAX_CALLS: Final = 10
"""Calls that a summary names."""
_OTHER: Final = "other calls"
_MAX_COUNTED: Final = 1000

_log = logging.getLogger("herdmaster.worker")


class LineLimit:
    """A limit for lines of one kind. Once it is reached, lines are counted by call until `take`."""

    __slots__ = ("_count", "_counts", "_since", "_window")

    def __init__(self) -> None:
        self._window = float("-inf")  # when it began
        self._count = 0
        self._counts: dict[str, int] = {}
        self._since = 0.0

    def admits(self, call: str, now: float) -> bool:
        """Return whether a line may be logged now, in seconds of any clock. If not, it is counted."""
        if self.counted(call):
            return False
        if now - self._window >= _WINDOW_SECONDS:
            self._window, self._count = now, 0
        if self._count < MOST_LINES:
            self._count += 1
            return True
        self._since = now
        self._counts[call] = 1
        return False

    def counted(self, call: str) -> bool:
        """Count a line and return True if lines are counted now. Cheap, because most lines of a busy worker are."""
        counts = self._counts
        if not counts:
            return False
        if call not in counts and len(counts) >= _MAX_COUNTED:
            call = _OTHER
        counts[call] = counts.get(call, 0) + 1
        return True

    def take(self, now: float) -> tuple[dict[str, int], float]:
        """Return how many lines of each call were left out, and in how many seconds, and begin to count anew."""
        counts, self._counts = self._counts, {}
        return counts, now - self._since


def summary(what: str, counts: dict[str, int], seconds: float) -> str:
    """Return one line for those that were left out, the most frequent calls first."""
    by_number = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{printable(call, _MAX_SHOWN) or 'raw tasks'} {count}" for call, count in by_number[:_MAX_CALLS]]
    rest = sum(count for _, count in by_number[_MAX_CALLS:])
    if rest:
        shown.append(f"others {rest}")
    return f"{sum(counts.values())} more tasks {what} in {seconds:.1f} s: {', '.join(shown)}"


class _Kind:
    """Lines of one level that share a limit. `what` is what they say of a task."""

    def __init__(self, level: int, what: str) -> None:
        self.level = level
        self.what = what
        self.limit = LineLimit()


class TaskLog:
    """Writes the lines of one worker. All methods are called in its event loop.

    Failures have limits apart from those of other lines, so they are the last that are left out.
    """

    def __init__(self) -> None:
        self._started = _Kind(logging.DEBUG, "started")
        self._done = _Kind(logging.INFO, "done")
        self._retried = _Kind(logging.WARNING, "failed and are tried again")
        self._failed = _Kind(logging.ERROR, "failed")
        self._timer: asyncio.TimerHandle | None = None

    def started(self, task: Delivered) -> None:
        """Log that a task is handed to a slot."""
        if _log.isEnabledFor(logging.DEBUG):
            call = task.call_name
            if self._admits(self._started, call):
                flow = task.flow
                of = (flow.flow, flow.step) if flow is not None else (None, None)
                line = f"{_shown(task.name, call, *of)} starts, attempt {task.attempt}"
                log_about(_log, logging.DEBUG, line, (task.name, call, task.queue, task.attempt))

    def ended(self, end: AttemptEnd) -> None:
        """Log the end of an attempt. It is committed."""
        result = end.result
        kind = self._done if result is EndState.DONE else self._retried if result is EndState.RETRIED else self._failed
        if kind.limit.counted(end.call):
            return
        if _log.isEnabledFor(kind.level) and self._admits(kind, end.call):
            level = logging.WARNING if result is EndState.EXPIRED else kind.level
            traceback = None
            if kind is self._failed and end.error is not None:
                traceback = end.error.traceback.rstrip("\n") or None
            log_about(_log, level, line_of(end), (end.task, end.call, end.queue, end.attempt), traceback=traceback)

    def close(self) -> None:
        """Log what is counted. Nothing is logged afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._sum_up()

    def _admits(self, kind: _Kind, call: str) -> bool:
        loop = asyncio.get_running_loop()
        if kind.limit.admits(call, loop.time()):
            return True
        if self._timer is None:
            self._timer = loop.call_later(_WINDOW_SECONDS, self._sum_up)
        return False

    def _sum_up(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for kind in (self._started, self._done, self._retried, self._failed):
            counts, seconds = kind.limit.take(now)
            if counts:
                _log.log(kind.level, "%s", summary(kind.what, counts, seconds))


def line_of(end: AttemptEnd) -> str:
    """Return the line about the end of an attempt, without the traceback."""
    what, times = _shown(end.task, end.call, end.flow, end.step), end.times
    after = f" {'in' if end.result is EndState.DONE else 'after'} {times[1] / 1000:.2f} s" if times is not None else ""
    if end.result is EndState.DONE:
        return f"{what} done{after}"
    if end.result is EndState.EXPIRED:
        return f"{what} expired before it began"
    error = f": {printable(f'{end.error.type}: {end.error.message}', _MAX_SHOWN)}" if end.error is not None else ""
    line = f"{what} failed{after}, attempt {end.attempt} of {max(end.attempt, end.max_attempts)}{error}"
    if end.again_in is not None:
        return f"{line}; it comes again in {end.again_in:.1f} s"
    if end.flow is not None:
        return f"{line}; `herd flows retry {end.flow}` runs it again"
    return f"{line}; dead: `herd dead show {end.task}`" if end.is_dead else line


def _shown(task: str, call: str, flow: str | None, step: str | None) -> str:
    shown = f"{task} {printable(call, _MAX_SHOWN)}" if call else task
    return shown if flow is None else f"{shown} (step {step} of {flow})"
