"""Acts on many tasks over one session, pipelined. A repetition after an interruption does what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from herdmaster.errors import HerdError
from herdmaster.inspection.missing import find_missing
from herdmaster.operations.actions import CancelVerdict, answer_of
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.cancel_requests import make_request, wait_decided
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

ResultT = TypeVar("ResultT")

_AT_ONCE: Final = 100


async def for_each(
    names: Sequence[str], act: Callable[[str], Awaitable[ResultT]]
) -> AsyncIterator[tuple[str, ResultT | HerdError]]:
    """Call `act` for each name, `_AT_ONCE` at a time, and yield each result, or the HerdError that it raised, as they
    come."""
    left = iter(names)
    running: dict[asyncio.Future[ResultT], str] = {}
    try:
        while True:
            while len(running) < _AT_ONCE and (name := next(left, None)) is not None:
                running[asyncio.ensure_future(act(name))] = name
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                name = running.pop(each)
                try:
                    result: ResultT | HerdError = each.result()
                except HerdError as error:
                    if isinstance(error, errors.ZooKeeperError) and not isinstance(error, errors.ServerError):
                        raise  # the session is over, for all of them
                    result = error
                yield name, result
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Patience:
    """Ends all waits together when nothing has been decided for so many seconds: that is a matter of the primary, and
    not of one task."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._decided = asyncio.get_running_loop().time()

    async def wait(self, client: Client, task: str) -> bool:
        """Return whether the primary has decided."""
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(wait_decided(client, task))
        try:
            while not waiting.done():
                left = self._decided + self._seconds - loop.time()
                if left <= 0:
                    return False
                await asyncio.wait((waiting,), timeout=left)
            waiting.result()
        finally:
            waiting.cancel()
        self._decided = loop.time()
        return True


async def cancel_many(
    client: Client, tasks: Sequence[str], patience: float, *, are_seen: bool = False
) -> AsyncIterator[tuple[str, CancelVerdict | HerdError]]:
    """Ask the primary to cancel the tasks, and yield the answer for each when it is there. If no answer has come for
    `patience` seconds, the others count as pending; their requests stand. With `are_seen` the tasks were seen just now,
    and are not looked for. Raises SessionExpired."""
    await client.sync()
    await make_folders(client)
    missing = frozenset() if are_seen else frozenset(await find_missing(client, tasks))
    waits = _Patience(patience)

    async def request(task: str) -> None:
        if task not in missing:
            await make_request(client, task)

    async def decide(task: str) -> CancelVerdict:
        if task in missing:
            return CancelVerdict.NOWHERE
        if not await waits.wait(client, task):
            return CancelVerdict.PENDING
        return await answer_of(client, task)

    # All requests first: if the caller goes away, they stand.
    refused = {task: error async for task, error in for_each(tasks, request) if error is not None}
    for task, error in refused.items():
        yield task, error
    async for task, verdict in for_each([task for task in tasks if task not in refused], decide):
        yield task, verdict
