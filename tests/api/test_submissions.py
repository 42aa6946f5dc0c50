"""How long submissions may take."""

from __future__ import annotations

import asyncio

from herdmaster.api.order import Order
from herdmaster.api.submissions import Submission, Unsettled
from herdmaster.core.transitions import NewTask

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
