"""Schedules of a second that a scenario declares, and what the servers' logs say of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Final

import msgspec

from chaos.app import CALL
from chaos.cast import NAMESPACE, Cast
from chaos.ticks import TickJudge
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.schedules import Missed, Overlap, Schedule
from herdmaster.core.timetable import Every
from herdmaster.operations.schedule_plan import apply_schedules
from herdmaster.zookeeper.client import Client

_COUNT: Final = 12
_PERIOD_MS: Final = 1000
_APP: Final = "chaos"


@contextmanager
def declared(cast: Cast, after: int) -> Iterator[None]:
    """Declare schedules, and remove them at the end. Then raise RuntimeError with what is wrong in the transactions
    after the zxid `after`."""
    asyncio.run(_apply(cast, {f"second-{number}": _schedule(number) for number in range(_COUNT)}))
    yield
    asyncio.run(_apply(cast, {}))
    judge = TickJudge(NAMESPACE)
    judge.read(cast.logs.read(after))
    complaints = [*judge.faults, *_gaps(judge)]
    if complaints:
        raise RuntimeError("; ".join(complaints))


def _schedule(number: int) -> Schedule:
    call = Call(1, CALL, *encode_arguments((f"schedule-{number}", 0.0), {}), outcome=False)
    return Schedule(
        id=f"{number:08x}",
        timetable=Every(_PERIOD_MS, number * _PERIOD_MS // _COUNT),
        payload=msgspec.Raw(encode_call(call)),
        missed=Missed.ALL,
        overlap=Overlap.ALLOW,
    )


async def _apply(cast: Cast, wanted: dict[str, Schedule]) -> None:
    hosts = f"{cast.ensemble.hosts}{NAMESPACE}"
    async with Client(hosts, session_timeout=cast.session_timeout, connect_timeout=30.0) as client:
        await apply_schedules(client, _APP, wanted, prune=True)


def _gaps(judge: TickJudge) -> Iterator[str]:
    if len(judge.made) != _COUNT:
        yield f"only {len(judge.made)} of {_COUNT} schedules made a task"
    for name, made in judge.made.items():
        for before, after in pairwise(made):
            if after.due_ms - before.due_ms != _PERIOD_MS:
                yield f"{name} made no task between {before.due_ms} and {after.due_ms}"
