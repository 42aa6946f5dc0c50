"""Queues that are paused, that run so many tasks at a time or start so many per second, over all workers."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from herdmaster.core import layout
from herdmaster.core.names import call_name
from herdmaster.core.queues import QueueSettings, encode_queue
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.model import Acl, Id, Permission
from herdmaster.zookeeper.recipes.children import Added, ChildChange, ChildStream, Removed
from tests.proxy import Proxy
from tests.roles.stage import Ran, Stage, call_payload, new_call_name, new_raw_name, until

pytestmark = pytest.mark.long

NOT_READABLE = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


async def limit(stage: Stage, queue: str = "default", settings: QueueSettings | None = None) -> None:
    await make_folders(stage.zk)
    path = layout.queue_path(queue)
    if await stage.exists(path):
        await stage.zk.set(path, encode_queue(settings or QueueSettings()))
    else:
        await stage.zk.create(path, encode_queue(settings or QueueSettings()))


async def test_a_paused_queue_waits_until_it_is_resumed_and_holds_up_no_other(stage: Stage) -> None:
    await limit(stage, "mail", QueueSettings(paused=True))
    await stage.master()
    called: list[str] = []
    await stage.worker({"m:f": called.append}, queues=("default", "mail"))
    client = await stage.client()
    paused = client.put_call("m:f", "mail", queue="mail")
    await client.put_call("m:f", "default").outcome()
    assert called == ["default"]
    await limit(stage, "mail")

    await paused.outcome()
    assert called == ["default", "mail"]


async def test_a_queue_is_paused_while_tasks_flow(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await stage.master()
    ran = Ran()
    await stage.worker(raw=ran)
    client = await stage.client()
    await client.put_raw().outcome()
    await limit(stage, "default", QueueSettings(paused=True))
    await until(lambda: "queue default: paused" in caplog.text, "the primary to be told")
    late = client.put_raw()
    await late.accepted
    await asyncio.sleep(0.5)
    assert await stage.names(layout.TASKS) != []
    assert len(ran.names) == 1
    await stage.zk.delete(layout.queue_path("default"))

    await late.outcome()


async def test_a_new_primary_knows_of_the_pause_before_it_assigns_anything(stage: Stage) -> None:
    await limit(stage, "default", QueueSettings(paused=True))
    ran = Ran()
    worker = await stage.worker(raw=ran)
    await stage.put(*(layout.task_path(new_raw_name()) for _ in range(20)))
    mark = call_name(f"0{1:025d}", "other")
    await stage.put(layout.task_path(mark))
    await stage.worker({"m:f": lambda: None}, queues=("other",))
    await stage.master()
    await stage.until_gone(layout.task_path(mark))

    assert await stage.names(layout.inbox_path(worker.name)) == ran.names == []
    assert len(await stage.names(layout.TASKS)) == 20


async def test_limits_that_changed_while_the_connection_was_away_hold_from_its_return_on(
    namespace: str, stage: Stage
) -> None:
    await limit(stage, "default")
    ran = Ran()
    await stage.worker({"m:f": lambda: None}, raw=ran, queues=("default", "other"))
    async with Proxy(namespace) as proxy:
        master = await stage.master(hosts=proxy.hosts)
        proxy.refuse()
        await until(lambda: master.session.state.value == "disconnected", "the loss of the connection")
        await limit(stage, "default", QueueSettings(paused=True))
        await stage.put(*(layout.task_path(new_raw_name()) for _ in range(10)))
        proxy.refuse(refusing=False)
        client = await stage.client()
        await client.put_call("m:f", queue="other").outcome(30.0)
        await stage.close()

    assert ran.names == []


class Counted:
    """How many run at a time, and how many did at most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.count = 0

    def __call__(self, _name: str, _payload: bytes) -> None:
        with self._lock:
            self._now += 1
            self.count += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1


async def test_max_running_is_never_exceeded_over_two_workers(stage: Stage) -> None:
    await limit(stage, "default", QueueSettings(max_running=3))
    await stage.master()
    counted = Counted(0.01)
    for _ in range(2):
        await stage.worker(raw=counted, slots=8)
    assigned: set[str] = set()
    most = 0

    def watch(change: ChildChange) -> None:
        nonlocal most
        if isinstance(change, (Added, Removed)) and change.folder != layout.ASSIGN:
            (assigned.add if isinstance(change, Added) else assigned.discard)(change.name)
            most = max(most, len(assigned))

    ChildStream(stage.zk, layout.ASSIGN, watch, depth=2).start()
    client = await stage.client()
    for task in [client.put_raw() for _ in range(60)]:
        await task.outcome(40.0)
    await until(lambda: not assigned, "the last assignment to go")

    assert counted.count == 60
    assert 1 <= counted.most <= 3
    assert 1 <= most <= 3


async def test_the_tasks_of_a_lost_worker_count_until_they_are_recovered(stage: Stage) -> None:
    await limit(stage, "default", QueueSettings(max_running=1))
    primary = await stage.master()
    gate, counted = stage.gate(), Counted(0.0)
    lost = await stage.worker(raw=gate, slots=2)
    client = await stage.client()
    tasks = [client.put_raw() for _ in range(5)]
    await until(lambda: len(gate.entered) == 1, "one to run")
    await stage.worker(raw=counted, slots=4)
    await asyncio.sleep(0.3)
    assert counted.count == 0
    await stage.abandon(primary)
    await stage.master()
    assert counted.count == 0
    await stage.expire(lost)
    for task in tasks:
        await task.outcome(40.0)

    assert counted.most == 1
    gate.open()


async def test_no_second_holds_more_than_the_rate_and_one_also_over_a_change_of_primaries(stage: Stage) -> None:
    rate = 8
    await limit(stage, "default", QueueSettings(rate=rate))
    primary = await stage.master()
    gate = stage.gate()  # so that each assignment can be looked at
    await stage.worker(raw=gate, slots=40)
    client = await stage.client()
    tasks = [client.put_raw() for _ in range(20)]
    await until(lambda: len(gate.entered) > rate, "the first second's")
    await stage.stop(primary)
    await stage.master()
    await until(lambda: len(gate.entered) == len(tasks), "the last to start", 30.0)
    worker = (await stage.names(layout.ASSIGN))[0]
    stats = [await stage.zk.exists(layout.assignment_path(worker, task.name)) for task in tasks]
    gate.open()
    times = sorted(stat.ctime for stat in stats if stat is not None)

    assert len(times) == len(tasks)
    for index, last in enumerate(times):
        assert sum(last - time < 1000 for time in times[: index + 1]) <= rate + 1
    # A busy machine may take longer than 20 / 8 and two times the first second.
    assert times[-1] - times[0] <= 15_000


# --- bad settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"garbage", b"[" * 100_000, b'{"paused":"yes"}', b'{"max_running":0}', b'{"rate":-1}', b"\xff\x00", b"null"],
)
async def test_settings_that_cannot_be_used_are_told_and_limit_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    await make_folders(stage.zk)
    await stage.put(layout.queue_path("default"), data=data)
    await stage.master()
    await stage.worker()
    client = await stage.client()
    await client.put_raw().outcome()
    await stage.zk.set(layout.queue_path("default"), data)
    await client.put_raw().outcome()

    assert sum("/queues/default cannot be used" in message for message in caplog.messages) == 1


async def test_bad_names_and_what_may_not_be_read_limit_nothing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    await make_folders(stage.zk)
    await stage.put("/queues/GARBAGE", "/queues/p5")
    await stage.zk.create(layout.queue_path("default"), encode_queue(QueueSettings(paused=True)), acl=NOT_READABLE)
    await stage.master()
    await stage.worker()
    client = await stage.client()
    await client.put_raw().outcome()

    assert sum("GARBAGE" in message for message in caplog.messages) == 1
    assert sum("/queues/default cannot be read" in message for message in caplog.messages) == 1


async def test_without_the_folder_nothing_is_limited(stage: Stage) -> None:
    await limit(stage, "default", QueueSettings(paused=True))
    await stage.master()
    await stage.worker()
    client = await stage.client()
    submitted = client.put_raw()
    await submitted.accepted
    await stage.zk.delete(layout.queue_path("default"))
    await stage.zk.delete(layout.QUEUES)
    await submitted.outcome()

    await stage.put(layout.queue_path("default"), data=encode_queue(QueueSettings(paused=True)))
    await asyncio.sleep(0.5)
    late = client.put_raw()
    await late.accepted
    await asyncio.sleep(0.5)
    assert await stage.names(layout.TASKS) == [late.name]


async def test_a_call_of_a_queue_that_is_not_served_is_no_hindrance_to_others(stage: Stage) -> None:
    await limit(stage, "default", QueueSettings(max_running=1))
    await stage.master()
    await stage.worker({"m:f": lambda: None})
    await stage.put(layout.task_path(new_call_name("lonely")), data=call_payload("m:f"))
    client = await stage.client()
    for _ in range(3):
        await client.put_call("m:f").outcome()
