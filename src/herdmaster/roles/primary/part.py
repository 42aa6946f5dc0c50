"""What the parts of a primary that move tasks have in common: how a task that was taken ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from herdmaster.core.payload import call_of
from herdmaster.core.recovery import follow_up
from herdmaster.core.table import Verdict
from herdmaster.core.transitions import Move
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.committer import Committer, Fate, Gathering, Settlement
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

MAX_UNDER_WAY: Final = 1000
"""Tasks of one part that are read or committed at the same time; enough for a few full batches."""

TRY_LATER_SECONDS: Final = 1.0
"""After what passes by itself: another copy that is about to go, a folder that is made again."""
SET_ASIDE_SECONDS: Final = 30.0
"""After what may last: a payload that cannot be read, a refusal that nothing explains, events that are withheld."""


class Answered(Protocol):
    """The picture that a part takes tasks from (`core.offers.Offers`)."""

    @property
    def under_way(self) -> int: ...

    def finish(self, key: str) -> None: ...

    def refute(self, key: str, until: float) -> bool: ...

    def postpone(self, key: str, until: float) -> None: ...


class Part(ABC):
    """A part of a primary. `step` does what is to be done now; `wake` is called when another step is worthwhile.

    A task that `step` takes from the picture ends with exactly one of `finish`, `refute` and `postpone`: called by the
    part itself, or when the move that it commits has settled.
    """

    stands_in = False
    """Whether the primary is a reference primary."""

    def __init__(
        self,
        client: Client,
        picture: Answered,
        report: PrimaryLog,
        wake: Callable[[], None],
        list_again: Callable[[], None],
    ) -> None:
        self.client = client
        self.clock = client.clock
        self.report = report
        self.wake = wake
        self.reader = PayloadReader(client)
        self.gathering = Gathering(self.commit)
        self.is_folder_missing = False  # `restore_folders` is to be called
        self._picture = picture
        self._committer = Committer(client)
        self._list_again = list_again
        self._may_list_again = 0.0
        self._calls: dict[str, str] = {}  # of the tasks that are being ended

    @abstractmethod
    def step(self) -> None:
        """Raises the session's final error."""

    @abstractmethod
    def next_wakeup(self) -> float | None:
        """Return when, on the client's clock, a step is worthwhile although nothing happens meanwhile."""

    @property
    def room(self) -> int:
        """The number of tasks that may be taken now."""
        return MAX_UNDER_WAY - self._picture.under_way

    # --- moves -------------------------------------------------------------------------------------------------------

    def end(self, move: Move, payload: bytes = b"") -> None:
        """Commit a move that ends its task. `payload` says what is reported as its call."""
        self._calls[move.task] = call_of(payload)
        self.gathering.add(move)

    def commit(self, moves: Iterable[Move]) -> None:
        self._committer.commit(moves, self._settle)

    def _settle(self, settlement: Settlement) -> None:
        move = settlement.move
        if settlement.fate is Fate.COMMITTED:
            self._handle_committed(move)
            self.finish(move.task)
        elif settlement.verdict is None:
            self.postpone(move.task, 0.0)  # whether it was applied is unknown: the next listings show it
        else:
            self._handle_refused(move, settlement.verdict)

    def _handle_committed(self, move: Move) -> None:
        self.report.tell_committed(move, self._calls.pop(move.task, ""))

    def _handle_refused(self, move: Move, verdict: Verdict) -> None:
        following = follow_up(move, verdict, stands_in=self.stands_in)
        if following is not None:
            self.gathering.add(following)
            return
        match verdict:
            case Verdict.RACE_LOST:
                self.refute(move.task)
            case Verdict.CHOOSE_ANOTHER_WORKER | Verdict.DECIDE_AGAIN:
                self.finish(move.task)  # the picture shows what has changed
            case Verdict.KEEP_AND_TRY_LATER | Verdict.DROP_DELAYED_WAITING:
                self.postpone(move.task, TRY_LATER_SECONDS)
            case Verdict.FOLDER_MISSING:
                self.is_folder_missing = True
                self.postpone(move.task, TRY_LATER_SECONDS)
            case _:
                self.postpone(move.task, SET_ASIDE_SECONDS)

    # --- ends --------------------------------------------------------------------------------------------------------

    def finish(self, key: str) -> None:
        """Nothing is under way about the task any more."""
        self._calls.pop(key, None)
        self._picture.finish(key)
        self.wake()

    def postpone(self, key: str, seconds: float) -> None:
        """Nothing is under way about the task, and nothing is decided about it for a while."""
        self._calls.pop(key, None)
        self._picture.postpone(key, self.clock() + seconds)
        self.wake()

    def refute(self, key: str) -> None:
        """ZooKeeper says that the task is not where the picture showed it."""
        self._calls.pop(key, None)
        now = self.clock()
        if not self._picture.refute(key, now + SET_ASIDE_SECONDS) and now >= self._may_list_again:
            self._may_list_again = now + SET_ASIDE_SECONDS
            self._list_again()
        self.wake()

    def give_up(self, key: str, error: Exception | None) -> None:
        """What the task needs could not be read."""
        if isinstance(error, errors.NoNode):
            self.refute(key)
        elif isinstance(error, errors.ServerError):
            self.report.tell_unreadable(key, error)
            self.postpone(key, SET_ASIDE_SECONDS)
        else:
            self.postpone(key, 0.0)
