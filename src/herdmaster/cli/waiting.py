"""Wait for outcomes without collecting them: they stay for the program that submitted the tasks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from herdmaster.api.direction import Target
from herdmaster.core.outcome import Outcome
from herdmaster.errors import HerdError
from herdmaster.roles.client.client import ClientSettings, TaskClient
from herdmaster.roles.shared.system import System

Report = Callable[[str, str | None, str], None]
"""Called with the name of a task, the state in which it ended if that is known, and how it ended in words."""


async def wait_for_all(
    target: Target,
    tasks: Sequence[str],
    patience: float | None,
    connect_timeout: float,
    report: Report,
) -> list[str]:
    """Return the tasks that have not ended within `patience` seconds. Raises NoServerReachable."""
    client = TaskClient(target.hosts, ClientSettings(connect_timeout=connect_timeout), System(security=target.security))
    left = dict.fromkeys(tasks)
    all_ended = asyncio.Event()

    def ended(task: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        left.pop(task, None)
        report(
            task,
            None if outcome is None else outcome.state.value,
            _words(outcome, error).removeprefix(f"{task}: "),
        )
        if not left:
            all_ended.set()
        return False

    for task in left:
        client.attach(task, ended)
    running = asyncio.ensure_future(client.run())
    waiting = asyncio.ensure_future(all_ended.wait())
    try:
        await asyncio.wait((running, waiting), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # raises the reason why there is no session
    finally:
        waiting.cancel()
        client.stop()
        with contextlib.suppress(Exception):  # it was raised above, or it is the stop itself
            await running
    return list(left)


def _words(outcome: Outcome | None, error: HerdError | None) -> str:
    if outcome is None:
        return str(error)
    if outcome.error is None:
        return outcome.state.value
    return f"failed: {outcome.error.type}: {outcome.error.message}".rstrip(": ")
