"""One session of a worker: what stands in its inbox is run and committed.

Nothing is started that is not in the inbox, and nothing at all while the connection is away. The data goes one way:
`Inbox` tells what is here, the pool runs it, `NextMoves` decides what follows, the committer does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from herdmaster.core import transitions
from herdmaster.core.endings import cannot_be_read
from herdmaster.core.names import is_call
from herdmaster.core.options import PoolKind
from herdmaster.core.payload import decode_call, with_start
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import Move
from herdmaster.errors import BadPayload, ConfigurationError, HerdError
from herdmaster.roles.shared.committer import Committer, Fate, Settlement
from herdmaster.roles.worker.equipment import Equipment
from herdmaster.roles.worker.fence import Fence
from herdmaster.roles.worker.held import Held, choose_starts
from herdmaster.roles.worker.inbox import Inbox
from herdmaster.roles.worker.next_move import Again, NextMoves
from herdmaster.roles.worker.pools import Capacity, Slots
from herdmaster.roles.worker.refusals import Remedy, remedy
from herdmaster.running.delivery import Delivered
from herdmaster.running.execution import Executor, PoolResult
from herdmaster.running.program import Program
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_TRY_LATER_SECONDS: Final = 1.0
_SET_ASIDE_SECONDS: Final = 5.0
_UNANSWERED_SECONDS: Final = 0.05


class WorkerSession:
    """`changed` is called whenever something ended, so that a drain can look again; `ask_primary` answers, perhaps
    never, whether the primary is one of ours."""

    def __init__(
        self,
        client: Client,
        worker: str,
        *,
        program: Program,
        executor: Executor,
        moves: NextMoves,
        equipment: Equipment,
        capacity: Capacity,
        changed: Callable[[], None],
        ask_primary: Callable[[Callable[[bool], None]], None],
    ) -> None:
        self._client = client
        self._worker = worker
        self._program = program
        self._equipment = equipment
        self._executor = executor
        self._moves = moves
        self._committer = Committer(client)
        self._slots = Slots(capacity, lambda kind, slots: equipment.make(kind, slots, self._ended))
        self._loop = asyncio.get_running_loop()
        self._held: dict[str, Held] = {}
        self._waiting: dict[str, Held] = {}  # of these, those that are to be handed to the pool
        self._going_back: dict[str, Held] = {}  # those that ran and are to be tried again, or elsewhere
        self._ready: dict[str, Held] = {}  # and those whose next move is to be committed
        self._under_way: set[str] = set()  # tasks that a transaction or a read is under way about
        self._step_scheduled = False
        self._changed = changed
        self._ask_primary = ask_primary
        self.may_start = True
        self._closed = False
        self._fence = Fence(client, self._slots.stop_what_can_be)
        self._timers: set[asyncio.TimerHandle] = set()
        self.is_folder_missing = False  # `restore_folders` is wanted
        self._inbox = Inbox(
            client,
            worker,
            self._under_way,
            arrived=self._arrived,
            unreadable=self._unreadable,
            gone=self._let_go,
            interrupted=self._suspend,
            turn=self._turn,
        )

    def start(self) -> None:
        self._inbox.start()

    def close(self) -> None:
        """Nothing is started or committed from here on."""
        self._closed = True
        self._suspend()
        self._fence.cancel()
        for timer in self._timers:
            timer.cancel()
        self._slots.close()

    @property
    def running(self) -> list[Delivered]:
        """The tasks whose code runs now."""
        return [held.task for held in self._slots.running]

    def all_waiting(self) -> list[Delivered]:  # see `Slots.all_waiting`
        return [held.task for held in self._slots.all_waiting()]

    @property
    def is_empty(self) -> bool:
        """Whether no task is left in the inbox as far as this side knows."""
        return self._inbox.is_known and not len(self._inbox) and not self._held and not self._under_way

    @property
    def left(self) -> int:
        """How many tasks are in the inbox as far as this side knows."""
        return len(self._inbox)

    def has_waiting(self, since: float) -> bool:
        """Whether a task that has not begun has been here since before that time of the loop."""
        running = set(map(id, self._slots.running))
        return any(
            held.since <= since and not held.has_begun and id(held) not in running for held in self._held.values()
        )

    def set_starting(self, *, may_start: bool) -> None:
        """Whether tasks are begun from here on. If not, a job that no slot has begun is withdrawn."""
        self.may_start = may_start
        if may_start:
            self._schedule_step()
            return
        for held in self._held.values():
            self._take_back(held)

    async def wait_lost(self) -> None:
        """Returns when the inbox is gone although the session lives; raises what makes it unreadable."""
        await self._inbox.wait_lost()

    @property
    def _is_suspended(self) -> bool:
        return self._closed or not self._inbox.is_current

    # --- what the inbox tells ------------------------------------------------------------------------------------

    def _arrived(self, task: Delivered) -> None:
        held = self._held.get(task.name)
        if held is None or held.task.czxid != task.czxid:
            self._let_go(task.name)
            self._take_in(task)

    def _unreadable(self, name: str, error: errors.NoAuth) -> None:
        if name not in self._held:
            held = self._held[name] = Held(Delivered(name, b"", 0), self._loop.time())
            self._refuse(held, BadPayload(cannot_be_read(error)))

    def _take_in(self, task: Delivered) -> None:
        held = self._held[task.name] = Held(task, self._loop.time())
        if is_call(task.name):
            try:
                call = task.call = decode_call(task.payload)
            except BadPayload as error:
                self._refuse(held, error)
                return
            task.callee = self._program.find(call.call)
            if task.callee is None:
                self._follow(held, self._moves.pass_on(task))
                return
            try:
                task.way = task.callee.way(call.options)
                self._equipment.check(task)
            except ConfigurationError as error:
                self._refuse(held, error)
                return
            held.kind = task.way.options.pool
            held.alone = call.alone
            held.suspect = call.alone or call.deliveries > 0
        self._waiting[task.name] = held

    def _refuse(self, held: Held, error: HerdError) -> None:
        """It ends without having been run: an assignment that may not be touched would hold up others."""
        self._finish(held, self._moves.refuse(held.task, error))

    def _suspend(self) -> None:
        for held in self._held.values():
            self._take_back(held)
        self._fence.raise_at_deadline(lambda: self._is_suspended and not self._closed)

    def _later(self, seconds: float, action: Callable[..., None], *args: object) -> None:
        """Unless it is closed before."""

        def run() -> None:
            self._timers.discard(timer)
            action(*args)

        timer = self._loop.call_later(seconds, run)
        self._timers.add(timer)

    def _take_back(self, held: Held) -> bool:
        """Withdraws a job that no slot has begun."""
        if self._slots.take_back(held):
            self._waiting[held.task.name] = held
            return True
        return False

    def _let_go(self, name: str) -> None:
        """The assignment is gone: the result of a running task is dropped."""
        held = self._held.pop(name, None)
        if held is None:
            return
        self._slots.stop(held)
        for stage in (self._waiting, self._going_back, self._ready):
            stage.pop(name, None)
        self._changed()

    # --- one step per turn of the loop ---------------------------------------------------------------------------

    def _turn(self) -> None:
        self._changed()
        self._schedule_step()

    def _schedule_step(self) -> None:
        if not self._step_scheduled:
            self._step_scheduled = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._step_scheduled = False
        if self._is_suspended or self._client.state.is_final:
            return
        self._inbox.read()
        self._start()
        if self._going_back:
            self._ask_primary(self._put_back)
        self._commit()

    def look_again(self) -> None:
        """What waits for a primary to go back to asks once more whether there is one."""
        if self._going_back:
            self._schedule_step()

    def _is_idle(self, name: str) -> bool:
        return name not in self._under_way and self._inbox.is_read(name)

    def _start(self) -> None:
        if not self.may_start or not self._waiting:
            return
        if self._client.clock() >= self._client.deadline:  # after a stall; until a server has answered
            self._later(_UNANSWERED_SECONDS, self._schedule_step)
            return
        room = self._slots.room(self._waiting.values())
        to_submit, to_mark = choose_starts(self._waiting.values(), self._is_idle, room)
        for held in to_submit:
            del self._waiting[held.task.name]
            if self._program.is_watched:
                held.task.reset_hook_claim()
        self._slots.start([held for held in to_submit if not self._has_expired(held)])
        for held in to_mark:
            self._mark(held)

    def _has_expired(self, held: Held) -> bool:
        """Asked here for processes alone: a thread or a coroutine asks at the last moment."""
        if held.kind is not PoolKind.PROCESS or not self._executor.is_expired(held.task):
            return False
        self._follow(held, self._moves.after_run(held.task, self._executor.expire()))
        return True

    def _mark(self, held: Held) -> None:
        name = held.task.name
        self._under_way.add(name)
        move = transitions.mark_start(self._worker, name, with_start(held.task.payload, self._worker))
        self._committer.commit((move,), self._settled)

    # --- what came of it -----------------------------------------------------------------------------------------

    def _ended(self, ended: Sequence[tuple[Held, PoolResult]]) -> None:
        for held, result in ended:
            self._slots.release(held)
            if self._held.get(held.task.name) is not held or held.has_begun:
                continue  # it is another's now, or was handed back while it ran
            run = self._executor.read_result(held.task, result)
            if run is None:
                self._waiting[held.task.name] = held  # because the session may be over
            else:
                self._follow(held, self._moves.after_run(held.task, run))
        self._changed()
        # At once rather than in a turn of its own: the threads wait for what comes next.
        if not self._is_suspended:
            self._commit()
            self._schedule_step()

    def _follow(self, held: Held, what: Move | Again) -> None:
        if isinstance(what, Move):
            self._finish(held, what)
        else:
            held.again = what
            self._going_back[held.task.name] = held

    def _finish(self, held: Held, move: Move) -> None:
        held.outcome = move
        self._waiting.pop(move.task, None)
        self._going_back.pop(move.task, None)
        self._ready[move.task] = held

    def _put_back(self, primary_is_ours: bool) -> None:
        for held in list(self._going_back.values()):
            assert held.again is not None
            self._finish(held, self._moves.put_back(held.task, held.again, primary_is_ours=primary_is_ours))
        self._schedule_step()

    def _attempt_here(self, held: Held, again: Again) -> None:
        """It was retried in place: this worker waits until it is due."""
        task = held.task
        task.payload, task.call = again.payload, decode_call(again.payload)
        held.outcome, held.again, held.marked = None, None, False
        self._ready.pop(task.name, None)
        self._later(again.seconds, self._is_due, held)

    def _is_due(self, held: Held) -> None:
        if self._held.get(held.task.name) is held and not held.has_begun:
            self._waiting[held.task.name] = held
            self._schedule_step()

    # --- commit --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        moves = [held.outcome for name, held in self._ready.items() if held.outcome is not None and self._is_idle(name)]
        self._under_way.update(move.task for move in moves)
        self._committer.commit(moves, self._settled)

    def _settled(self, settlement: Settlement) -> None:
        move, name = settlement.move, settlement.move.task
        self._under_way.discard(name)
        held = self._held.get(name)
        if settlement.fate is Fate.COMMITTED:
            self._committed(move, held)
        elif settlement.fate is Fate.REFUSED:
            self._refused(move, held, settlement.verdict)
        # UNKNOWN: after the reconnect the inbox is listed and read anew; what is still there is committed again.
        self._turn()

    def _committed(self, move: Move, held: Held | None) -> None:
        if move.transition is TransitionName.MARK_START:
            if held is not None:
                held.marked = True
        elif held is not None and held.outcome is move:
            if move.transition is TransitionName.RETRY_IN_PLACE and held.again is not None:
                self._attempt_here(held, held.again)
                return
            self._inbox.forget(move.task)
            self._let_go(move.task)

    def _refused(self, move: Move, held: Held | None, verdict: Verdict | None) -> None:
        found = Remedy.LET_GO if held is None else remedy(self._worker, move, verdict)
        if held is None or found is Remedy.LET_GO:
            self._let_go(move.task)
        elif isinstance(found, Move):
            self._finish(held, found)
        elif found is Remedy.FAIL:
            self._refuse(held, HerdError("its start cannot be marked, because ZooKeeper refused it"))
        else:
            self.is_folder_missing |= verdict is Verdict.FOLDER_MISSING
            self._under_way.add(move.task)
            later = _TRY_LATER_SECONDS if found is Remedy.TRY_LATER else _SET_ASIDE_SECONDS
            self._later(later, self._try_again, move.task)

    def _try_again(self, name: str) -> None:
        self._under_way.discard(name)
        self._schedule_step()

    # --- handing back --------------------------------------------------------------------------------------------

    def hand_back(self, *, waiting_since: float | None = None, running: bool = False) -> None:
        """Puts tasks back into `/tasks`: those not begun, or of these only those that wait since before
        `waiting_since` (loop time); with `running` also those whose code runs, whose outcomes are then discarded."""
        if self._is_suspended:
            return
        for name, held in list(self._held.items()):
            if held.has_begun or not self._is_idle(name):
                continue
            if waiting_since is not None and held.since > waiting_since:
                continue
            if held.job is None or self._take_back(held) or running:
                self._finish(held, transitions.hand_back(self._worker, name, held.task.payload))
        self._commit()

    def moves_back(self) -> list[Move] | None:
        """What puts back all that is in the inbox, running or not; None while something else is under way with it."""
        held = list(self._held.values())
        is_whole = not self._is_suspended and self._inbox.is_known and len(self._inbox) == len(held)
        if not is_whole or self._under_way or any(each.has_begun for each in held):
            return None
        return [transitions.hand_back(self._worker, each.task.name, each.task.payload) for each in held]
