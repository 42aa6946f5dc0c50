"""Whatever ends a task that is not done frees its key in the same transaction, and no key of another task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.keys import KeyHolds
from herdmaster.core.outcome import OutcomeState
from herdmaster.errors import DuplicateTask
from herdmaster.operations import actions
from herdmaster.operations import keys as held_keys
from herdmaster.roles.primary.master import MasterSettings
from tests.proxy import Proxy, multi_with
from tests.roles.keyed import CALL, KEY, LATER, accepted, fail, is_held_by, keyed, keys
from tests.roles.primary.test_promotion import now_ms
from tests.roles.stage import Stage, StagedClient, new_call_name, until

pytestmark = pytest.mark.long


async def end_by_failure(stage: Stage, client: StagedClient) -> str:
    await stage.worker({CALL: fail})
    return await accepted(client, keyed())


async def end_in_dead(stage: Stage, client: StagedClient) -> str:
    await stage.worker({CALL: fail})
    return await accepted(client, keyed(attempts=2))


async def expire_waiting(stage: Stage, client: StagedClient) -> str:
    return await accepted(client, keyed(expires_ms=now_ms() + 300))


async def expire_delayed(stage: Stage, client: StagedClient) -> str:
    return await accepted(client, keyed(due_ms=now_ms() + 400, expires_ms=now_ms() + 300))


async def cancel_waiting(stage: Stage, client: StagedClient) -> str:
    return await cancelled(stage, await accepted(client, keyed()))


async def cancel_delayed(stage: Stage, client: StagedClient) -> str:
    return await cancelled(stage, await accepted(client, keyed(due_ms=now_ms() + LATER)))


async def cancel_assigned(stage: Stage, client: StagedClient) -> str:
    gate = stage.gate()
    await stage.worker({CALL: lambda: gate(CALL, b"")})
    name = await accepted(client, keyed())
    await until(lambda: gate.entered == [CALL], "it to run")
    return await cancelled(stage, name)


async def bury_for_a_lost_worker(stage: Stage, client: StagedClient) -> str:
    task = keyed(max_deliveries=1)
    payload = msgspec.json.encode(msgspec.json.decode(task.data) | {"deliveries": 1, "started": "worker-gone"})
    await stage.put(layout.key_path(KEY), data=task.name.encode())
    await stage.put(layout.hold_path(KEY, task.name), data=task.key_record)
    await stage.put(layout.assignment_path("worker-gone", task.name), data=payload)
    return task.name


async def cancelled(stage: Stage, name: str) -> str:
    await stage.put(layout.cancel_path(name), data=b"")
    return name


ENDS = [
    end_by_failure,
    end_in_dead,
    expire_waiting,
    expire_delayed,
    cancel_waiting,
    cancel_delayed,
    cancel_assigned,
    bury_for_a_lost_worker,
]
End = Callable[[Stage, StagedClient], Awaitable[str]]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_task_that_ends_otherwise_than_done_frees_its_key_and_its_outcome_stays(stage: Stage, end: End) -> None:
    await stage.master()
    client = await stage.client()
    name = await end(stage, client)
    await stage.until_exists(layout.status_path(name))

    assert await keys(stage) == []
    again = keyed()
    await client.put(again).accepted
    assert await stage.exists(layout.status_path(name))  # for those that were told that it held the key


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_key_that_another_task_got_while_its_holder_ends_stays(namespace: str, stage: Stage, end: End) -> None:
    """The transaction of the end is on its way when the key is released and taken again."""
    async with Proxy(namespace) as proxy:
        hosts, stage.hosts = stage.hosts, proxy.hosts
        held = proxy.hold_request(multi_with(f"/keys/{KEY}-", "/status/"))
        await stage.master(MasterSettings(session_timeout=10.0))
        client = await stage.client(hosts)
        name = await end(stage, client)
        await held.happened.wait()
        assert (await held_keys.release(stage.zk, KEY)) is not None
        second = keyed(due_ms=now_ms() + LATER)
        await client.put(second).accepted
        held.go_on.set()
        await stage.until_exists(layout.status_path(name))

        assert await is_held_by(stage, second.name)
        await stage.close()


async def test_a_task_that_is_done_or_tried_again_holds_its_key(stage: Stage) -> None:
    await stage.master()
    attempts = 0

    def second_try() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ValueError("not yet")

    await stage.worker({CALL: second_try})
    client = await stage.client()
    task = keyed(attempts=2)
    assert (await client.put(task).outcome()).state is OutcomeState.DONE

    assert await is_held_by(stage, task.name)
    with pytest.raises(DuplicateTask, match=task.name):
        await client.put(keyed()).accepted


async def test_a_task_may_hold_its_key_whatever_it_ends_with(stage: Stage) -> None:
    await stage.master()
    await stage.worker({CALL: fail})
    client = await stage.client()
    task = keyed(holds=KeyHolds.ALWAYS, attempts=2)
    assert (await client.put(task).outcome()).state is OutcomeState.FAILED

    assert await is_held_by(stage, task.name)


@pytest.mark.parametrize("code", [fail, lambda: None])
async def test_a_task_without_an_outcome_frees_its_key_when_it_ends(stage: Stage, code: Callable[[], None]) -> None:
    await stage.master()
    await stage.worker({CALL: code})
    client = await stage.client()
    await client.put(keyed(silent=True)).accepted

    await stage.until_empty()
    assert await keys(stage) == []


# --- replay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holds", KeyHolds)
async def test_a_replay_takes_the_key_along(stage: Stage, holds: KeyHolds) -> None:
    await stage.master()
    worker = await stage.worker({CALL: fail})
    client = await stage.client()
    task = keyed(holds=holds, attempts=2)
    await client.put(task).outcome()
    await stage.stop(worker)
    new = new_call_name()

    assert await actions.replay(stage.zk, task.name, new)
    assert await is_held_by(stage, new)
    with pytest.raises(DuplicateTask, match=new):
        await client.put(keyed()).accepted
    await stage.worker({CALL: fail})
    await stage.until_exists(layout.dead_path(new))
    assert await keys(stage) == ([] if holds is KeyHolds.DONE else [KEY, f"{KEY}-{new}"])


async def test_a_replay_whose_key_is_taken_says_so_and_may_go_without_it(stage: Stage) -> None:
    await stage.master()
    worker = await stage.worker({CALL: fail})
    client = await stage.client()
    task, second, new = keyed(attempts=2), keyed(due_ms=now_ms() + LATER), new_call_name()
    await client.put(task).outcome()
    await stage.stop(worker)
    await client.put(second).accepted

    with pytest.raises(actions.KeyHeld, match=f"{task.name} is not replayed, because {second.name} now holds its key"):
        await actions.replay(stage.zk, task.name, new)
    assert await stage.names(layout.DEAD) == [task.name]
    assert await actions.replay(stage.zk, task.name, new, with_key=False)
    assert await is_held_by(stage, second.name)


@pytest.mark.parametrize("lose", ["request", "reply"])
async def test_a_replay_whose_answer_is_lost_happens_once(namespace: str, stage: Stage, lose: str) -> None:
    task, new = keyed(), new_call_name()
    await stage.put(layout.KEYS, layout.TASKS, layout.STATUS, layout.DELAYED, layout.ASSIGN)
    await stage.put(layout.dead_path(task.name), data=task.data)
    async with Proxy(namespace) as proxy:
        match = multi_with(layout.key_path(KEY))
        lost = proxy.lose_request(match) if lose == "request" else proxy.lose_reply(match)
        client = await stage.client(proxy.hosts)
        assert await actions.replay(client.session, task.name, new)
        assert lost.happened.is_set()
        await stage.stop(client)

    assert await stage.leftovers() == [layout.task_path(new)]
    assert await is_held_by(stage, new)
