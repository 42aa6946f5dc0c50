"""Keys and holds that nothing else would delete are swept."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.core.keys import hash_key
from herdmaster.roles.primary.key_sweep import KeySweep
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.model import Acl, Id, Permission
from tests.roles.keyed import KEY, is_held_by, keyed, keys
from tests.roles.stage import Stage, new_call_name

pytestmark = pytest.mark.long


async def test_holds_without_a_key_and_keys_of_lost_tasks_are_swept(stage: Stage) -> None:
    client = await stage.client()
    task = keyed()
    await client.put(task).accepted
    stale, gone = hash_key("stale"), new_call_name()
    await stage.put(layout.key_path(stale), data=gone.encode())
    await stage.put(layout.hold_path(stale, gone), layout.hold_path(KEY, gone), layout.hold_path(hash_key("x"), gone))
    sweep = KeySweep(stage.zk)
    before = await keys(stage)
    await sweep.sweep()
    assert await keys(stage) == before

    await sweep.sweep()
    assert await is_held_by(stage, task.name)


async def test_a_key_of_a_task_whose_payload_cannot_be_read_goes_once_its_outcome_is_gone(stage: Stage) -> None:
    """What ends the task cannot know its key."""
    await make_folders(stage.zk)
    task = new_call_name()
    acl = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)
    await stage.zk.create(layout.delayed_path(0, task), b"", acl=acl)
    await stage.put(layout.key_path(KEY), data=task.encode())
    await stage.put(layout.hold_path(KEY, task))
    await stage.master()
    await stage.until_exists(layout.status_path(task))
    sweep = KeySweep(stage.zk)
    for _ in range(3):
        await sweep.sweep()
    assert await is_held_by(stage, task)

    await stage.zk.delete(layout.status_path(task))
    for _ in range(2):
        await sweep.sweep()
    assert await keys(stage) == []


async def test_the_hold_of_a_key_that_may_not_be_read_stays(stage: Stage) -> None:
    await make_folders(stage.zk)
    task, sweep = new_call_name(), KeySweep(stage.zk)
    acl = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)
    await stage.zk.create(layout.key_path(KEY), task.encode(), acl=acl)
    await stage.put(layout.hold_path(KEY, task))
    for _ in range(3):
        await sweep.sweep()
    assert await keys(stage) == [KEY, f"{KEY}-{task}"]


async def test_the_hold_that_a_sweep_makes_to_free_a_key_is_swept_later(stage: Stage) -> None:
    await make_folders(stage.zk)
    gone, sweep = new_call_name(), KeySweep(stage.zk)
    await stage.put(layout.key_path(KEY), data=gone.encode())
    for left in ([KEY], [f"{KEY}-{gone}"], [f"{KEY}-{gone}"], []):
        await sweep.sweep()
        assert await keys(stage) == left
