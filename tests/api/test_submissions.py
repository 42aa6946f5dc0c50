"""How long submissions may take."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from herdmaster.api.options import OnFull
from herdmaster.api.order import Order
from herdmaster.api.submissions import Submission, Submissions, Unsettled
from herdmaster.core.transitions import NewTask
from herdmaster.roles.client.backlog_limit import Asked
from herdmaster.roles.shared.system import System

PATIENCE = 0.1


def submission(name: str) -> Submission:
    return Submission(Order(NewTask(name, b"")), None)


async def test_the_time_of_a_submission_begins_anew_when_a_part_of_it_is_accepted() -> None:
    loop = asyncio.get_running_loop()
    given_up: dict[str, float] = {}
    all_given_up = asyncio.Event()

    def give_up(name: str) -> None:
        unsettled.pop(name)
        given_up[name] = loop.time() - began
        if len(given_up) == 2:
            all_given_up.set()

    unsettled = Unsettled(loop, PATIENCE, give_up)
    began = loop.time()
    for name in ("large", "plain"):
        unsettled.add(submission(name))
        unsettled.limit(name)
    unsettled.limit_anew("large")
    unsettled.limit_anew("unknown")
    await all_given_up.wait()

    assert list(given_up) == ["plain", "large"]
    assert given_up["large"] >= 2 * PATIENCE
    assert len(unsettled) == 0


def test_the_time_of_a_submission_that_waits_for_room_begins_when_there_is_room() -> None:
    timers: list[float] = []
    asked: list[Asked] = []
    sent: list[str] = []
    loop: Any = SimpleNamespace(is_closed=lambda: False, time=lambda: 5.0, call_at=lambda at, _call: timers.append(at))
    client: Any = SimpleNamespace(
        system=System(),
        backlog_limit=SimpleNamespace(ask=asked.append),
        submit=lambda task, _accepted, _ended: sent.append(task.name),
    )
    futures: Any = SimpleNamespace(end=None)
    submissions = Submissions(client, loop, futures, PATIENCE)
    submissions.submit(Submission(Order(NewTask("task-a", b""), max_backlog=1, on_full=OnFull.WAIT), None))
    assert (timers, sent) == ([], [])
    asked[0].admit()
    assert (timers, sent) == ([5.0 + PATIENCE], ["task-a"])
