"""Drains a worker: what runs may finish, the other tasks are handed back, and the worker deregisters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from herdmaster.core import layout
from herdmaster.roles.shared.committer import MAX_BATCH_BYTES, MAX_BATCH_MOVES, add_operation
from herdmaster.roles.shared.primary_kind import PrimaryProgram, primary_program
from herdmaster.roles.shared.until_certain import until_certain
from herdmaster.roles.worker.worker_session import WorkerSession
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Transaction

_log = logging.getLogger("herdmaster.worker")


class Draining:
    """The drain of one session. `record` is the data of the worker's znode meanwhile, `changed` is set whenever a task
    has ended, and `leaving` is called before the worker deletes its own znode."""

    def __init__(
        self,
        client: Client,
        session: WorkerSession,
        name: str,
        *,
        record: bytes,
        changed: asyncio.Event,
        leaving: Callable[[], None],
    ) -> None:
        self._client = client
        self._session = session
        self._name = name
        self._record = record
        self._changed = changed
        self._leaving = leaving

    async def run(self, patience: float) -> None:
        """Drain for at most `patience` seconds, then give up.

        - Under one of our primaries: finish what runs, hand back the rest, delete the inbox.
        - Under any other primary, and while there is none: run everything in the inbox, and what comes into it
          meanwhile. The worker stays registered until then, because a reference primary treats the tasks of
          a worker that is gone as lost.
        """
        client, session = self._client, self._session
        count = len(self._running())
        _log.info("%s drains: %s running", self._name, "1 task is" if count == 1 else f"{count} tasks are")
        limit = client.clock() + patience
        await self._announce()
        while True:
            program = await primary_program(client)
            is_ours = program is PrimaryProgram.OURS
            session.set_starting(may_start=not is_ours)
            if await self._is_done(program):
                break
            remaining = limit - client.clock()
            if remaining <= 0:
                await self._give_up(program)
                return
            session.look_again()
            await self._wait_changed(min(remaining, 1.0))
        _log.info("%s has drained", self._name)

    def _running(self) -> list[str]:
        return [task.name for task in self._session.running]

    async def _announce(self) -> None:
        with contextlib.suppress(errors.NoNode):  # it was deleted: nothing is assigned to this worker any more
            await until_certain(partial(self._client.set, layout.worker_path(self._name), self._record))

    async def _is_done(self, program: PrimaryProgram) -> bool:
        self._changed.clear()
        if program is PrimaryProgram.OURS:
            self._session.hand_back()
        return self._session.is_empty and await self._deregister(program)

    async def _give_up(self, program: PrimaryProgram) -> None:
        session, client = self._session, self._client
        _log.warning("%s gives up waiting for: %s", self._name, ", ".join(self._running()) or "its transactions")
        session.set_starting(may_start=False)
        limit = client.clock() + client.timeout
        while program in (PrimaryProgram.OURS, PrimaryProgram.CURATOR) and client.clock() < limit:
            self._changed.clear()
            if program is PrimaryProgram.CURATOR:
                if await self._leave_curator():
                    return
            else:
                session.hand_back(running=True)
                if session.is_empty and await self._deregister(program):
                    return
            await self._wait_changed(0.1)
        if session.left:
            left = "1 task" if session.left == 1 else f"{session.left} tasks"
            _log.warning("%s leaves %s in its inbox; %s", self._name, left, program.value)

    async def _deregister(self, program: PrimaryProgram) -> bool:
        """Delete the inbox and the worker's own znode. Return False if another task was assigned first."""
        # The inbox first: by the order of the events the primary tells a drained worker from a lost one.
        transaction = self._client.transaction().delete(layout.inbox_path(self._name))
        if program is not PrimaryProgram.OURS:
            # A reference primary may assign tasks until it hears that the worker is gone, and then looks for them in
            # the inbox. Without an inbox it would never look at these tasks again.
            transaction.create(layout.inbox_path(self._name))
        return await self._commit(transaction.delete(layout.worker_path(self._name)))

    async def _leave_curator(self) -> bool:
        """Deregister and put all tasks back in one transaction. A Curator master deletes what is in the inbox of a
        worker that is gone; tasks that are put back before the worker goes may be assigned to it again."""
        moves = self._session.moves_back()
        if moves is None or len(moves) > MAX_BATCH_MOVES or sum(move.size() for move in moves) > MAX_BATCH_BYTES:
            self._session.hand_back(running=True)
            return self._session.is_empty and await self._deregister(PrimaryProgram.CURATOR)
        # The worker's znode first: the master hears of its end before it sees the tasks.
        transaction = self._client.transaction().delete(layout.worker_path(self._name))
        for move in moves:
            for operation in move.operations:
                add_operation(transaction, operation)
        # Refused if a task was assigned meanwhile: the master would delete that task with the inbox.
        inbox = layout.inbox_path(self._name)
        return await self._commit(transaction.delete(inbox).create(inbox))

    async def _commit(self, transaction: Transaction) -> bool:
        self._leaving()
        try:
            await transaction.commit()
        except errors.TransactionFailed as failure:
            if isinstance(failure.error, errors.NotEmpty) and self._session.is_empty:
                _log.warning("the inbox of %s is left behind: what it holds are no tasks", self._name)
                return True
            # NoNode of the worker's own znode or inbox: an earlier transaction was applied, and its reply lost.
            own = (layout.worker_path(self._name), layout.inbox_path(self._name))
            return isinstance(failure.error, errors.NoNode) and failure.error.path in own
        except errors.ConnectionLoss:
            return False
        return True

    async def _wait_changed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
