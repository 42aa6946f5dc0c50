"""Waits for the outcomes of many tasks: one-shot watches on their statuses, armed and read in bulk.

What is waited for outlives a session: the next one arms everything again, and a status that is there already fires at
once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.outcome import Outcome, decode_outcome
from herdmaster.errors import BadOutcome, HerdError, OutcomeGone
from herdmaster.roles.committer import Committer, Fate, Settlement
from herdmaster.roles.whereabouts import find_missing
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import EventType, SessionState, WatchEvent
from herdmaster.zookeeper.wire.multi import ErrorResult, MultiRead, MultiReply
from herdmaster.zookeeper.wire.records import DataReply, GetData, Record

READ_BYTES: Final = 4 * 1024 * 1024
"""Aimed at per reply: names tell nothing of a result's size, so the recent ones are taken as the measure."""
MAX_READ: Final = 200
MAX_LOCATED: Final = 1000
LOOK_AGAIN_SECONDS: Final = 60.0

_log = logging.getLogger("herdmaster.client")

Ended = Callable[[str, Outcome | None, HerdError | None], bool]
"""Called once with the outcome, or with BadOutcome or OutcomeGone. True: it was delivered, so its status may be
collected."""


class OutcomeWatch:
    """`outcome_ttl` (seconds) is how long statuses are kept: after a longer absence a task may have ended unseen."""

    def __init__(self, *, outcome_ttl: float) -> None:
        self._outcome_ttl = outcome_ttl
        self._waiting: dict[str, Ended] = {}
        self._to_arm: dict[str, None] = {}
        self._to_read: dict[str, None] = {}
        self._to_locate: dict[str, None] = {}
        self._to_collect: dict[str, None] = {}
        self._shared: set[str] = set()  # waited for by name, so that others may collect them, too
        self._size = 512.0  # bytes of a recent status, smoothed
        self._reading = 0
        self._step_scheduled = False
        self._client: Client | None = None
        self._committer: Committer | None = None
        self._locating = asyncio.Event()
        self._away_since: float | None = None

    # --- the caller's side ---------------------------------------------------------------------------------------

    def wait_for(self, task: str, ended: Ended, *, locate: bool = False) -> None:
        """With `locate` the task may be long gone, or collected by somebody else while this side is away: found nowhere
        twice, it ends with OutcomeGone."""
        self._waiting[task] = ended
        self._to_arm[task] = None
        if locate:
            self._shared.add(task)
            self._locate_later((task,))
        self._schedule_step()

    def forget(self, task: str) -> None:
        """Nobody waits for it any more."""
        if self._waiting.pop(task, None) is not None:
            for names in (self._to_arm, self._to_read, self._to_locate):
                names.pop(task, None)
            self._shared.discard(task)
            if self._client is not None:
                self._client.forget_created(layout.status_path(task), self._handle_created)

    def waits_for(self, task: str) -> bool:
        return task in self._waiting

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    # --- one session -----------------------------------------------------------------------------------------------

    async def run(self, client: Client) -> None:
        """Until the session is over: raises SessionExpired then."""
        self._client = client
        self._committer = Committer(client)
        self._reading = 0
        self._step_scheduled = False  # a step that failed at once has left it
        self._to_read.clear()
        self._to_arm = dict.fromkeys(self._waiting)
        client.add_listener(self._handle_state)
        self._handle_state(client.state)
        try:
            while True:
                await self._wait_to_locate()
                self._locating.clear()
                if client.state.is_final:
                    raise errors.SessionExpired("the client's session ended")
                await self._locate(client)
        finally:
            client.remove_listener(self._handle_state)
            self._client = self._committer = None
            self._away_since = self._away_since or client.clock()

    async def _wait_to_locate(self) -> None:
        """Those that others know of are looked for from time to time: a task without an outcome ends without a sign."""
        try:
            async with asyncio.timeout(LOOK_AGAIN_SECONDS if self._shared else None):
                await self._locating.wait()
        except TimeoutError:
            self._to_locate.update(dict.fromkeys(self._shared))

    def _handle_state(self, state: SessionState) -> None:
        client = self._client
        if client is None:
            return
        if state is SessionState.CONNECTED:
            away = self._away_since is not None and client.clock() - self._away_since > self._outcome_ttl
            self._locate_later(self._waiting if away else self._shared)
            self._away_since = None
        elif self._away_since is None:
            self._away_since = client.clock()
        self._locating.set()
        self._schedule_step()

    def _locate_later(self, tasks: Iterable[str]) -> None:
        self._to_locate.update(dict.fromkeys(tasks))
        self._locating.set()

    def _schedule_step(self) -> None:
        if not self._step_scheduled and self._client is not None:
            self._step_scheduled = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._step_scheduled = False
        client = self._client
        if client is None or client.state is not SessionState.CONNECTED:
            return
        if self._to_arm:
            paths = [layout.status_path(task) for task in self._to_arm if task in self._waiting]
            self._to_arm.clear()
            client.watch_created_nowait(paths, self._handle_created)
        if self._to_collect and self._committer is not None:
            moves = [transitions.collect(task) for task in self._to_collect]
            self._to_collect.clear()
            self._committer.commit(moves, self._collected)
        while self._to_read and self._reading < MAX_READ:
            count = max(1, min(MAX_READ, int(READ_BYTES / self._size)))
            tasks = list(self._to_read)[:count]
            for task in tasks:
                del self._to_read[task]
            self._read(client, [task for task in tasks if task in self._waiting])

    def _handle_created(self, event: WatchEvent) -> None:
        task = layout.name_of(event.path)
        if task not in self._waiting:
            return
        if event.type is EventType.CREATED:
            self._to_read[task] = None
        else:
            self._to_arm[task] = None  # the watch is used up by whatever fired it
        self._schedule_step()

    def _read(self, client: Client, tasks: list[str]) -> None:
        if not tasks:
            return
        self._reading += len(tasks)

        def done(reply: Record | None, error: Exception | None) -> None:
            self._schedule_step()
            if client is not self._client:
                return  # the next session arms and reads anew
            self._reading -= len(tasks)
            if isinstance(reply, MultiReply):
                for task, result in zip(tasks, reply.results, strict=True):
                    self._handle_result(task, result)
            elif not isinstance(error, errors.SessionExpired):
                self._to_arm.update(dict.fromkeys(tasks))  # their watches are used up

        paths = (client.outward(layout.status_path(task)) for task in tasks)
        client.call_nowait(MultiRead(tuple(GetData(path, False) for path in paths)), done)

    def _handle_result(self, task: str, result: Record) -> None:
        if isinstance(result, DataReply):
            self._was_read(task, result.data or b"")
        elif isinstance(result, ErrorResult) and result.code == errors.NoNode.code:
            # Created and deleted again, by somebody who took it for his.
            self._to_arm[task] = None
            self._locate_later((task,))
        else:
            code = result.code if isinstance(result, ErrorResult) else errors.MarshallingError.code
            self._deliver(task, None, BadOutcome(f"the status of {task} cannot be read: {errors.from_code(code)}"))

    def _was_read(self, task: str, data: bytes) -> None:
        self._size = max(len(data), self._size * 0.9, 64.0)
        try:
            outcome = decode_outcome(task, data)
        except BadOutcome as error:
            # Whoever wrote it, it is not ours to delete: it is swept when its time is over.
            self._deliver(task, None, error)
            return
        # The outcome of a task with a key is for whoever submits with the same key, until its time to live is over.
        if self._deliver(task, outcome, None) and outcome.key is None:
            self._to_collect[task] = None

    def _deliver(self, task: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        ended = self._waiting.pop(task, None)
        self._to_locate.pop(task, None)
        self._shared.discard(task)
        if ended is None:
            return False
        try:
            return ended(task, outcome, error)
        except Exception:  # noqa: BLE001 - the caller's fault; others wait for their outcomes, too
            _log.exception("a callback failed for %s", task)
            return False

    def _collected(self, settlement: Settlement) -> None:
        if settlement.fate in (Fate.UNKNOWN, Fate.SESSION_OVER):
            self._to_collect[settlement.move.task] = None  # once more: it is gone, or it goes then
            self._schedule_step()

    # --- where is it? ----------------------------------------------------------------------------------------------

    async def _locate(self, client: Client) -> None:
        while self._to_locate:
            tasks = list(self._to_locate)[:MAX_LOCATED]
            # Before the search: what asks for one of them from now on has seen more than this search may.
            for task in tasks:
                del self._to_locate[task]
            try:
                missing = await find_missing(client, tasks)
            except BaseException:
                self._to_locate.update(dict.fromkeys(task for task in tasks if task in self._waiting))
                raise
            for task in missing:
                text = f"{task}: it is neither waiting, nor running, nor has it an outcome to collect"
                self._deliver(task, None, OutcomeGone(text))
