"""One session of a worker: what stands in its inbox is read, run and committed.

The listings and events of the inbox say what is here; nothing is started that is not, and nothing at all while the
connection is away. A task is known by its name and the czxid of its assignment: another czxid is another delivery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.names import is_call, parse_task_name
from herdmaster.core.payload import decode_call, with_start
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import Move
from herdmaster.errors import BadPayload, HerdError
from herdmaster.pools.threads import ThreadPool
from herdmaster.roles.committer import Committer, Fate, Settlement
from herdmaster.roles.deliveries import Held, choose_starts
from herdmaster.roles.execution import Delivered, Executor
from herdmaster.roles.payload_reader import PayloadReader
from herdmaster.roles.system import Pool, PoolFactory
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat
from herdmaster.zookeeper.recipes.children import (
    Added,
    ChildChange,
    ChildStream,
    Complete,
    Failed,
    Interrupted,
    Listed,
    Removed,
)

_TRY_LATER_SECONDS: Final = 1.0
_SET_ASIDE_SECONDS: Final = 5.0
_UNANSWERED_SECONDS: Final = 0.05
_MAX_REPORTED: Final = 1000

_log = logging.getLogger("herdmaster.worker")


class Shift:
    """`changed` is called whenever something ended, so that a drain can look again."""

    def __init__(
        self,
        client: Client,
        worker: str,
        executor: Executor,
        *,
        slots: int,
        changed: Callable[[], None],
        make_pool: PoolFactory = ThreadPool,
    ) -> None:
        self._client = client
        self._worker = worker
        self._executor = executor
        self._committer = Committer(client)
        self._reader = PayloadReader(client)
        self._pool: Pool[Held] = make_pool(slots, self._execute, self._ended)
        self._loop = asyncio.get_running_loop()
        self._held: dict[str, Held] = {}
        self._waiting: dict[str, Held] = {}  # of these, those that are to be handed to the pool
        self._ready: dict[str, Held] = {}  # and those whose outcome is to be committed
        self._inbox: set[str] = set()
        self._to_read: dict[str, None] = {}
        self._under_way: set[str] = set()  # tasks that a transaction or a read is under way about
        self._suspended = True
        self._step_scheduled = False
        self._changed = changed
        self._reported: set[str] = set()
        self._stopping = False
        self.is_folder_missing = False  # perhaps: something was refused that nothing of the protocol explains
        self._lost = asyncio.Event()
        self._fault: errors.ServerError | None = None
        self._stream = ChildStream(client, layout.inbox_path(worker), self._handle)

    def start(self) -> None:
        self._stream.start()

    def close(self) -> None:
        """Nothing is started or committed from here on."""
        self._suspend()
        self._pool.close()

    @property
    def running(self) -> list[str]:
        """The names of the tasks whose code runs now."""
        return [held.task.name for held in self._pool.running]

    @property
    def is_empty(self) -> bool:
        """Whether no task is left in the inbox as far as this side knows."""
        return not self._inbox and not self._held and not self._under_way

    @property
    def is_busy(self) -> bool:
        """Whether code runs, or has ended and its outcome is still to be committed."""
        # A thread between two of its steps is in no list of the pool's; the job is held until it was delivered.
        return any(held.job is not None or held.outcome is not None for held in self._held.values())

    def has_waiting(self, since: float) -> bool:
        """Whether a task that has not begun has been here since before that time of the loop."""
        running = set(map(id, self._pool.running))
        return any(
            held.since <= since and held.outcome is None and id(held) not in running for held in self._held.values()
        )

    def stop_starting(self) -> None:
        """What no thread has begun is not begun any more."""
        self._stopping = True
        for held in self._held.values():
            self._take_back(held)

    async def wait_lost(self) -> None:
        """Returns when the inbox is gone although the session lives; raises what makes it unreadable."""
        await self._lost.wait()
        if self._fault is not None:
            raise self._fault

    # --- what is told --------------------------------------------------------------------------------------------

    def _handle(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                if self._is_task(name):
                    self._inbox.add(name)
                    self._to_read[name] = None
            case Removed(_, name):
                self._inbox.discard(name)
                self._to_read.pop(name, None)
                self._let_go(name)
            case Listed(_, None):
                self._lost.set()
            case Listed(_, names):
                self._relist({name for name in names or () if self._is_task(name)})
            case Failed(_, error):
                self._fault = error
                self._lost.set()
            case Complete():
                self._suspended = False
            case Interrupted():
                self._suspend()
        self._schedule_step()

    def _is_task(self, name: str) -> bool:
        if parse_task_name(name) is not None:
            return True
        self._report(name, "%.200r in the inbox is no task's name: left alone")
        return False

    def _report(self, name: str, text: str, *details: object) -> None:
        if name not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported.add(name)
            _log.warning(text, name, *details)

    def _relist(self, names: set[str]) -> None:
        for name in self._inbox - names:
            self._let_go(name)
        self._inbox = names
        # All are read anew: an assignment may have left and come back unseen, which its czxid tells. Until then
        # nothing is done about them.
        self._to_read = dict.fromkeys(sorted(names))

    def _suspend(self) -> None:
        self._suspended = True
        for held in self._held.values():
            self._take_back(held)

    def _take_back(self, held: Held) -> bool:
        """Withdraws a job that no thread has begun."""
        if held.job is not None and held.job.claim():
            held.job = None
            self._waiting[held.task.name] = held
            return True
        return False

    def _let_go(self, name: str) -> None:
        """The assignment is gone: a running task's outcome will find that out."""
        held = self._held.pop(name, None)
        if held is not None:
            self._take_back(held)
            self._waiting.pop(name, None)
            self._ready.pop(name, None)
            self._changed()

    # --- one step per turn of the loop ---------------------------------------------------------------------------

    def _schedule_step(self) -> None:
        if not self._step_scheduled:
            self._step_scheduled = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._step_scheduled = False
        if self._suspended or self._client.state.is_final:
            return
        self._read()
        self._start()
        self._commit()

    def _is_idle(self, name: str) -> bool:
        return name not in self._under_way and name not in self._to_read

    def _read(self) -> None:
        names = [name for name in self._to_read if name not in self._under_way]
        for name in names:
            del self._to_read[name]
        self._under_way.update(names)
        self._reader.read(((name, name, layout.assignment_path(self._worker, name)) for name in names), self._was_read)

    def _was_read(self, name: str, data: bytes | None, stat: Stat | None, error: Exception | None) -> None:
        self._under_way.discard(name)
        self._schedule_step()
        self._changed()
        if name not in self._inbox:
            return
        held = self._held.get(name)
        if data is not None and stat is not None:
            if held is None or held.task.czxid != stat.czxid:
                self._let_go(name)
                self._take_in(Delivered(name, data, stat.czxid, None))
        elif isinstance(error, errors.NoAuth) and held is None:
            unreadable = BadPayload(f"its payload cannot be read: {error}")
            self._fail(Held(Delivered(name, b"", 0, None), self._loop.time()), unreadable)

    def _take_in(self, task: Delivered) -> None:
        held = self._held[task.name] = Held(task, self._loop.time())
        if is_call(task.name):
            try:
                task.call = decode_call(task.payload)
            except BadPayload as error:
                self._fail(held, error)
                return
            held.suspect = task.call.deliveries > 0
        self._waiting[task.name] = held

    def _fail(self, held: Held, error: HerdError) -> None:
        """It ends without having been run: an assignment that may not be touched would hold up others."""
        self._held[held.task.name] = held
        outcome = self._executor.failed(held.task, error)
        self._finish(held, transitions.complete(self._worker, held.task.name, outcome))

    def _finish(self, held: Held, move: Move) -> None:
        held.outcome = move
        self._waiting.pop(move.task, None)
        self._ready[move.task] = held

    def _start(self) -> None:
        if self._stopping or not self._waiting:
            return
        if self._client.clock() >= self._client.deadline:  # after a stall; until a server has answered
            self._loop.call_later(_UNANSWERED_SECONDS, self._schedule_step)
            return
        idle_threads = self._pool.slots - self._count_busy()
        to_submit, to_mark = choose_starts(self._waiting.values(), self._is_idle, idle_threads)
        for held, job in zip(to_submit, self._pool.submit(to_submit), strict=True):
            held.job = job
            del self._waiting[held.task.name]
        for held in to_mark:
            self._mark(held)

    def _count_busy(self) -> int:
        """Jobs in the pool; those count, too, whose assignment is gone although they still run."""
        jobs = sum(1 for held in self._held.values() if held.job is not None)
        return jobs + sum(1 for held in self._pool.running if self._held.get(held.task.name) is not held)

    def _mark(self, held: Held) -> None:
        name = held.task.name
        self._under_way.add(name)
        move = transitions.mark_start(self._worker, name, with_start(held.task.payload, self._worker))
        self._committer.commit((move,), self._settled)

    def _execute(self, held: Held) -> bytes | None:
        return self._executor.run(held.task)

    def _ended(self, ended: list[tuple[Held, bytes | None]]) -> None:
        for held, outcome in ended:
            name = held.task.name
            if self._held.get(name) is not held or held.outcome is not None:
                continue  # it is another's now, or was handed back while it ran
            held.job = None
            if outcome is None:
                self._waiting[name] = held  # it was not started, because the session may be over
            else:
                wanted = held.task.call is None or held.task.call.outcome
                self._finish(held, transitions.complete(self._worker, name, outcome if wanted else None))
        self._changed()
        # At once rather than in a turn of its own: the threads wait for what comes next.
        if not self._suspended:
            self._commit()
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
        self._changed()
        self._schedule_step()

    def _committed(self, move: Move, held: Held | None) -> None:
        if move.transition is TransitionName.MARK_START:
            if held is not None:
                held.marked = True
        elif held is not None and held.outcome is move:
            self._inbox.discard(move.task)  # the event of a znode that may not be read is withheld
            self._let_go(move.task)

    def _refused(self, move: Move, held: Held | None, verdict: Verdict | None) -> None:
        name = move.task
        if verdict is Verdict.RACE_LOST or held is None:
            self._let_go(name)
        elif verdict is Verdict.DROP_ASSIGNMENT:
            self._finish(held, transitions.drop_assignment_because_status(self._worker, name))
        elif verdict is Verdict.DECIDE_AGAIN:
            # The status that the line above relied on was collected meanwhile: the task has ended all the same.
            self._finish(held, transitions.complete(self._worker, name, None))
        elif move.transition is TransitionName.MARK_START:
            self._fail(held, HerdError("its start cannot be marked, because ZooKeeper refused it"))
        else:
            # Perhaps a reference master is about to mend it.
            later = _TRY_LATER_SECONDS if verdict is Verdict.KEEP_AND_TRY_LATER else _SET_ASIDE_SECONDS
            self.is_folder_missing |= verdict is Verdict.UNEXPECTED
            self._under_way.add(name)
            self._loop.call_later(later, self._try_again, name)

    def _try_again(self, name: str) -> None:
        self._under_way.discard(name)
        self._schedule_step()

    # --- handing back --------------------------------------------------------------------------------------------

    def hand_back(self, *, waiting_since: float | None = None, running: bool = False) -> None:
        """Puts tasks back into `/tasks`: those not begun, or of these only those that wait since before
        `waiting_since` (loop time); with `running` also those whose code runs, whose outcomes are then discarded."""
        if self._suspended:
            return
        for name, held in list(self._held.items()):
            if held.outcome is not None or not self._is_idle(name):
                continue
            if waiting_since is not None and held.since > waiting_since:
                continue
            if held.job is None or self._take_back(held) or running:
                self._finish(held, transitions.hand_back(self._worker, name, held.task.payload))
        self._commit()
