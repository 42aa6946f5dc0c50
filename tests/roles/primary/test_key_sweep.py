"""Keys and holds that nothing else would delete are swept."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.core.keys import hash_key
from herdmaster.roles.primary.key_sweep import KeySweep
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
    await sweep.sweep()
    assert await keys(stage) == sorted([KEY, f"{KEY}-{task.name}", stale, f"{stale}-{gone}"])

    await sweep.sweep()
    assert await is_held_by(stage, task.name)
