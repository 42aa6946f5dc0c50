"""What a role tells of an attempt, or of a task, that has ended: for the log, the history and the metrics."""

from __future__ import annotations

import msgspec

from herdmaster.core.bounds import MAX_MS
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.history import FAILURES, EndState, FailureRecord


class AttemptEnd(msgspec.Struct, frozen=True, gc=False):
    """`call` is empty for a raw task. Times are unix milliseconds: `due` is when the task could have begun, `began` and
    `ended` are of its code, where that was run. `worker` is None for what a primary ended. `again_in` (seconds) is when
    a task that is tried again is due, `is_dead` says that it is in `/dead`. `schedule` made the task. `flow` and `step`
    are set for the step of a flow."""

    task: str
    call: str
    queue: str
    result: EndState
    ended: int
    began: int | None = None
    due: int | None = None
    attempt: int = 1
    error: ErrorInfo | None = None
    worker: str | None = None
    max_attempts: int = 1
    again_in: float | None = None
    is_dead: bool = False
    schedule: str | None = None
    flow: str | None = None
    step: str | None = None

    @property
    def times(self) -> tuple[float, float] | None:
        """Milliseconds that it waited and ran; None if its code was not run. The clocks of two machines are in it, so
        neither is ever less than 0."""
        if self.began is None:
            return None
        waited = self.began - self.due if self.due is not None else 0
        return float(max(0, waited)), float(max(0, self.ended - self.began))

    def failure(self) -> FailureRecord | None:
        """Return the record of a failure, None for any other end."""
        if self.result not in FAILURES:
            return None
        error = self.error.type if self.error is not None else _UNNAMED.get(self.result, "")
        message = self.error.message if self.error is not None else ""
        return FailureRecord(
            self.task,
            self.call,
            self.queue,
            self.result,
            error,
            message,
            _in_range(self.ended),
            None if self.began is None else _in_range(self.began),
            self.attempt,
            self.worker,
            schedule=self.schedule,
            flow=self.flow,
            step=self.step,
        )


def _in_range(milliseconds: int) -> int:
    """Return a time that a record may have: the processes of tasks report some, and clocks may be far off."""
    return min(max(0, milliseconds), MAX_MS)


_UNNAMED = {EndState.EXPIRED: "TaskExpired"}
