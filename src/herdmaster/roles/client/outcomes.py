"""Waits for the outcomes of many tasks, with one-shot watches on their statuses, armed and read in bulk.

The awaited tasks outlive a session: the next session arms all watches again, and a status that exists already fires at
once. A task can vanish without an outcome (after a restart of an in-memory server, or an operator's `deleteall`). So
the client looks for all of its tasks in every new session, after a long absence, and every few minutes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.outcome import Outcome, decode_outcome
from herdmaster.core.signing import SignedOnly
from herdmaster.core.table import Verdict
from herdmaster.errors import BadOutcome, BadSignature, HerdError, OutcomeGone
from herdmaster.inspection.missing import find_missing
from herdmaster.roles.client.waiters import Waiters
from herdmaster.roles.shared.below import delete_below
from herdmaster.roles.shared.committer import Committer, Fate, Settlement
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node
from herdmaster.zookeeper.model import EventType, SessionState, WatchEvent

READ_BYTES: Final = 4 * 1024 * 1024
"""The size that a reply should have. Names tell nothing of a result's size, so recent results are the measure."""
MAX_READ: Final = 200
LOOK_AGAIN_SECONDS: Final = 60.0
"""Time between two looks for tasks that are awaited by name: other clients may collect their outcomes."""
LOOK_AT_ALL_SECONDS: Final = 300.0
FIRST_LOOK_SECONDS: Final = 2.0
"""Time from a new session to the first look. Many clients may have lost theirs at once, so all three are jittered."""

_log = logging.getLogger("herdmaster.client")

Ended = Callable[[str, Outcome | None, HerdError | None], bool]
"""Called once with the outcome, or with BadOutcome, BadSignature or OutcomeGone. Returns True if the outcome was
delivered, so that its status may be collected."""


class OutcomeWatch:
    """The tasks that one client waits for. `outcome_ttl` (seconds) is how long statuses are kept: after a longer
    absence a task may have ended unseen. `rng` spreads the searches of many clients. `signed_only` says which
    results are taken."""

    def __init__(self, *, outcome_ttl: float, rng: random.Random, signed_only: SignedOnly | None = None) -> None:
        self._signed_only = signed_only
        self._outcome_ttl = outcome_ttl
        self._rng = rng
        self._waiting: dict[str, Ended] = {}
        self._to_arm: dict[str, None] = {}
        self._to_read: dict[str, None] = {}
        self._to_locate: dict[str, None] = {}
        self._to_collect: dict[str, None] = {}
        self._to_clear: dict[str, None] = {}  # could not be collected, perhaps because znodes exist below the status
        self._to_check: dict[str, None] = {}  # were read; to be collected unless other clients wait for them
        self._shared: set[str] = set()  # awaited by name, so that other clients may collect them, too
        self._waiters = Waiters()
        self._size = 512.0  # bytes of a recent status, smoothed
        self._reading = 0
        self._step_scheduled = False
        self._client: Client | None = None
        self._committer: Committer | None = None
        self._locating = asyncio.Event()
        self._look_again_at = self._look_at_all_at = 0.0  # in the loop's time
        self._away_since: float | None = None

    # --- the caller's side ---------------------------------------------------------------------------------------

    def wait_for(self, task: str, ended: Ended, *, locate: bool = False) -> None:
        """Wait for a task. With `locate` the task may be long gone, or another client may collect its outcome: the
        client looks for it at once, and tells other clients that it waits. A task that is found nowhere ends with
        OutcomeGone."""
        self._waiting[task] = ended
        self._to_arm[task] = None
        if locate:
            self._shared.add(task)
            self._waiters.register(task)
            self._locate_later((task,))
        self._schedule_step()

    def forget(self, task: str) -> None:
        """Stop to wait for a task."""
        if self._waiting.pop(task, None) is not None:
            for names in (self._to_arm, self._to_read, self._to_locate):
                names.pop(task, None)
            self._stop_sharing(task)
            if self._client is not None:
                self._client.forget_created(layout.status_path(task), self._handle_created)

    def waits_for(self, task: str) -> bool:
        return task in self._waiting

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    # --- one session -----------------------------------------------------------------------------------------------

    async def run(self, client: Client) -> None:
        """Wait for outcomes until the session is over. Raises SessionExpired then."""
        self._client = client
        self._committer = Committer(client)
        self._reading = 0
        self._step_scheduled = False  # a step that failed at once may have left it set
        self._to_read.clear()
        self._to_arm = dict.fromkeys(self._waiting)
        self._waiters.begin_session(client)
        for task in sorted(self._shared):
            self._waiters.register(task)
        self._look_again_at = self._in(LOOK_AGAIN_SECONDS)
        self._look_at_all_at = self._in(FIRST_LOOK_SECONDS)
        client.add_listener(self._handle_state)
        self._handle_state(client.state)
        try:
            while True:
                await self._wait_to_locate()
                self._locating.clear()
                if client.state.is_final:
                    raise errors.SessionExpired("the client's session ended")
                await self._clear(client)
                await self._locate(client)
        finally:
            client.remove_listener(self._handle_state)
            self._waiters.end_session()
            self._client = self._committer = None
            self._away_since = self._away_since or client.clock()

    def _in(self, seconds: float) -> float:
        """Return the loop's time in about so many seconds."""
        return asyncio.get_running_loop().time() + seconds * self._rng.uniform(0.8, 1.2)

    async def _wait_to_locate(self) -> None:
        """Wait until there are tasks to look for, or until it is time to look for all of them."""
        due = min(self._look_again_at, self._look_at_all_at)
        try:
            async with asyncio.timeout_at(due):
                await self._locating.wait()
        except TimeoutError:
            now = max(due, asyncio.get_running_loop().time())  # a timer may fire a little early
            if now >= self._look_at_all_at:
                self._look_at_all_at = self._in(LOOK_AT_ALL_SECONDS)
                self._to_locate.update(dict.fromkeys(self._waiting))
            if now >= self._look_again_at:
                self._look_again_at = self._in(LOOK_AGAIN_SECONDS)
                self._to_locate.update(dict.fromkeys(self._shared))
                self._schedule_step()  # to try registrations that failed again

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
        self._waiters.send()  # before the watches: a registration that comes after the outcome may be too late
        if self._to_arm:
            paths = [layout.status_path(task) for task in self._to_arm if task in self._waiting]
            self._to_arm.clear()
            client.watch_created_nowait(paths, self._handle_created)
        if self._to_collect and self._committer is not None:
            moves = [transitions.collect(task) for task in self._to_collect]
            self._to_collect.clear()
            self._committer.commit(moves, self._collected)
        if self._to_check:
            tasks, self._to_check = list(self._to_check), {}
            self._waiters.find_awaited(tasks, self._share)
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
            self._to_arm[task] = None  # its watch has fired for another reason
        self._schedule_step()

    def _read(self, client: Client, tasks: list[str]) -> None:
        if not tasks:
            return
        self._reading += len(tasks)

        def done(nodes: list[Node | errors.ServerError] | None, error: Exception | None) -> None:
            self._schedule_step()
            if client is not self._client:
                return  # the next session arms and reads anew
            self._reading -= len(tasks)
            if nodes is not None:
                *statuses, folder = nodes
                others_wait = isinstance(folder, tuple) and folder[1].num_children > 0
                for task, status in zip(tasks, statuses, strict=True):
                    self._handle_status(task, status, others_wait=others_wait)
            elif not isinstance(error, errors.SessionExpired):
                self._to_arm.update(dict.fromkeys(tasks))  # their watches have fired

        # The stat of /waiters in the same reply tells whether any task has waiters: mostly none has.
        paths = [layout.status_path(task) for task in tasks]
        paths.append(layout.WAITERS)
        client.multi_read_nowait(paths, done)

    def _handle_status(self, task: str, status: Node | errors.ServerError, *, others_wait: bool) -> None:
        if isinstance(status, tuple):
            self._was_read(task, status[0] or b"", others_wait=others_wait)
        elif isinstance(status, errors.NoNode):
            # Created and deleted again, by a client that had not seen the registration of this one.
            self._to_arm[task] = None
            self._locate_later((task,))
        else:
            self._deliver(task, None, BadOutcome(f"the status of {task} cannot be read: {status}"))

    def _was_read(self, task: str, data: bytes, *, others_wait: bool) -> None:
        self._size = max(len(data), self._size * 0.9, 64.0)
        try:
            signed_only = self._signed_only
            outcome = decode_outcome(task, data) if signed_only is None else signed_only.read_outcome(task, data)
        except (BadOutcome, BadSignature) as error:
            # Another program wrote this status, so this client does not delete it: it is swept when its time is over.
            self._deliver(task, None, error)
            return
        # Other clients leave the outcome for this one, once they know that it waits; then this one leaves it for them.
        is_shared = self._waiters.is_registered(task)
        # Until it is swept, the outcome of a task with a key is for every client that submits with the same key, and a
        # kept one is for every client.
        if not self._deliver(task, outcome, None) or outcome.key is not None or outcome.keep:
            return
        if is_shared:
            self._waiters.mark(task)
        elif others_wait:
            self._to_check[task] = None
        else:
            self._to_collect[task] = None

    def _share(self, tasks: Sequence[str], awaited: set[str] | None) -> None:
        """Collect the outcomes that no other client waits for, and leave the others."""
        for task in tasks:
            if awaited is None:
                self._to_check[task] = None
            elif task in awaited:
                self._waiters.mark(task)
            else:
                self._to_collect[task] = None
        self._schedule_step()

    def _deliver(self, task: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        ended = self._waiting.pop(task, None)
        self._to_locate.pop(task, None)
        self._stop_sharing(task)
        if ended is None:
            return False
        try:
            return ended(task, outcome, error)
        except Exception:  # noqa: BLE001 - the caller's fault; others wait for their outcomes, too
            _log.exception("a callback failed for %s", task)
            return False

    def _stop_sharing(self, task: str) -> None:
        if task in self._shared:
            self._shared.discard(task)
            self._waiters.leave(task)
            self._schedule_step()

    def _collected(self, settlement: Settlement) -> None:
        if settlement.fate in (Fate.UNKNOWN, Fate.SESSION_OVER):
            self._to_collect[settlement.move.task] = None  # collect again: it is gone already, or it goes then
            self._schedule_step()
        elif settlement.verdict is Verdict.UNEXPECTED:
            self._to_clear[settlement.move.task] = None
            self._locating.set()

    async def _clear(self, client: Client) -> None:
        """Delete what stands below statuses. A status that stays nevertheless is swept when its time is over."""
        while self._to_clear:
            task = next(iter(self._to_clear))
            try:
                count = await delete_below(client, layout.status_path(task))
            except errors.ConnectionLoss:
                self._locating.set()
                return
            del self._to_clear[task]
            if count:
                self._to_collect[task] = None
                self._schedule_step()

    # --- where is it? ----------------------------------------------------------------------------------------------

    async def _locate(self, client: Client) -> None:
        while self._to_locate:
            # Cleared before the search: a request that comes from now on may have seen more than this search does.
            tasks = list(self._to_locate)
            self._to_locate.clear()
            try:
                missing = await find_missing(client, tasks)
            except BaseException:
                self._to_locate.update(dict.fromkeys(task for task in tasks if task in self._waiting))
                raise
            for task in missing:
                reason = "no such task waits or runs, and no outcome is kept: it was read or deleted, or is too old"
                self._deliver(task, None, OutcomeGone(f"{task}: {reason}"))
