"""A client's requests to cancel tasks: a znode in `/cancel` each, which the primary deletes when it has decided.

A request may be made twice, after a lost connection or by the next session: the primary deletes a request whose task
has ended. The answer is the task's status, or the outcome if this client waits for it anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from herdmaster.core import flow_moves, layout
from herdmaster.core.names import parse_flow_name
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.errors import BadOutcome
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.committer import add_operation
from herdmaster.roles.shared.until_certain import until_certain
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent
from herdmaster.zookeeper.recipes.ownership import wait_unless_over

_log = logging.getLogger("herdmaster.client")

Answer = Callable[[bool], None]
"""Called once, with whether the task ended as cancelled."""


class CancelRequests:
    """The requests of one client. `is_waited_for` says whether this client is about to get a task's outcome: then that
    decides, so that no caller is answered before the outcome is there. Requests outlive sessions."""

    def __init__(self, is_waited_for: Callable[[str], bool]) -> None:
        self._is_waited_for = is_waited_for
        self._answers: dict[str, list[Answer]] = {}
        self._decided: set[str] = set()  # their outcomes are on their way
        self._pursued: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def request(self, task: str, answer: Answer) -> None:
        self._answers.setdefault(task, []).append(answer)
        self._wake.set()

    def settle(self, task: str, *, is_cancelled: bool) -> None:
        """Answer the requests for a task whose outcome has come, or never will."""
        self._decided.discard(task)
        for answer in self._answers.pop(task, ()):
            answer(is_cancelled)

    def end(self) -> None:
        """Answer all requests: no session will follow. The znodes of requests stay."""
        for task in list(self._answers):
            self.settle(task, is_cancelled=False)

    async def run(self, client: Client) -> None:
        """Make requests and wait for their answers until the session is over. Raises SessionExpired then."""
        self._wake.set()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for task in [task for task in self._answers if task not in self._pursued and task not in self._decided]:
                    pursued = self._pursued[task] = asyncio.ensure_future(self._pursue(client, task))
                    pursued.add_done_callback(_raise_fault)
        finally:
            left = list(self._pursued.values())
            for each in left:
                each.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _pursue(self, client: Client, task: str) -> None:
        try:
            await make_request(client, task)
            await wait_decided(client, task)
            is_cancelled = await read_state(client, task) is OutcomeState.CANCELLED
        except (errors.SessionExpired, errors.AuthenticationFailed):
            return  # the next session does it again
        except errors.ServerError as error:
            _log.warning("%s cannot be cancelled: %s", task, error)
            is_cancelled = False
        finally:
            self._pursued.pop(task, None)
        if is_cancelled and self._is_waited_for(task):
            self._decided.add(task)
        else:
            self.settle(task, is_cancelled=is_cancelled)


def _raise_fault(pursued: asyncio.Task[None]) -> None:
    """Raise a fault in a callback, which ends the session: the next one makes the request again."""
    if not (pursued.cancelled() and pursued.cancelling()):
        pursued.result()


async def make_request(client: Client, task: str) -> None:
    """Ask the primary to cancel a task, or a flow. Raises SessionExpired."""
    if parse_flow_name(task) is not None:
        await _request_for_flow(client, task)
        return
    while True:
        try:
            with contextlib.suppress(errors.NodeExists):
                await until_certain(partial(client.create, layout.cancel_path(task)))
        except errors.NoNode:  # the folder was deleted
            await make_folders(client)
            continue
        return


async def _request_for_flow(client: Client, flow: str) -> None:
    """Ask for the cancellation of a flow. One that does not run has ended."""
    with contextlib.suppress(errors.NodeExists, errors.NoNode):
        await until_certain(partial(_cancel_flow, client, flow))


async def _cancel_flow(client: Client, flow: str) -> None:
    transaction = client.transaction()
    for operation in flow_moves.cancel_flow(flow).operations:
        add_operation(transaction, operation)
    try:
        await transaction.commit()
    except errors.TransactionFailed as error:
        raise error.error from None


async def wait_decided(client: Client, task: str) -> None:
    """Wait until the primary has deleted the request, or has ended the flow. Raises SessionExpired."""
    path = layout.cancel_path(task) if parse_flow_name(task) is None else layout.flow_running_path(task)
    while True:
        changed = asyncio.Event()

        def handle(_event: WatchEvent, changed: asyncio.Event = changed) -> None:
            changed.set()

        if await client.exists(path, handle) is None:
            return
        await wait_unless_over(client, changed)


async def read_state(client: Client, task: str) -> OutcomeState | None:
    """Return the state in which the task ended; None if its status cannot be read or was collected. Only another client
    can have collected it: an outcome of this client answers its requests when it comes. Raises SessionExpired."""
    try:
        data, _ = await client.get(layout.status_path(task))
        return decode_outcome(task, data or b"").state
    except (errors.NoNode, BadOutcome):
        return None
