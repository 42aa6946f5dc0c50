"""Submits a task and leaves: its outcome is for whoever waits for its name.

A `Herd` would not do: it waits for the outcome of what it submitted, and if the task is quicker than the end of this
process, it collects it, and nobody else finds it any more.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence

from herdmaster.core.names import UlidFactory, call_name
from herdmaster.core.payload import BIG, Call, encode_arguments, encode_call
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError
from herdmaster.roles.client import ClientSettings, TaskClient


def make_call(call: str, args: Sequence[object], kwargs: Mapping[str, object], *, queue: str, priority: int) -> NewTask:
    """Raises InvalidName, NotSerializable, PayloadTooLarge."""
    payload = encode_call(Call(1, call, *encode_arguments(args, kwargs)))
    ulid = UlidFactory(lambda: time.time_ns() // 1_000_000, secrets.token_bytes).new()
    return NewTask(call_name(ulid, queue, priority, big=len(payload) > BIG), payload)


async def submit_and_leave(hosts: str, task: NewTask, *, connect_timeout: float, submit_timeout: float) -> None:
    """Returns when the task is accepted. Raises NoServerReachable, NotSubmitted, SubmissionUnknown."""
    client = TaskClient(hosts, ClientSettings(connect_timeout=connect_timeout))
    accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def handle(_task: NewTask, error: HerdError | None) -> None:
        if not accepted.done():
            accepted.set_result(None) if error is None else accepted.set_exception(error)

    client.journal.submit(task, handle)
    running = asyncio.ensure_future(client.run())
    try:
        await asyncio.wait((running, accepted), timeout=submit_timeout, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # why there is no session
        if not accepted.done():
            client.journal.give_up(task.name)
        await accepted
    finally:
        accepted.cancel()  # where the session failed, nobody asks it any more
        client.stop()
        await asyncio.gather(running, return_exceptions=True)
