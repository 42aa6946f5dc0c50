"""A key without a hold, as older versions take it, is freed from the task that was seen to hold it, and from no later
one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from herdmaster.core import layout
from herdmaster.core.keys import hash_key
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.operations import actions
from herdmaster.operations import keys as held_keys
from herdmaster.roles.primary.key_sweep import KeySweep
from herdmaster.roles.primary.outcome_sweep import OutcomeSweep
from herdmaster.zookeeper.client import Client
from tests.proxy import Proxy, multi_with
from tests.roles.keyed import LATER, old
from tests.roles.primary.test_promotion import now_ms
from tests.roles.stage import Stage, new_call_name

pytestmark = pytest.mark.long

KEY = hash_key("the key")


async def release(client: Client, _task: str) -> None:
    await held_keys.release(client, KEY)


async def sweep(client: Client, _task: str) -> None:
    sweep = KeySweep(client)
    await sweep.sweep()
    await sweep.sweep()


async def expire(client: Client, task: str) -> None:
    await OutcomeSweep(client, 3600.0).take_away([task])


async def replay(client: Client, task: str) -> None:
    with suppress(actions.KeyHeld):
        await actions.replay(client, task, new_call_name())


@pytest.mark.parametrize(
    ("free", "place"),
    [
        (release, layout.status_path),
        (release, None),
        (sweep, None),
        (expire, layout.status_path),
        (replay, layout.dead_path),
    ],
)
async def test_a_key_that_another_task_took_meanwhile_stays(
    namespace: str,
    stage: Stage,
    free: Callable[[Client, str], Awaitable[None]],
    place: Callable[[str], str] | None,
) -> None:
    client = await stage.client()
    first, second = old(), old(due_ms=now_ms() + LATER)
    await stage.put(layout.key_path(KEY), data=first.name.encode())
    if place is not None:
        outcome = encode_outcome(first.name, Outcome(OutcomeState.DONE, key=KEY))
        await stage.put(place(first.name), data=first.data if place is layout.dead_path else outcome)
    async with Proxy(namespace) as proxy:
        held = proxy.hold_request(multi_with(layout.key_path(KEY)))
        late = await stage.client(proxy.hosts)
        freeing = asyncio.ensure_future(free(late.session, first.name))
        await held.happened.wait()
        await held_keys.release(stage.zk, KEY)
        await client.put(second).accepted
        held.go_on.set()
        await freeing
        await stage.stop(late)

    assert await stage.data(layout.key_path(KEY)) == second.name.encode()
