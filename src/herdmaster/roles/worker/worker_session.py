"""One session of a worker: runs what is in its inbox, and commits what follows.

A task goes one way, in the order of the methods here: `Inbox` reads the assignment, `Admission` finds its function,
`Steps` reads what a step of a flow takes from other steps, `Slots` hands the task to a pool, the pool delivers its end,
`NextMoves` decides what follows, `Commits` writes that. `HeldTasks` knows the state of each task. Nothing is started
that is not in the inbox, and nothing at all while the connection is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from herdmaster.core import transitions
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.endings import cannot_be_read
from herdmaster.core.names import is_step
from herdmaster.core.options import PoolKind
from herdmaster.core.transitions import Move
from herdmaster.errors import BadPayload
from herdmaster.roles.worker.admission import Admission
from herdmaster.roles.worker.child_cancels import ChildCancels
from herdmaster.roles.worker.commits import Commits
from herdmaster.roles.worker.equipment import Equipment
from herdmaster.roles.worker.fence import Fence
from herdmaster.roles.worker.held import Held, HeldTasks, State
from herdmaster.roles.worker.inbox import Inbox
from herdmaster.roles.worker.next_move import Again, NextMoves
from herdmaster.roles.worker.pools import Capacity, Slots
from herdmaster.roles.worker.saves import Saves
from herdmaster.roles.worker.starts import choose_starts
from herdmaster.roles.worker.steps import Steps
from herdmaster.roles.worker.timers import Timers
from herdmaster.running.delivery import Delivered
from herdmaster.running.execution import Executor, PoolResult
from herdmaster.running.program import Program
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_UNANSWERED_SECONDS: Final = 0.05

_log = logging.getLogger("herdmaster.worker")


class WorkerSession:
    """`changed` is called whenever a task has ended, so that a drain can look again. `ask_primary` says, perhaps never,
    whether the primary is one of ours. `log_start` is called for each task that is handed to a pool, `report` for each
    attempt whose end is committed."""

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
        log_start: Callable[[Delivered], None],
        report: Callable[[AttemptEnd], None],
    ) -> None:
        self._client, self._worker = client, worker
        self._program, self._executor = program, executor
        self._moves, self._ask_primary = moves, ask_primary
        self._changed, self._log_start = changed, log_start
        self._loop, self._timers = asyncio.get_running_loop(), Timers()
        self._tasks = tasks = HeldTasks()
        self._inbox = Inbox(client, worker, tasks.requests, self)
        self._admission = Admission(program, equipment, moves)
        self._steps = Steps(client, worker, tasks, self, program=program, executor=executor, moves=moves)
        self._slots = Slots(capacity, lambda kind, slots: equipment.make(kind, slots, self._ended))
        self._fence = Fence(client, self._slots.stop_all)
        self._commits = self._make_commits(report)
        self._saves, self._child_cancels = self._make_saves(), ChildCancels(client, worker)
        self.may_start = True
        self._closed = self._step_scheduled = False

    def _make_commits(self, report: Callable[[AttemptEnd], None]) -> Commits:
        return Commits(
            self._client,
            self._worker,
            self._tasks,
            self._inbox,
            moves=self._moves,
            timers=self._timers,
            let_go=self.task_left,
            items_made=self._steps.items_made,
            turn=self.turn,
            report=report,
        )

    def _make_saves(self) -> Saves:
        signed_only = self._program.signed_only
        return Saves(
            self._client,
            self._worker,
            self._tasks,
            self._inbox,
            keyring=None if signed_only is None else signed_only.keyring,
            let_go=self.task_left,
            turn=self._schedule_step,
        )

    def start(self) -> None:
        self._inbox.start()

    def close(self) -> None:
        """Start and commit nothing from here on."""
        self._closed = True
        self._withdraw_all()
        self._saves.close()
        self._fence.cancel()
        self._timers.cancel()
        self._slots.close()

    async def wait_lost(self) -> None:
        """Return when the inbox is gone although the session lives. Raises what makes it unreadable."""
        await self._inbox.wait_lost()

    @property
    def _is_suspended(self) -> bool:
        return self._closed or not self._inbox.is_current

    # --- from the inbox ----------------------------------------------------------------------------------------------

    def task_arrived(self, task: Delivered) -> None:
        held = self._tasks.get(task.name)
        if held is not None:
            if held.task.czxid == task.czxid and not self._steps.makes_items(task.name):
                return  # read again after a reconnect
            self.task_left(task.name)
        held = self._tasks.add(task, self._loop.time())
        move = self._admission.admit(held)
        if move is not None:
            self.follow(held, move)
        elif task.call is not None and task.call.flow is not None:
            self._steps.take(held, task.call.flow)

    def task_unreadable(self, name: str, error: errors.NoAuth) -> None:
        if is_step(name):
            _log.error("%s: %s; its flow ends when it is cancelled", name, cannot_be_read(error))
        elif self._tasks.get(name) is None:
            # It ends without having been run: an assignment that stays would hold up others.
            held = self._tasks.add(Delivered(name, b"", 0), self._loop.time())
            self.follow(held, self._moves.refuse(held.task, BadPayload(cannot_be_read(error))))

    def task_left(self, name: str) -> None:
        """Drop a task whose assignment is gone. If its code runs, what comes of that is dropped as well."""
        held = self._tasks.remove(name)
        if held is not None:
            self._steps.forget(name)
            self._slots.stop(held)
            self._changed()

    def connection_lost(self) -> None:
        self._withdraw_all()
        self._fence.raise_at_deadline(lambda: self._is_suspended and not self._closed)

    def turn(self) -> None:
        """Take the next step in the next turn of the loop."""
        self._changed()
        self._schedule_step()

    # --- one step per turn of the loop -------------------------------------------------------------------------------

    def _schedule_step(self) -> None:
        if not self._step_scheduled:
            self._step_scheduled = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._step_scheduled = False
        if self._is_suspended or self._client.state.is_final:
            return
        self._inbox.read()
        if not self._saves.is_empty:
            self._saves.send()  # first: a task with a result that is not committed must not be started again
        self._child_cancels.send()
        self._steps.send()
        self._start()
        if self._tasks.going_back:
            self._ask_primary(self._put_back)
        self._commits.send()

    def _is_idle(self, name: str) -> bool:
        return name not in self._tasks.requests and self._inbox.is_read(name)

    # --- into the pools ----------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self.may_start or not self._tasks.waiting:
            return
        if self._client.clock() >= self._client.deadline:  # after a stall; until a server has answered
            self._timers.call_later(_UNANSWERED_SECONDS, self._schedule_step)
            return
        room = self._slots.room(self._tasks.waiting)
        to_start, to_mark = choose_starts(self._tasks.waiting, self._is_idle, room)
        self._slots.start([held for held in to_start if self._begin(held)])
        for held in to_mark:
            self._commits.mark_start(held)

    def _begin(self, held: Held) -> bool:
        """Return False for a task that has expired. Only processes need this look: threads and coroutines look
        themselves at the last moment."""
        if held.kind is PoolKind.PROCESS and self._executor.is_expired(held.task):
            self.follow(held, self._moves.after_run(held.task, self._executor.expire()))
            return False
        if self._program.has_task_hooks:
            held.task.reset_hook_claim()
        held.task.saver = self._saves
        self._tasks.start(held)
        self._log_start(held.task)
        return True

    def _withdraw_all(self) -> None:
        """Withdraw the jobs that no slot has begun."""
        if self._tasks.in_pool:
            for held in self._tasks:
                if self._slots.withdraw(held):
                    self._tasks.wait(held)

    # --- from the pools ----------------------------------------------------------------------------------------------

    def _ended(self, ended: Sequence[tuple[Held, PoolResult]]) -> None:
        for held, result in ended:
            self._slots.release(held)
            if held.state is not State.IN_POOL:
                continue  # its assignment is gone, or it was handed back while it ran
            run = self._executor.read_result(held.task, result)
            if run is None:
                self._tasks.wait(held)  # not started, or stopped, because the session may be over
            else:
                self._child_cancels.attempt_ended(held.task, run)
                self.follow(held, self._moves.after_run(held.task, run))
        self._changed()
        # Now, not in the next turn: the threads wait for what comes next.
        if not self._is_suspended:
            self._child_cancels.send()
            self._commits.send()
            self._schedule_step()

    def follow(self, held: Held, move: Move | Again) -> None:
        """Let a task take the move that was decided."""
        if isinstance(move, Move):
            self._tasks.finish(held, move)
        else:
            self._tasks.go_back(held, move)

    def _put_back(self, primary_is_ours: bool) -> None:
        for held in list(self._tasks.going_back):
            assert held.again is not None
            self._tasks.finish(held, self._moves.put_back(held.task, held.again, primary_is_ours=primary_is_ours))
        self._schedule_step()

    # --- for the worker and its drain --------------------------------------------------------------------------------

    @property
    def running(self) -> list[Delivered]:
        """The tasks whose code runs now."""
        return [held.task for held in self._slots.running]

    def find_stalled(self) -> list[Delivered]:
        """As `Slots.find_stalled`."""
        return [held.task for held in self._slots.find_stalled()]

    @property
    def left(self) -> int:
        """How many tasks are in the inbox as far as this worker knows."""
        return len(self._inbox)

    @property
    def is_empty(self) -> bool:
        """Whether no task is left in the inbox as far as this worker knows."""
        is_empty = self._inbox.is_known and not len(self._inbox) and not len(self._tasks)
        return is_empty and not self._tasks.requests and not self._inbox.is_reading

    def has_waiting(self, since: float) -> bool:
        """Return whether a task that has not begun has been here since before that time of the loop."""
        running = set(map(id, self._slots.running))
        unrun = (held for held in self._tasks.unrun() if held.state is not State.READING)
        return any(held.since <= since and id(held) not in running for held in unrun)

    def set_starting(self, *, may_start: bool) -> None:
        """Set whether tasks are started from here on. If not, the jobs that no slot has begun are withdrawn."""
        self.may_start = may_start
        if may_start:
            self._schedule_step()
        else:
            self._withdraw_all()

    def look_again(self) -> None:
        """Ask once more whether there is a primary, if tasks wait for that to go back."""
        if self._tasks.going_back:
            self._schedule_step()

    def report_missing_folder(self) -> bool:
        """Return whether a folder of the namespace was found missing since the last call."""
        is_missing, self._commits.is_folder_missing = self._commits.is_folder_missing, False
        return is_missing

    def hand_back(self, *, waiting_since: float | None = None, running: bool = False) -> None:
        """Put tasks back into `/tasks`: those not begun, and with `running` also those whose code runs, whose results
        are then dropped. `waiting_since` (a time of the loop) leaves out the tasks that came later."""
        if self._is_suspended:
            return
        for held in self._tasks.unrun():
            is_late = waiting_since is not None and (held.since > waiting_since or held.state is State.READING)
            if is_late or not self._is_idle(held.task.name):
                continue
            if held.job is None or self._slots.withdraw(held) or running:
                self._tasks.finish(held, self._move_back(held))
        self._commits.send()

    def moves_back(self) -> list[Move] | None:
        """Return the moves that put back all that is in the inbox, running or not. None while anything else is under
        way there."""
        unrun = self._tasks.unrun()
        is_whole = not self._is_suspended and self._inbox.is_known and len(self._inbox) == len(self._tasks)
        if not is_whole or self._tasks.requests or self._inbox.is_reading or len(unrun) != len(self._tasks):
            return None
        return [self._move_back(held) for held in unrun]

    def _move_back(self, held: Held) -> Move:
        return transitions.hand_back(self._worker, held.task.name, held.task.payload)
