"""Submits batches of tasks, each accepted exactly once however often the connection or the session is lost.

The data version of `/clients/CLIENT` counts the accepted batches. Every batch checks that this session's `alive` node
exists, sets the journal with the expected version, and creates the tasks. So after any doubt one read of the version
tells which batches were accepted: those that expected a lower one. `BadVersion` alone tells nothing; it only leads to
that read. A new session first deletes the older `alive` nodes: from then on, requests of an old session that are still
under way are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.names import client_name
from herdmaster.core.table import Failure, Verdict
from herdmaster.core.transitions import FlowPart, NewTask
from herdmaster.errors import BadPayload, HerdError, NotSubmitted, SubmissionUnknown
from herdmaster.roles.client.due_times import DueTimes, is_timed
from herdmaster.roles.client.journal_items import Accepted, Answer, Batch, Item, KeyTaken
from herdmaster.roles.shared.committer import MAX_BATCH_BYTES, add_operation
from herdmaster.roles.shared.until_certain import until_certain
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Results
from herdmaster.zookeeper.model import CreateMode, SessionState, Stat

MAX_BATCH_TASKS: Final = 100
MAX_BATCHES_IN_FLIGHT: Final = 4

_log = logging.getLogger("herdmaster.client")


class SubmissionJournal:
    """The submissions of one client. `new_id` gives a random id; it is called again when a journal was swept."""

    def __init__(self, new_id: Callable[[], str], due_times: DueTimes) -> None:
        self._new_id = new_id
        self._due_times = due_times
        self._name = client_name(new_id())
        self._exists = False  # whether the journal has been created
        self._items: dict[str, Item] = {}
        self._queue: deque[Item] = deque()
        self._abandoned = 0  # items of the queue whose callers gave up
        self._sent: deque[Batch] = deque()
        self._version = 0  # that the next batch expects
        self._in_doubt = True  # the version has to be read before anything is sent
        self._prepared = False  # this session's alive node exists
        self._time_is_wanted = False  # by a task of the queue
        self._fault: errors.ServerError | None = None
        self._ended = False
        self._wake = asyncio.Event()

    # --- the caller's side ---------------------------------------------------------------------------------------

    def submit(self, task: NewTask, accepted: Accepted, asked_at: float | None = None) -> None:
        """Submit a task. `accepted` is called once: with None when the task is in ZooKeeper, else with NotSubmitted
        (KeyTaken, if that is the reason) or SubmissionUnknown. `asked_at` is when the caller asked, if not now: see
        `DueTimes.asked_at`."""
        if asked_at is None and is_timed(task):
            asked_at = self._due_times.asked_at()
        self._enter(Item(task, partial(accepted, task), asked_at if is_timed(task) else None))

    def submit_part(self, part: FlowPart, answer: Answer) -> None:
        """As `submit`, a part of a flow. KeyTaken: there is such a flow already."""
        self._enter(Item(part, answer))

    def _enter(self, item: Item) -> None:
        self._items[item.name] = item
        if self._ended:
            self._resolve(item, NotSubmitted(f"{item.name} was not submitted: the client is closed"))
            return
        self._queue.append(item)
        self._wake.set()

    def give_up(self, name: str) -> None:
        """Tell the caller, which no longer waits, what is known."""
        item = self._items.get(name)
        if item is None:
            return
        if any(item in batch.items for batch in self._sent if not batch.refused):
            self._abandon(item, SubmissionUnknown([name]))
            return
        self._abandon(item, NotSubmitted(f"{name} was not accepted in time: no connection to ZooKeeper"))
        self._abandoned += 1
        if self._abandoned > MAX_BATCH_TASKS and self._abandoned > len(self._queue) // 2:
            self._queue = deque(item for item in self._queue if not item.abandoned)
            self._abandoned = 0

    def end(self) -> None:
        """Tell each caller that still waits what is known: no session will follow."""
        self._ended = True
        self._queue.clear()
        for batch in self._sent:
            for item in batch.items if not batch.refused else ():
                self._abandon(item, SubmissionUnknown([item.name]))
        for item in list(self._items.values()):
            self._abandon(item, NotSubmitted(f"{item.name} was not accepted before the client was closed"))

    def _abandon(self, item: Item, error: HerdError) -> None:
        item.abandoned = True
        self._resolve(item, error)

    @property
    def unresolved(self) -> int:
        return len(self._items)

    def _resolve(self, item: Item, error: HerdError | None) -> None:
        if self._items.pop(item.name, None) is None:
            return
        try:
            item.answer(error)
        except Exception:  # noqa: BLE001 - the caller's fault; the others of the batch wait for their answer, too
            _log.exception("a callback failed for %s", item.name)

    # --- one session -----------------------------------------------------------------------------------------------

    async def run(self, client: Client) -> None:
        """Send batches until the session is over. Raises SessionExpired then."""
        self._prepared = False
        self._in_doubt = True
        self._fault = None
        for batch in self._sent:
            batch.replied = True  # no more replies come in the old session
        self._wake.set()
        client.add_listener(self._handle_state)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if client.state.is_final:
                    raise errors.SessionExpired("the client's session ended")
                if self._fault is not None:
                    raise self._fault
                if not self._items and not self._sent:
                    continue
                if not self._prepared and not await self._may_submit(client):
                    continue
                if self._in_doubt and all(batch.replied for batch in self._sent):
                    await self._settle_doubt(client)
                if self._time_is_wanted and self._prepared:
                    await self._read_time(client)
                if not self._in_doubt and client.state is SessionState.CONNECTED:
                    self._send_batches(client)
        finally:
            client.remove_listener(self._handle_state)

    def _handle_state(self, _state: SessionState) -> None:
        self._wake.set()

    async def _may_submit(self, client: Client) -> bool:
        """Prepare the journal. Refuse what waits, and return False, if this session lacks a right to."""
        try:
            await self._prepare(client)
        except errors.NoAuth as error:
            waiting, self._queue = list(self._queue), deque()
            self._refuse(waiting, error)
            return False
        return True

    async def _prepare(self, client: Client) -> None:
        """Create the journal, delete the alive nodes of older sessions, and create that of this session."""
        path = layout.client_path(self._name)
        if not self._exists:
            with contextlib.suppress(errors.NodeExists):  # a random id: an earlier request of this client created it
                await until_certain(partial(client.create, path))
            self._exists = True
        try:
            for alive in await client.children(path):
                if alive != layout.alive_name(client.session_id):
                    with contextlib.suppress(errors.NoNode):
                        await until_certain(partial(client.delete, f"{path}/{alive}"))
            mine = layout.alive_path(self._name, client.session_id)
            with contextlib.suppress(errors.NodeExists):
                await until_certain(partial(client.create, mine, mode=CreateMode.EPHEMERAL))
        except errors.NoNode:
            self._journal_gone()
            await self._prepare(client)
            return
        self._prepared = True
        self._in_doubt = True

    def _journal_gone(self) -> None:
        """Start a new journal after this one was swept, because the client was away for long. The fate of what was
        under way cannot be known any more."""
        _log.warning("the journal of %s was swept; continuing under another id", self._name)
        self._name = client_name(self._new_id())
        self._exists = self._prepared = False
        self._in_doubt = True
        sent, self._sent = self._sent, deque()
        for batch in sent:
            if batch.refused:
                continue
            for item in batch.items:
                self._resolve(item, SubmissionUnknown([item.name]))
        self._send_again([batch for batch in sent if batch.refused])

    async def _settle_doubt(self, client: Client) -> None:
        """Read how many batches were accepted, and send the others again."""
        path = layout.client_path(self._name)
        await client.sync(path)
        stat = await client.exists(path)
        if stat is None:
            self._journal_gone()
            self._wake.set()
            return
        sent, self._sent = self._sent, deque()
        self._version = stat.version
        self._in_doubt = False
        missing: list[Batch] = []
        for batch in sent:
            if batch.refused or batch.counted_on >= stat.version:
                missing.append(batch)
                continue
            for item in batch.items:
                self._resolve(item, None)
        self._send_again(missing)

    async def _read_time(self, client: Client) -> None:
        """Read the servers' clock with a write to this session's alive node, whose version counts nothing."""
        try:
            stat = await client.set(layout.alive_path(self._name, client.session_id), b"")
        except errors.NoNode:
            self._prepared = False
        except errors.ConnectionLoss:
            pass
        else:
            self._due_times.synchronize(stat.mtime)
            self._time_is_wanted = False
        self._wake.set()

    def _send_again(self, batches: Sequence[Batch]) -> None:
        items = [item for batch in batches for item in batch.items if not item.abandoned]
        self._queue.extendleft(reversed(items))

    # --- batches -------------------------------------------------------------------------------------------------

    def _send_batches(self, client: Client) -> None:
        while self._queue and len(self._sent) < MAX_BATCHES_IN_FLIGHT and not self._in_doubt:
            items = self._next_items(client.acl_size)
            if items:
                self._send(client, items)
            elif self._time_is_wanted:
                return

    def _next_items(self, acl: int) -> list[Item]:
        """Take the items of the next batch from the queue. `acl`: the bytes of an ACL."""
        items: list[Item] = []
        size = 0
        while self._queue and len(items) < MAX_BATCH_TASKS:
            item = self._queue[0]
            cost = item.cost + acl * item.creates
            if items and size + cost > MAX_BATCH_BYTES:
                break
            if item.asked_at is not None and not item.abandoned and not self._due_times.is_fresh:
                self._time_is_wanted = True
                self._wake.set()
                break
            self._queue.popleft()
            if not item.abandoned:
                items.append(item)
                size += cost
        return items

    def _send(self, client: Client, items: list[Item]) -> None:
        fixed = [(item, entry) for item in items if (entry := self._fix_times(item)) is not None]
        if not fixed:
            return
        items = [item for item, _ in fixed]
        entries = (entry for _, entry in fixed)
        submission = transitions.submit(self._name, client.session_id, self._version, entries)
        batch = Batch(items, self._version, submission)
        self._sent.append(batch)
        self._version += 1
        transaction = client.transaction()
        for operation in submission.operations:
            add_operation(transaction, operation)

        def done(results: Results | None, error: Exception | None) -> None:
            if results is not None and isinstance(journal := results[1], Stat):
                self._due_times.synchronize(journal.mtime)
            self._done(batch, error)

        try:
            transaction.commit_nowait(done)
        except errors.ZooKeeperError as error:
            self._done(batch, error)

    def _fix_times(self, item: Item) -> NewTask | FlowPart | None:
        """Return the entry, a task with times of the servers' clock; None for one that is refused, because its payload
        can take no time limit."""
        if item.asked_at is None or isinstance(item.entry, FlowPart):
            return item.entry
        try:
            return self._due_times.fix(item.entry, item.asked_at)
        except BadPayload as error:
            self._refuse([item], error)
            return None

    def _done(self, batch: Batch, error: Exception | None) -> None:
        batch.replied = True
        self._wake.set()
        if batch not in self._sent:
            return  # the next session has settled it meanwhile
        if error is None:
            self._sent.remove(batch)
            for item in batch.items:
                self._resolve(item, None)
            return
        self._in_doubt = True
        if isinstance(error, errors.TransactionFailed):
            batch.refused = True
            self._refused(batch, error)
        elif isinstance(error, errors.RequestTooLarge):
            batch.refused = True
            self._refuse(batch.items, error)

    def _refused(self, batch: Batch, error: errors.TransactionFailed) -> None:
        failure = Failure(type(error.error).__name__)
        match transitions.verdict(batch.submission, error.index, failure):
            case Verdict.READ_JOURNAL | Verdict.JOURNAL_GONE:
                return  # reading the journal tells which of the two
            case Verdict.SESSION_REPLACED:
                self._prepared = False  # the alive node of a living session was deleted: create it again
            case found:
                owner = batch.submission.owners[error.index]
                operation = batch.submission.operations[error.index]
                if found is Verdict.FOLDER_MISSING or (found is Verdict.UNEXPECTED and owner < 0):
                    # Not the fault of this task: the next start makes the folder again.
                    self._fault = error.error
                    _log.warning("submissions wait: ZooKeeper refused %s: %s", operation.path, error.error)
                elif found is Verdict.KEY_TAKEN:
                    item = batch.items[owner]
                    self._abandon(item, KeyTaken(f"{item.name} was refused: its key, or its name, is taken"))
                elif found is Verdict.PARENT_GONE:
                    item = batch.items[owner]
                    why = "its parent has ended, or is not in this namespace"
                    self._abandon(item, NotSubmitted(f"{item.name} was refused: {why}"))
                else:
                    self._refuse([batch.items[owner]], error.error)

    def _refuse(self, items: Iterable[Item], error: Exception) -> None:
        """Fail items that were certainly not accepted, by their own fault. The others of the batch go again without
        them."""
        for item in items:
            self._abandon(item, NotSubmitted(f"{item.name} was refused: {error}"))

    async def close(self, client: Client) -> None:
        """Delete the journal if nothing is in doubt; otherwise it is swept later."""
        if not self._prepared or self._sent or client.state is not SessionState.CONNECTED:
            return
        transaction = client.transaction().delete(layout.alive_path(self._name, client.session_id))
        transaction.delete(layout.client_path(self._name))
        with contextlib.suppress(errors.ZooKeeperError):
            await transaction.commit()
        self._exists = self._prepared = False
