"""Asks ZooKeeper a question for a program, such as where a task is, and waits for the answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from herdmaster.errors import HerdError
from herdmaster.roles.client.questions import Failed, Question
from herdmaster.zookeeper.client import Client

T = TypeVar("T")


class Asker(Protocol):
    """The part of `IoThread` that is used here."""

    def ask(self, question: Question, failed: Failed, /) -> None: ...


def ask_and_wait(asker: Asker, question: Callable[[Client], Awaitable[T]], about: str, patience: float) -> T:
    """Return what `question` returns. Raises what it raises, and TimeoutError if there is no answer within `patience`
    seconds; then it is not asked any more, unless it is under way. `about` stands in that error."""
    answer = _begin(asker, question)
    try:
        return answer.result(patience)
    except concurrent.futures.TimeoutError:
        answer.cancel()
        raise _too_late(about, patience) from None


async def ask_and_wait_async(
    asker: Asker, question: Callable[[Client], Awaitable[T]], about: str, patience: float
) -> T:
    """As `ask_and_wait`, for event loops."""
    try:
        async with asyncio.timeout(patience):
            return await asyncio.wrap_future(_begin(asker, question))
    except TimeoutError:
        raise _too_late(about, patience) from None


def _begin(asker: Asker, question: Callable[[Client], Awaitable[T]]) -> concurrent.futures.Future[T]:
    answer: concurrent.futures.Future[T] = concurrent.futures.Future()

    async def ask(client: Client) -> None:
        if answer.cancelled():
            return
        try:
            found = await question(client)
        except HerdError:
            raise  # the client asks again over the next session, or calls `failed`
        except Exception as error:  # noqa: BLE001 - the caller's, who is told: the session and its other users go on
            if answer.set_running_or_notify_cancel():
                answer.set_exception(error)
            return
        if answer.set_running_or_notify_cancel():
            answer.set_result(found)

    def failed(error: HerdError) -> None:
        if answer.set_running_or_notify_cancel():
            answer.set_exception(error)

    asker.ask(ask, failed)
    return answer


def _too_late(about: str, patience: float) -> TimeoutError:
    return TimeoutError(f"ZooKeeper could not be asked for {about} within {patience:g} s: `herd status` tells more")
