"""Acting on many tasks at once, and on a queue."""

from __future__ import annotations

import asyncio

from herdmaster.core import layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.names import call_name
from herdmaster.core.payload import with_error
from herdmaster.errors import HerdError
from herdmaster.inspection.payloads import read_payloads
from herdmaster.inspection.task_seen import TaskFilter, TaskState
from herdmaster.inspection.tasks import Inspector
from herdmaster.operations.actions import CancelVerdict
from herdmaster.operations.many import cancel_many, for_each
from herdmaster.zookeeper import errors
from tests.roles.keyed import accepted, is_held_by, keyed, keys
from tests.roles.stage import Stage, call_payload, new_call_name, new_raw_name


async def test_results_and_errors_are_yielded_for_each_name() -> None:
    under_way = most = 0

    async def act(name: str) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        if name == "7":
            raise HerdError("no")
        return int(name)

    found = dict([each async for each in for_each([str(number) for number in range(250)], act)])
    assert isinstance(found.pop("7"), HerdError)
    assert found == {str(number): number for number in range(250) if number != 7}
    assert 1 < most <= 100


async def test_the_end_of_the_session_ends_all() -> None:
    async def act(_name: str) -> None:
        raise errors.SessionExpired("over")

    try:
        async for _ in for_each(["a", "b"], act):
            raise AssertionError
    except errors.SessionExpired:
        return
    raise AssertionError


async def test_many_tasks_are_cancelled_wherever_they_wait(stage: Stage) -> None:
    await stage.master()
    waiting = [new_raw_name() for _ in range(150)]
    delayed = new_call_name("mail")
    await stage.put(*map(layout.task_path, waiting), data=b"payload")
    await stage.put(layout.delayed_path(1_999_999_999_999, delayed), data=call_payload("m:f"))
    gone = new_raw_name()
    found = dict([each async for each in cancel_many(stage.zk, [*waiting, delayed, gone], 15)])
    assert found == {**dict.fromkeys([*waiting, delayed], CancelVerdict.CANCELLED), gone: CancelVerdict.NOWHERE}
    assert await stage.names(layout.TASKS) == await stage.names(layout.DELAYED) == []


async def test_without_a_primary_all_requests_stand_after_one_wait(stage: Stage) -> None:
    tasks = [new_raw_name() for _ in range(150)]
    await stage.play_primary()
    await stage.put(*map(layout.task_path, tasks), data=b"payload")
    began = asyncio.get_running_loop().time()
    found = [verdict async for _, verdict in cancel_many(stage.zk, tasks, 0.2)]
    assert found == [CancelVerdict.PENDING] * 150
    assert asyncio.get_running_loop().time() - began < 20  # 150 waits would be 30 s
    assert sorted(await stage.names(layout.CANCEL)) == sorted(tasks)


async def test_a_purge_frees_the_keys_of_the_tasks(stage: Stage) -> None:
    await stage.master()
    name = await accepted(await stage.client(), keyed())
    assert await is_held_by(stage, name)
    names = await Inspector(stage.zk).names(frozenset({TaskState.PENDING, TaskState.DELAYED}), "default")
    found = [each async for each in cancel_many(stage.zk, names, 15, are_seen=True)]
    assert [each[0] for each in found] == [name]
    assert await keys(stage) == []


async def test_a_purge_takes_the_waiting_tasks_of_one_queue_alone(stage: Stage) -> None:
    await stage.play_primary()
    mail, later, other, held, dead = (new_call_name(queue) for queue in ("mail", "mail", "default", "mail", "mail"))
    await stage.put(layout.task_path(mail), layout.task_path(other), layout.dead_path(dead), data=b"{}")
    await stage.put(layout.delayed_path(5, later), data=b"{}")
    await stage.put(layout.inbox_path("worker-aa"), layout.assignment_path("worker-aa", held), data=b"{}")
    states = frozenset({TaskState.PENDING, TaskState.DELAYED})
    assert await Inspector(stage.zk).names(states, "mail") == sorted([mail, later])


async def test_a_filter_by_call_and_error_reads_payloads_of_every_size(stage: Stage) -> None:
    await stage.play_primary()
    small = with_error(call_payload("shop:send"), ErrorInfo("ConnectionError", "no", ""))
    big = with_error(call_payload("shop:send", "x" * 5000), ErrorInfo("ConnectionError", "no", ""))
    other = with_error(call_payload("shop:send"), ErrorInfo("ValueError", "no", ""))
    names = [new_call_name(), new_call_name(big=True), new_call_name(), new_raw_name()]
    for name, data in zip(names, (small, big, other, b"\xff"), strict=True):
        await stage.put(layout.dead_path(name), data=data)
    await stage.put(layout.dead_path(broken := call_name("01jd0000000000000000000009")), data=b"no json")

    async def listed(only: TaskFilter) -> list[str]:
        return [seen.name async for seen in Inspector(stage.zk).list_tasks(only)]

    assert sorted(await listed(TaskFilter(error="ConnectionError", call="send"))) == sorted(names[:2])
    assert await listed(TaskFilter(error="ValueError")) == [names[2]]
    assert broken in await listed(TaskFilter())


async def test_payloads_that_are_gone_are_left_out(stage: Stage) -> None:
    await stage.play_primary()
    names = [new_call_name(big=True) for _ in range(5)]
    await stage.put(*map(layout.task_path, names[1:]), data=b"x")
    found = await read_payloads(stage.zk, [(name, layout.task_path(name)) for name in names])
    assert found == dict.fromkeys(names[1:], b"x")
