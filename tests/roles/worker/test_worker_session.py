"""A worker's session that is told of changes by the test, as its inbox and its fence would."""

from __future__ import annotations

import asyncio
import threading

from herdmaster.core import layout
from herdmaster.core.run import Returned, Run
from herdmaster.roles.worker.held import State
from herdmaster.roles.worker.worker_session import WorkerSession
from herdmaster.running.delivery import Delivered
from tests.roles.stage import Stage, StagedWorker, call_payload, new_call_name, new_raw_name, until


def session_of(worker: StagedWorker) -> WorkerSession:
    assert worker._session is not None
    return worker._session


async def test_another_czxid_is_another_delivery_and_what_the_first_one_returns_is_dropped(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=2)
    name = new_raw_name()
    await stage.put(layout.assignment_path(worker.name, name), data=b"payload")
    await until(lambda: gate.entered == [name], "the first delivery to run")
    session = session_of(worker)
    first = session._tasks.get(name)
    assert first is not None

    session.task_arrived(Delivered(name, b"payload", first.task.czxid))
    assert session._tasks.get(name) is first, "the same delivery, read again"
    session.task_arrived(Delivered(name, b"payload", first.task.czxid + 1))
    second = session._tasks.get(name)
    assert second is not None
    assert second is not first
    assert first.state is State.GONE
    session.turn()
    await until(lambda: gate.entered == [name, name], "the second delivery to run")

    session._ended([(first, Run(Returned(), 0, 0))])
    assert second.state is State.IN_POOL
    assert not await stage.exists(layout.status_path(name))
    gate.open()
    await stage.until_exists(layout.status_path(name))


async def test_a_coroutine_is_cancelled_at_the_fence_and_run_again_if_the_session_lives_on(stage: Stage) -> None:
    begun: list[threading.Event] = []
    cancelled = threading.Event()

    async def wait() -> None:
        begun.append(threading.Event())
        if len(begun) == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    worker = await stage.worker({"m:wait": wait})
    name = new_call_name()
    await stage.put(layout.assignment_path(worker.name, name), data=call_payload("m:wait"))
    await until(lambda: len(begun) == 1, "the coroutine to run")
    session = session_of(worker)
    held = session._tasks.get(name)
    assert held is not None

    session._inbox.is_current = False  # as when the connection is lost
    session._fence._stop()  # as at the deadline of the session
    await until(lambda: held.state is State.WAITING, "the coroutine to end")
    assert cancelled.is_set()
    session.turn()
    await asyncio.sleep(0.05)
    assert (len(begun), held.state) == (1, State.WAITING), "nothing is started while the session may be over"

    session._inbox.is_current = True
    session.turn()
    await stage.until_exists(layout.status_path(name))
    assert len(begun) == 2
