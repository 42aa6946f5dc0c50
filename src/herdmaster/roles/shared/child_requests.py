"""Requests to cancel the children of a task, which are tasks and flows."""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.core import flow_moves, layout
from herdmaster.core.names import parse_flow_name
from herdmaster.roles.shared.committer import add_operation
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client


def request_cancel_nowait(client: Client, child: str, done: Callable[[Exception | None], None]) -> None:
    """Request that a child is cancelled. `done` gets the error of the request: None also for a flow that does not run.

    Raises the errors of a client that cannot send.
    """
    if parse_flow_name(child) is None:
        client.create_nowait(layout.cancel_path(child), b"", lambda _path, error: done(error))
        return
    transaction = client.transaction()
    for operation in flow_moves.cancel_flow(child).operations:
        add_operation(transaction, operation)

    def answered(_results: object, error: Exception | None) -> None:
        cause = error.error if isinstance(error, errors.TransactionFailed) else error
        done(None if isinstance(cause, errors.NoNode) else cause)

    transaction.commit_nowait(answered)
