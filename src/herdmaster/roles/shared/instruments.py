"""What roles tell of their work to what measures it, such as metrics. Telling costs a call each, and never fails."""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.core.attempt_end import AttemptEnd


class Instruments:
    """Measures nothing; a subclass receives what happens in a process.

    The methods return at once and raise nothing. They may be called on any thread.
    """

    def attempt_ended(self, end: AttemptEnd, /) -> None:
        """A worker has ended an attempt, or a primary a task, and that is committed."""

    def tasks_recovered(self, reason: str, count: int = 1, /) -> None:
        """A primary has taken tasks back from a worker that was lost."""

    def took_over(self, seconds: float, /) -> None:
        """A primary has decided for the first time, so long after it was elected."""

    def tick_made(self, schedule: str, late: float, /) -> None:
        """A primary has made the task of a schedule, so many seconds after it was to be made."""

    def ticks_skipped(self, schedule: str, reason: str, count: int, /) -> None:
        """A primary has made no task for so many times of a schedule."""

    def schedule_broken(self, schedule: str, /) -> None:
        """A primary could not use a schedule that was due."""

    def flow_started(self, name: str, /) -> None:
        """A primary has seen a flow of this name for the first time."""

    def flow_ended(self, name: str, state: str, seconds: float, /) -> None:
        """A primary has ended a flow as done, failed, cancelled or expired, so long after it was made."""

    def session_expired(self) -> None:
        """A session with ZooKeeper was lost."""

    @property
    def count_submissions(self) -> Callable[[str, str], None] | None:
        """What is called with the queue of each task that a client has submitted, and what came of it: `accepted`, or
        why not; None if submissions are not counted."""
        return None

    @property
    def measure_requests(self) -> Callable[[str, float], None] | None:
        """What is called with the name of each request that ZooKeeper has answered, and the seconds that took; None if
        requests are not measured."""
        return None
