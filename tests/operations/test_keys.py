"""Keys that an operator looks at and releases, those of tasks of older versions included."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.keys import KeyRecord, KeyScope, encode_record, hash_key
from herdmaster.errors import DuplicateTask
from herdmaster.inspection.task_seen import TaskState
from herdmaster.inspection.tasks import Inspector, TaskDetails
from herdmaster.operations import keys as held_keys
from tests.proxy import Proxy, multi_with
from tests.roles.keyed import CALL, KEY, LATER, fail, is_held_by, keyed, keys, old
from tests.roles.primary.test_promotion import now_ms
from tests.roles.stage import Stage, new_raw_name, until

pytestmark = pytest.mark.long


async def test_a_released_key_is_free_at_once_and_its_holder_goes_on(stage: Stage) -> None:
    await stage.master()
    gate = stage.gate()
    await stage.worker({CALL: lambda: gate(CALL, b"")})
    client = await stage.client()
    first = client.put(keyed(silent=True))
    await until(lambda: gate.entered == [CALL], "it to run")
    found = await held_keys.release(stage.zk, KEY)
    assert found is not None
    assert (found.task, found.state in (TaskState.ASSIGNED, TaskState.RUNNING)) == (first.name, True)
    second = keyed(due_ms=now_ms() + LATER)
    await client.put(second).accepted
    gate.open()
    await until(lambda: stage_has_no_assignment(stage), "the end of the first")

    assert await is_held_by(stage, second.name)


async def stage_has_no_assignment(stage: Stage) -> bool:
    return not any([await stage.names(layout.inbox_path(worker)) for worker in await stage.names(layout.ASSIGN)])


async def test_a_key_that_no_task_holds_is_not_released(stage: Stage) -> None:
    assert await held_keys.release(stage.zk, KEY) is None
    await stage.put(layout.KEYS)
    assert await held_keys.release(stage.zk, KEY) is None


@pytest.mark.parametrize("lose", ["request", "reply"])
async def test_a_release_whose_answer_is_lost_releases_no_later_holder(namespace: str, stage: Stage, lose: str) -> None:
    client = await stage.client()
    first, second = keyed(), keyed()
    await client.put(first).accepted
    async with Proxy(namespace) as proxy:
        match = multi_with(layout.key_path(KEY))
        lost = proxy.lose_request(match) if lose == "request" else proxy.lose_reply(match)
        other = await stage.client(proxy.hosts)
        releasing = asyncio.ensure_future(held_keys.release(other.session, KEY))
        await lost.happened.wait()
        if lose == "reply":
            await client.put(second).accepted
        found = await releasing
        assert found is not None
        assert found.task == first.name
        await stage.stop(other)

    assert await keys(stage) == ([] if lose == "request" else [KEY, f"{KEY}-{second.name}"])


async def test_listed_keys_are_told_in_words(stage: Stage) -> None:
    client = await stage.client()
    task, older = keyed(), old()
    await client.put(task).accepted
    await client.put(older).accepted
    await stage.put("/keys/no-hash")
    seen = {each.task: each async for each in held_keys.list_keys(stage.zk)}

    assert {name: (each.key, each.call, each.scope) for name, each in seen.items()} == {
        task.name: ("the key", CALL, "call"),
        older.name: (None, None, "global"),
    }
    assert all(each.is_named("the key") for each in seen.values())
    assert await held_keys.find_key(stage.zk, "the key", CALL) == seen[task.name]
    assert await held_keys.find_key(stage.zk, "the key") == seen[older.name]
    assert await held_keys.find_key(stage.zk, "another key", CALL) is None


# --- what older versions submit --------------------------------------------------------------------------------------


async def test_a_key_of_an_older_version_holds_for_every_call_until_its_outcome_goes(stage: Stage) -> None:
    await stage.master()
    await stage.worker({CALL: fail})
    client = await stage.client()
    older = old()
    await client.put(older).outcome()

    assert await keys(stage) == [hash_key("the key")]
    with pytest.raises(DuplicateTask, match=older.name):
        await client.put(keyed()).accepted
    found = await held_keys.find_key(stage.zk, "the key", CALL)
    assert found is not None
    assert found.task == older.name
    released = await held_keys.release(stage.zk, found.hash)
    assert released is not None
    assert released.state is TaskState.FAILED
    await client.put(keyed()).accepted


async def test_an_older_task_that_has_not_ended_is_not_parted_from_its_key(stage: Stage) -> None:
    client = await stage.client()
    older = old()
    await client.put(older).accepted

    with pytest.raises(Exception, match="submitted by an older version of Herdmaster"):
        await held_keys.release(stage.zk, hash_key("the key"))
    assert await keys(stage) == [hash_key("the key")]


async def test_a_key_that_is_another_tasks_by_the_time_its_holder_has_been_looked_for_is_not_released(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first task ended without an outcome, and freed its key without a hold."""
    key, first, second = hash_key("the key"), new_raw_name(), new_raw_name()
    path = layout.key_path(key)
    await stage.put(path, data=first.encode())
    find = Inspector.find

    async def find_late(self: Inspector, task: str) -> TaskDetails | None:
        await stage.zk.transaction().delete(path).create(path, second.encode()).commit()
        return await find(self, task)

    monkeypatch.setattr(Inspector, "find", find_late)
    assert await held_keys.release(stage.zk, key) is None
    assert await stage.data(path) == second.encode()


async def test_a_global_key_of_another_call_is_another_key(stage: Stage) -> None:
    client = await stage.client()
    other, same = hash_key("the key"), hash_key("the key")
    record = encode_record(KeyRecord("the key", KeyScope.GLOBAL, "m:other"))
    await client.put(msgspec.structs.replace(keyed(), key_hash=other, key_record=record, old_key_hash=None)).accepted
    first = keyed()
    await client.put(first).accepted
    assert await stage.data(layout.key_path(KEY)) == first.name.encode()

    await held_keys.release(stage.zk, KEY)
    await held_keys.release(stage.zk, other)
    record = encode_record(KeyRecord("the key", KeyScope.GLOBAL, CALL))
    again = msgspec.structs.replace(keyed(), key_hash=same, key_record=record, old_key_hash=None)
    await client.put(again).accepted
    with pytest.raises(DuplicateTask, match=again.name):
        await client.put(keyed()).accepted
