"""Planted bugs of the protocol, one patch each, which the simulation must find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core import layout, names, recovery, retry, transitions
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.members import MasterRecord, encode_record
from herdmaster.core.options import RunOptions
from herdmaster.core.table import Failure, TransitionName, Verdict
from herdmaster.core.throttle import Throttle
from herdmaster.core.transitions import CreateNode, DeleteNode, Move, NewTask
from herdmaster.operations import actions
from herdmaster.operations.actions import CancelVerdict
from herdmaster.roles.client import submission_journal as journal
from herdmaster.roles.primary import dispatch, master
from herdmaster.roles.shared.committer import Committer, add_operation
from herdmaster.roles.worker import commits, inbox, next_move, worker
from herdmaster.running.execution import Executor
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode, SessionState
from herdmaster.zookeeper.recipes import election, ownership
from herdmaster.zookeeper.recipes.children import ChildStream, Complete, Interrupted
from herdmaster.zookeeper.recipes.server_time import ServerTime


@contextmanager
def _patched(*changes: tuple[object, str, object]) -> Iterator[None]:
    with ExitStack() as stack:
        for target, name, replacement in changes:
            stack.enter_context(patch.object(target, name, replacement))
        yield


def two_request_moves() -> Any:
    """Each operation is sent as a separate request, the create before the delete, as in the reference."""

    def send(self: Any, batch: Any) -> None:
        operations = sorted(batch.operations, key=lambda operation: isinstance(operation, DeleteNode))
        for number, operation in enumerate(operations, 1):
            transaction = self._client.transaction()
            add_operation(transaction, operation)

            def done(_results: object, error: Exception | None, is_last: bool = number == len(operations)) -> None:
                if is_last:
                    self._done(batch, error)

            try:
                transaction.commit_nowait(done)
            except errors.ZooKeeperError as error:
                done(None, error)

    return _patched((Committer, "_send", send))


def leadership_by_data() -> Any:
    """A master takes itself for primary because `/master` holds its id, without looking at the owning session."""

    async def claim(client: Client, path: str, data: bytes) -> bool:
        while True:
            try:
                await client.create(path, data, mode=CreateMode.EPHEMERAL)
            except (errors.NodeExists, errors.ConnectionLoss):
                try:
                    return (await client.get(path))[0] == data
                except errors.NoNode:
                    continue
            return True

    async def wait_lost(self: Any) -> None:
        await ownership.wait_unless_over(self._client, __import__("asyncio").Event())

    def encode(record: MasterRecord) -> bytes:
        return encode_record(msgspec.structs.replace(record, id=f"master-{record.host}", since=0))

    return _patched(
        (election, "claim", claim), (election.Election, "wait_lost", wait_lost), (master, "encode_record", encode)
    )


def no_listing_after_reconnect() -> Any:
    """After a reconnect the watches are armed again, but nothing is listed again."""

    def handle_state(self: Any, state: SessionState) -> None:
        if self._stopped:
            return
        if state is SessionState.DISCONNECTED:
            self._sink(Interrupted())
        elif state is SessionState.CONNECTED:
            self._sink(Complete(self._root))

    return _patched((ChildStream, "_handle_state", handle_state))


def listing_as_difference() -> Any:
    """A listing is used for new names only; missing names are ignored."""

    added = Dispatcher.add_task

    def add_task(self: Any, name: str) -> None:
        self.__dict__.setdefault("seen", set()).add(name)
        added(self, name)

    def replace_tasks(self: Any, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.__dict__.get("seen", ()):
                add_task(self, name)

    return _patched((Dispatcher, "replace_tasks", replace_tasks), (Dispatcher, "add_task", add_task))


def blind_resubmission() -> Any:
    """After a lost connection every batch without a reply is sent again."""
    settle = journal.SubmissionJournal._settle_doubt

    async def settle_doubt(self: Any, client: Client) -> None:
        for batch in self._sent:
            batch.refused = True
        await settle(self, client)

    return _patched((journal.SubmissionJournal, "_settle_doubt", settle_doubt))


def bad_version_is_accepted() -> Any:
    """A journal with another version is taken to mean that the batch was accepted."""
    refused = journal.SubmissionJournal._refused

    def treat(self: Any, batch: Any, error: errors.TransactionFailed) -> None:
        found = transitions.verdict(batch.submission, error.index, Failure(type(error.error).__name__))
        if found is Verdict.READ_JOURNAL:
            self._sent.remove(batch)
            for item in batch.items:
                self._resolve(item, None)
        else:
            refused(self, batch, error)

    return _patched((journal.SubmissionJournal, "_refused", treat))


def commit_without_guard() -> Any:
    """The outcome is written first, and the assignment deleted afterwards."""
    complete = transitions.complete

    def without_guard(worker_name: str, task: str, outcome: bytes | None, key: Any = None) -> Move:
        if outcome is None:
            return complete(worker_name, task, outcome, key)
        return Move(TransitionName.COMPLETE, task, (CreateNode(layout.status_path(task), outcome),), 0)

    committed = commits.Commits._committed

    def then_delete(self: Any, move: Move, held: Any) -> None:
        committed(self, move, held)
        if move.transition is TransitionName.COMPLETE:
            self._committer._client.transaction().delete(layout.assignment_path(self._worker, move.task)).commit_nowait(
                lambda _results, _error: None
            )

    return _patched((transitions, "complete", without_guard), (commits.Commits, "_committed", then_delete))


def old_worker_id() -> Any:
    """A worker keeps its name after its session has expired."""
    serve = worker.Worker.serve
    make_name = names.worker_name
    current: list[worker.Worker] = []

    async def serve_again(self: worker.Worker, client: Client) -> None:
        current[:] = [self]
        await serve(self, client)

    def name(ident: str) -> str:
        return current[0].name or make_name(ident)

    return _patched((worker.Worker, "serve", serve_again), (worker, "worker_name", name))


def acting_while_disconnected() -> Any:
    """A worker starts what it holds also while it is disconnected."""
    run = Executor.run

    def run_always(self: Any, task: Any) -> Any:
        self._may_start = lambda: True
        return run(self, task)

    interrupted = inbox.Inbox._handle

    def handle(self: Any, change: Any) -> None:
        if not isinstance(change, Interrupted):
            interrupted(self, change)

    return _patched((inbox.Inbox, "_handle", handle), (Executor, "run", run_always))


def assigned_by_the_reply() -> Any:
    """After the reply to an assignment the name is ignored from then on."""
    committed = dispatch.Dispatch._handle_committed
    added = Dispatcher.add_task
    listed = Dispatcher.replace_tasks

    def handle_committed(self: Any, move: Move) -> None:
        if move.transition is TransitionName.ASSIGN:
            self._dispatcher.__dict__.setdefault("assigned", set()).add(move.task)
        committed(self, move)

    def add_task(self: Any, name: str) -> None:
        if name not in self.__dict__.get("assigned", ()):
            added(self, name)

    def replace_tasks(self: Any, names: Iterable[str]) -> None:
        listed(self, [name for name in names if name not in self.__dict__.get("assigned", ())])

    return _patched(
        (dispatch.Dispatch, "_handle_committed", handle_committed),
        (Dispatcher, "add_task", add_task),
        (Dispatcher, "replace_tasks", replace_tasks),
    )


def one_attempt_too_many() -> Any:
    """One retry too many is made."""
    decide = retry.seconds_until_retry

    def too_often(options: RunOptions, *rest: Any) -> float | None:
        more = options.max_attempts + (options.max_attempts > 1)
        return decide(msgspec.structs.replace(options, max_attempts=more), *rest)

    return _patched((next_move, "seconds_until_retry", too_often))


def due_by_the_machines_clock() -> Any:
    """The clock of the machine is taken for the servers' clock."""
    return _patched((ServerTime, "synchronize", lambda self, _written_ms: setattr(self, "is_known", True)))


def key_not_taken() -> Any:
    """A task is submitted without its key."""
    submit = transitions.submit

    def without_key(client: str, session_id: int, version: int, tasks: Iterable[NewTask]) -> Any:
        plain = [msgspec.structs.replace(task, key_hash=None) for task in tasks]
        return submit(client, session_id, version, plain)

    return _patched((transitions, "submit", without_key))


def cancelled_where_it_is() -> Any:
    """A cancelled task gets its outcome, and stays in the worker's inbox."""
    cancel = transitions.cancel_assigned

    def without_delete(worker_name: str, task: str, outcome: bytes, key: Any = None) -> Move:
        move = cancel(worker_name, task, outcome, key)
        return Move(move.transition, task, move.operations[1:], 0)

    return _patched((transitions, "cancel_assigned", without_delete))


def cancelled_without_looking() -> Any:
    """The caller that cancels a task takes it for cancelled once the request is gone."""

    async def cancel(client: Client, task: str, patience: float) -> CancelVerdict:
        found = await operator_cancel(client, task, patience)
        return found if found is CancelVerdict.PENDING else CancelVerdict.CANCELLED

    operator_cancel = actions.cancel
    return _patched((actions, "cancel", cancel))


def limits_ignored() -> Any:
    """The settings in `/queues` are ignored."""
    return _patched((Throttle, "admits", lambda _self, _queue, _now: True))


def suspects_beside_others() -> Any:
    """A task that was with several lost workers still runs beside other tasks."""
    return _patched((recovery, "with_isolation", lambda data: data))


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        two_request_moves,
        leadership_by_data,
        no_listing_after_reconnect,
        listing_as_difference,
        blind_resubmission,
        bad_version_is_accepted,
        commit_without_guard,
        old_worker_id,
        acting_while_disconnected,
        assigned_by_the_reply,
        one_attempt_too_many,
        due_by_the_machines_clock,
        key_not_taken,
        cancelled_where_it_is,
        cancelled_without_looking,
        limits_ignored,
        suspects_beside_others,
    )
}
