"""Logs the start and the end of each task of a worker, summed up where there are too many lines."""

from __future__ import annotations

import logging
from functools import partial

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from herdmaster.core.printable import printable
from herdmaster.roles.shared.line_limit import MAX_SHOWN, LimitedLog, LineKind
from herdmaster.running.delivery import Delivered
from herdmaster.running.log_fields import log_about

_log = logging.getLogger("herdmaster.worker")
_LEVELS = {EndState.EXPIRED: logging.WARNING, EndState.CANCELLED: logging.INFO}
_kind = partial(LineKind, nameless="raw tasks", rest="other calls")


class TaskLog:
    """Writes the lines of one worker. All methods are called in its event loop.

    Failures have limits apart from those of other lines, so they are the last that are left out.
    """

    def __init__(self) -> None:
        self._started = _kind(logging.DEBUG, "tasks started")
        self._done = _kind(logging.INFO, "tasks done")
        self._retried = _kind(logging.WARNING, "tasks failed and are tried again")
        self._failed = _kind(logging.ERROR, "tasks failed")
        self._lines = LimitedLog(_log, (self._started, self._done, self._retried, self._failed))

    def started(self, task: Delivered) -> None:
        """Log that a task is handed to a slot."""
        if _log.isEnabledFor(logging.DEBUG):
            call = task.call_name
            if self._lines.admits(self._started, call):
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
        if self._lines.admits(kind, end.call):
            level = _LEVELS.get(result, kind.level)
            traceback = None
            if kind is self._failed and end.error is not None:
                traceback = end.error.traceback.rstrip("\n") or None
            log_about(_log, level, line_of(end), (end.task, end.call, end.queue, end.attempt), traceback=traceback)

    def close(self) -> None:
        """Log what is counted. Nothing is logged afterwards."""
        self._lines.close()


def line_of(end: AttemptEnd) -> str:
    """Return the line about the end of an attempt, without the traceback."""
    what, times = _shown(end.task, end.call, end.flow, end.step), end.times
    after = f" {'in' if end.result is EndState.DONE else 'after'} {times[1] / 1000:.2f} s" if times is not None else ""
    if end.result is EndState.DONE:
        return f"{what} done{after}"
    if end.result is EndState.EXPIRED:
        return f"{what} expired before it began"
    if end.result is EndState.CANCELLED:
        return f"{what} was cancelled"
    error = f": {printable(f'{end.error.type}: {end.error.message}', MAX_SHOWN)}" if end.error is not None else ""
    line = f"{what} failed{after}, attempt {end.attempt} of {max(end.attempt, end.max_attempts)}{error}"
    if end.again_in is not None:
        return f"{line}; it comes again in {end.again_in:.1f} s"
    if end.flow is not None:
        return f"{line}; `herd flows retry {end.flow}` runs it again"
    return f"{line}; dead: `herd dead show {end.task}`" if end.is_dead else line


def _shown(task: str, call: str, flow: str | None, step: str | None) -> str:
    shown = f"{task} {printable(call, MAX_SHOWN)}" if call else task
    return shown if flow is None else f"{shown} (step {step} of {flow})"
