"""Requests to cancel, as a client makes them: a znode in `/cancel`, which goes when the primary has decided.

A request may be made twice, after a lost connection or by the next session: the primary takes one away whose task has
ended. What came of it the task's status tells, or the outcome that this client was waiting for anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from herdmaster.core import layout
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.errors import BadOutcome
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.until_certain import until_certain
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent
from herdmaster.zookeeper.recipes.ownership import wait_unless_over

_log = logging.getLogger("herdmaster.client")

Told = Callable[[bool], None]
"""Called once: whether the task has ended as cancelled."""


class CancelRequests:
    """`is_waited_for` says whether this client is about to learn a task's outcome: then that decides, so that no
    caller is told of it before the outcome is there. Requests outlive sessions."""

    def __init__(self, is_waited_for: Callable[[str], bool]) -> None:
        self._is_waited_for = is_waited_for
        self._told: dict[str, list[Told]] = {}
        self._decided: set[str] = set()  # their outcomes are on their way
        self._pursued: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def request(self, task: str, told: Told) -> None:
        self._told.setdefault(task, []).append(told)
        self._wake.set()

    def settle(self, task: str, *, is_cancelled: bool) -> None:
        """Its outcome has come, or never will."""
        self._decided.discard(task)
        for told in self._told.pop(task, ()):
            told(is_cancelled)

    def end(self) -> None:
        """No session will follow. The requests that were made stand."""
        for task in list(self._told):
            self.settle(task, is_cancelled=False)

    async def run(self, client: Client) -> None:
        """Makes requests and waits for what comes of them, until the session is over: raises SessionExpired then."""
        self._wake.set()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for task in [task for task in self._told if task not in self._pursued and task not in self._decided]:
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
    """As a callback, which ends the session: the next one makes the request again."""
    if not pursued.cancelled():
        pursued.result()


async def make_request(client: Client, task: str) -> None:
    """Asks the primary to cancel a task. Raises SessionExpired."""
    while True:
        try:
            with contextlib.suppress(errors.NodeExists):
                await until_certain(partial(client.create, layout.cancel_path(task)))
        except errors.NoNode:  # the folder was deleted
            await make_folders(client)
            continue
        return


async def wait_decided(client: Client, task: str) -> None:
    """Until the primary has taken the request away. Raises SessionExpired."""
    while True:
        changed = asyncio.Event()

        def handle(_event: WatchEvent, changed: asyncio.Event = changed) -> None:
            changed.set()

        if await client.exists(layout.cancel_path(task), handle) is None:
            return
        await wait_unless_over(client, changed)


async def read_state(client: Client, task: str) -> OutcomeState | None:
    """What the task ended as; None where its status says nothing, or was collected: by another client, as this client's
    own outcomes settle a request when they come. Raises SessionExpired."""
    try:
        data, _ = await client.get(layout.status_path(task))
        return decode_outcome(task, data or b"").state
    except (errors.NoNode, BadOutcome):
        return None
