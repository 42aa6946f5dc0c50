"""Submission without waiting: the outcome stays for a program that waits for the task by its name.

A `Herd` cannot do this. It waits for the outcome of each task that it submitted, and would collect the outcome of a
task that ends before this process does; no other program would find it then.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence

from herdmaster.api.callee import Callee
from herdmaster.api.direction import Target
from herdmaster.api.options import TaskOptions
from herdmaster.api.order import Order, order_call
from herdmaster.core.names import UlidFactory
from herdmaster.core.signing import Keyring, SignedOnly
from herdmaster.core.transitions import NewTask
from herdmaster.errors import DuplicateTask, HerdError
from herdmaster.roles.client.client import ClientSettings, TaskClient
from herdmaster.roles.shared.system import System


def make_order(
    callee: Callee,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    options: TaskOptions,
    keyring: Keyring | None = None,
) -> Order:
    """Raises NotSerializable, WrongArguments, PayloadTooLarge."""
    ulid = UlidFactory(lambda: time.time_ns() // 1_000_000, secrets.token_bytes).new()
    return order_call(ulid, callee, args, kwargs, options, keyring=keyring)


async def submit_and_leave(
    target: Target,
    task: NewTask,
    *,
    connect_timeout: float,
    submit_timeout: float,
    signed_only: SignedOnly | None = None,
) -> str:
    """Return the name of the task when it is accepted, or the name of the task that holds its key.

    Raises NoServerReachable, NotSubmitted, SubmissionUnknown.
    """
    settings = ClientSettings(connect_timeout=connect_timeout, signed_only=signed_only)
    client = TaskClient(target.hosts, settings, System(security=target.security))
    accepted: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def handle(task: NewTask, error: HerdError | None) -> None:
        if accepted.done():
            return
        if error is None or isinstance(error, DuplicateTask):
            accepted.set_result(task.name if error is None else error.name)
        else:
            accepted.set_exception(error)

    client.submit(task, handle, None)
    running = asyncio.ensure_future(client.run())
    try:
        await asyncio.wait((running, accepted), timeout=submit_timeout, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # raises the reason why there is no session
        if not accepted.done():
            client.give_up(task.name)
        return await accepted
    finally:
        accepted.cancel()  # it has no reader if the session failed
        client.stop()
        await asyncio.gather(running, return_exceptions=True)
