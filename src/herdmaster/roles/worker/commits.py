"""Commits the moves of held tasks, and does what follows from ZooKeeper's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster.core import transitions
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.payload import decode_call, with_start
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import Move
from herdmaster.errors import HerdError
from herdmaster.roles.shared.committer import Committer, Fate, Settlement
from herdmaster.roles.worker.held import Held, HeldTasks, State
from herdmaster.roles.worker.inbox import Inbox
from herdmaster.roles.worker.next_move import Again, NextMoves
from herdmaster.roles.worker.refusals import Remedy, remedy
from herdmaster.roles.worker.timers import Timers
from herdmaster.zookeeper.client import Client

_TRY_LATER_SECONDS: Final = 1.0
_SET_ASIDE_SECONDS: Final = 5.0
_ENDS: Final = frozenset({
    TransitionName.COMPLETE, TransitionName.COMPLETE_SILENTLY, TransitionName.BURY,
    TransitionName.COMPLETE_STEP, TransitionName.FAIL_STEP,
    TransitionName.RETRY_NOW, TransitionName.RETRY_LATER, TransitionName.RETRY_IN_PLACE,
})  # fmt: skip
"""The moves by which a worker ends an attempt."""


class Commits:
    """The last part of a task's way through a session. `let_go` drops a task that has left the inbox, `items_made` goes
    on with an `each`, `turn` is called after every answer, and `report` for each attempt whose end is committed."""

    def __init__(
        self,
        client: Client,
        worker: str,
        tasks: HeldTasks,
        inbox: Inbox,
        *,
        moves: NextMoves,
        timers: Timers,
        let_go: Callable[[str], None],
        items_made: Callable[[Held], None],
        turn: Callable[[], None],
        report: Callable[[AttemptEnd], None],
    ) -> None:
        self._committer = Committer(client)
        self._worker = worker
        self._tasks = tasks
        self._inbox = inbox
        self._moves = moves
        self._timers = timers
        self._let_go = let_go
        self._items_made = items_made
        self._turn = turn
        self._report = report
        self._ends: dict[str, AttemptEnd] = {}  # of the moves that are being committed
        self.is_folder_missing = False
        """Whether a transaction was refused because a folder of the namespace is missing."""

    def send(self) -> None:
        """Commit every move that can be committed now."""
        moves = self._tasks.begin_commits(self._inbox.is_read)
        for move in moves:
            held = self._tasks.get(move.task)
            if held is not None and held.task.end is not None and move.transition in _ENDS:
                self._ends[move.task] = held.task.end
        self._committer.commit(moves, self._settled)

    def mark_start(self, held: Held) -> None:
        """Mark the start of a suspect. It still waits for its slot."""
        task = held.task
        self._tasks.begin_request(task.name)
        move = transitions.mark_start(self._worker, task.name, with_start(task.payload, self._worker))
        self._committer.commit((move,), self._settled)

    def _settled(self, settlement: Settlement) -> None:
        move = settlement.move
        held = self._tasks.end_request(move.task)
        end = self._ends.pop(move.task, None)
        if end is not None and settlement.fate is Fate.COMMITTED:
            self._report(end)  # also where the event of the deletion came before this reply, and the task is let go
        if held is not None:
            if settlement.fate is Fate.COMMITTED:
                self._committed(move, held)
            elif settlement.fate is Fate.REFUSED:
                self._refused(move, held, settlement)
            # UNKNOWN: the inbox is listed and read after the reconnect; what is still there is committed again.
        self._turn()

    def _committed(self, move: Move, held: Held) -> None:
        if held.move is not move:
            if move.transition is TransitionName.MARK_START:
                held.marked = True
        elif held.again is not None and move.transition is TransitionName.RETRY_IN_PLACE:
            self._retry_in_place(held, held.again)
        elif move.transition is TransitionName.EXPAND_STEP:
            self._items_made(held)
        else:
            self._inbox.forget(move.task)
            self._let_go(move.task)

    def _retry_in_place(self, held: Held, again: Again) -> None:
        call, before = decode_call(again.payload), held.task
        if call.flow is not None:
            call = msgspec.structs.replace(call, flow=before.flow, inputs=before.inputs)
        held.task.payload, held.task.call = again.payload, call
        self._tasks.await_retry(held)
        self._timers.call_later(again.seconds, self._retry, held)

    def _retry(self, held: Held) -> None:
        if held.state is State.AWAITING_RETRY:
            self._tasks.wait(held)
            self._turn()

    def _refused(self, move: Move, held: Held, settlement: Settlement) -> None:
        verdict = settlement.verdict
        if verdict in (Verdict.DROP_ASSIGNMENT, Verdict.STEP_ENDED):
            held.task.end = None  # the task has ended elsewhere, so what came of it here is not reported
        found = remedy(self._worker, move, verdict, settlement.path)
        if isinstance(found, Move):
            self._tasks.finish(held, found)
        elif found is Remedy.LET_GO:
            self._let_go(move.task)
        elif found is Remedy.READ_AGAIN:
            self._let_go(move.task)
            self._inbox.read_again(move.task)
        elif found is Remedy.FAIL:
            error = HerdError("its start cannot be marked, because ZooKeeper refused it")
            self._tasks.finish(held, self._moves.refuse(held.task, error))
        else:
            self.is_folder_missing |= verdict is Verdict.FOLDER_MISSING
            self._tasks.begin_request(move.task)
            seconds = _TRY_LATER_SECONDS if found is Remedy.TRY_LATER else _SET_ASIDE_SECONDS
            self._timers.call_later(seconds, self._try_again, move.task)

    def _try_again(self, name: str) -> None:
        self._tasks.end_request(name)
        self._turn()
