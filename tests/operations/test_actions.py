"""What operators do, by the transactions of the table, and what the inspector sees of it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.names import call_name, raw_name
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome, encode_result
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.core.queues import QueueSettings, decode_queue
from herdmaster.errors import HerdError, InvalidName
from herdmaster.inspection.queues import look_at_queues
from herdmaster.inspection.task_seen import TaskFilter, TaskState
from herdmaster.inspection.tasks import Inspector
from herdmaster.operations import actions
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client

ULIDS = [f"01jd000000000000000000000{digit}" for digit in range(1, 10)]
MAIL = call_name(ULIDS[1], "mail", 9)
LATER = call_name(ULIDS[2])
HELD = call_name(ULIDS[3])
ENDED = call_name(ULIDS[4])
DEAD = call_name(ULIDS[5], "mail")
RAW = raw_name(ULIDS[0])
NEW = call_name(ULIDS[6], "mail")
WORKER = "worker-aa"
CALL = Call(1, "shop:mail", *encode_arguments([1], {"x": "é"}), attempt=3, deliveries=2, key="00ff", expires=5)
PAYLOAD = encode_call(CALL)
DONE = Outcome(OutcomeState.DONE, encode_result(5), None, WORKER)


async def fill(client: Client) -> None:
    """A task in every place."""
    await make_folders(client)
    await client.create(layout.task_path(MAIL), PAYLOAD)
    await client.create(layout.task_path(RAW), b"\xff raw")
    await client.create(layout.delayed_path(1_999_999_999_999, LATER), PAYLOAD)
    await client.create(layout.inbox_path(WORKER))
    await client.create(layout.assignment_path(WORKER, HELD), PAYLOAD)
    await client.create(layout.status_path(ENDED), encode_outcome(ENDED, DONE))
    await client.create(layout.dead_path(DEAD), PAYLOAD)
    await client.create("/tasks/litter")


async def listed(client: Client, *states: TaskState, queue: str | None = None, before: int | None = None) -> list[str]:
    wanted = frozenset(states) or frozenset(TaskState)
    return [seen.name async for seen in Inspector(client).list_tasks(TaskFilter(wanted, queue, before_ms=before))]


async def test_every_task_is_listed_with_its_state_the_oldest_first(namespace: str) -> None:
    async with Client(namespace) as client:
        await fill(client)
        found = [seen async for seen in Inspector(client).list_tasks(TaskFilter())]
    assert [(seen.name, seen.state) for seen in found] == [
        (RAW, TaskState.PENDING),
        (MAIL, TaskState.PENDING),
        (LATER, TaskState.DELAYED),
        (HELD, TaskState.RECOVERING),  # its worker is not alive
        (ENDED, TaskState.DONE),
        (DEAD, TaskState.DEAD),
    ]
    assert (found[1].queue, found[1].priority) == ("mail", 9)
    assert found[2].due == 1_999_999_999_999
    assert found[3].worker == WORKER


async def test_a_listing_can_be_narrowed_by_state_queue_and_age(namespace: str) -> None:
    async with Client(namespace) as client:
        await fill(client)
        assert await listed(client, TaskState.DONE, TaskState.DELAYED) == [LATER, ENDED]
        assert await listed(client, TaskState.FAILED) == []
        assert await listed(client, queue="mail") == [MAIL, DEAD]
        assert await listed(client, before=1) == []


async def test_a_task_that_its_worker_tells_of_is_running(namespace: str) -> None:
    async with Client(namespace) as client:
        await fill(client)
        await client.create(layout.worker_path(WORKER), b"{}")
        assert await listed(client, TaskState.ASSIGNED) == [HELD]
        progress = b'{"running":1,"tasks":[{"task":"%s","since":1,"done":3,"total":4}]}' % HELD.encode()
        await client.create(layout.progress_path(WORKER), progress)
        assert await listed(client, TaskState.ASSIGNED) == []
        (seen,) = [seen async for seen in Inspector(client).list_tasks(TaskFilter(frozenset({TaskState.RUNNING})))]
        assert seen.progress is not None
        assert (seen.progress.done, seen.progress.total) == (3, 4)


async def test_the_details_of_a_task_tell_its_call_or_its_outcome(namespace: str) -> None:
    async with Client(namespace) as client:
        await fill(client)
        inspector = Inspector(client)
        for name in (MAIL, LATER, HELD, DEAD):
            found = await inspector.find(name)
            assert found is not None
            assert found.call == CALL
        ended = await inspector.find(ENDED)
        assert ended is not None
        assert ended.outcome == DONE
        raw = await inspector.find(RAW)
        assert raw is not None
        assert raw.raw == b"\xff raw"
        assert await inspector.find(NEW) is None


async def test_hostile_payloads_and_statuses_are_shown_with_what_is_wrong(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        await client.create(layout.task_path(MAIL), b"{")
        await client.create(layout.status_path(ENDED), b"\x00")
        for name in (MAIL, ENDED):
            found = await Inspector(client).find(name)
            assert found is not None
            assert found.fault
        assert await listed(client, TaskState.ENDED) == [ENDED]


async def test_a_replayed_task_starts_anew_under_a_new_name(namespace: str) -> None:
    async with Client(namespace) as client:
        await fill(client)
        assert await actions.replay(client, DEAD, NEW)
        data, _ = await client.get(layout.task_path(NEW))
        call = decode_call(data or b"")
        assert call == msgspec.structs.replace(CALL, attempt=1, deliveries=0, key=None, expires=None)
        assert await client.exists(layout.dead_path(DEAD)) is None


async def test_of_two_replays_one_wins(namespace: str) -> None:
    async with Client(namespace) as first, Client(namespace) as second:
        await fill(first)
        won = await asyncio.gather(actions.replay(first, DEAD, NEW), actions.replay(second, DEAD, call_name(ULIDS[7])))
        assert sorted(won) == [False, True]
        assert not await actions.replay(first, DEAD, NEW)
        assert len(await first.children(layout.TASKS)) == 4  # the two that waited, the litter, and one more


async def test_a_dead_task_that_is_no_call_is_not_replayed(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        await client.create(layout.dead_path(DEAD), b"nonsense")
        with pytest.raises(HerdError, match="herd dead purge"):
            await actions.replay(client, DEAD, NEW)
        assert await actions.purge(client, DEAD)
        assert not await actions.purge(client, DEAD)


async def test_changes_of_a_queue_by_many_at_once_are_all_kept(namespace: str) -> None:
    async with Client(namespace) as first, Client(namespace) as second:
        await make_folders(first)
        await asyncio.gather(
            actions.change_queue(first, "mail", lambda old: msgspec.structs.replace(old, paused=True)),
            actions.change_queue(second, "mail", lambda old: msgspec.structs.replace(old, max_running=3)),
            actions.change_queue(first, "mail", lambda old: msgspec.structs.replace(old, rate=2.5)),
        )
        data, _ = await first.get(layout.queue_path("mail"))
        assert decode_queue(data) == QueueSettings(paused=True, max_running=3, rate=2.5)
        with pytest.raises(InvalidName):
            await actions.change_queue(first, "Mail", lambda old: old)


async def test_queues_are_counted_with_their_workers_and_limits(namespace: str) -> None:
    async with Client(namespace) as client:
        await fill(client)
        await client.create(layout.worker_path(WORKER), b'{"slots":2,"queues":["mail","default"]}')
        await actions.change_queue(client, "empty", lambda old: msgspec.structs.replace(old, paused=True))
        found = {seen.name: seen for seen in await look_at_queues(client)}
    assert list(found) == ["default", "empty", "mail"]
    assert (found["mail"].pending, found["mail"].workers) == (1, 1)
    assert (found["default"].pending, found["default"].delayed, found["default"].assigned) == (1, 1, 1)
    assert found["empty"].settings.paused


async def test_a_request_to_cancel_what_is_nowhere_is_answered_at_once(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        assert await actions.cancel(client, NEW, 5.0) is actions.CancelVerdict.NOWHERE
        assert await client.children(layout.CANCEL) == ()


async def test_a_request_to_cancel_stands_when_no_primary_answers(namespace: str) -> None:
    async with Client(namespace) as client:
        await fill(client)
        assert await actions.cancel(client, MAIL, 0.2) is actions.CancelVerdict.PENDING
        assert await client.children(layout.CANCEL) == (MAIL,)


async def test_where_only_the_references_roles_have_been_operators_make_the_folders_that_they_need(
    namespace: str,
) -> None:
    async with Client(namespace) as client:
        for folder in ("/tasks", "/assign", "/status", "/workers"):
            await client.create(folder)
        await client.create(layout.task_path(RAW), b"raw")
        assert await actions.cancel(client, RAW, 0.2) is actions.CancelVerdict.PENDING
        settings = await actions.change_queue(client, "mail", lambda old: msgspec.structs.replace(old, paused=True))
        assert settings.paused
