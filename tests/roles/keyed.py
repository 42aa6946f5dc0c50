"""Tasks with a uniqueness key, as clients of this version and of older ones submit them."""

from __future__ import annotations

from herdmaster.core import layout
from herdmaster.core.keys import KeyHolds, KeyRecord, KeyScope, Unique, encode_record, hash_key
from herdmaster.core.options import Overrides
from herdmaster.core.payload import Call, encode_arguments, encode_call, with_expiry
from herdmaster.core.transitions import NewTask
from tests.roles.stage import Stage, StagedClient, new_call_name

CALL = "m:f"
KEY = hash_key("the key", CALL)
LATER = 600_000


def keyed(
    *,
    holds: KeyHolds = KeyHolds.DONE,
    attempts: int = 1,
    silent: bool = False,
    due_ms: int | None = None,
    expires_ms: int | None = None,
    max_deliveries: int | None = None,
) -> NewTask:
    unique = Unique("the key", KeyScope.CALL, holds)
    payload = encode_call(
        Call(
            1,
            CALL,
            *encode_arguments((), {}),
            outcome=not silent,
            key=KEY,
            unique=unique,
            options=Overrides(max_attempts=attempts, backoff=0.0),
            max_deliveries=max_deliveries,
        )
    )
    name = new_call_name()
    if expires_ms is not None:
        payload, name = with_expiry(payload, expires_ms), f"{name}.c"
    record = encode_record(KeyRecord("the key", KeyScope.CALL, CALL))
    return NewTask(name, payload, due_ms, KEY, key_record=record, old_key_hash=hash_key("the key"))


def old(*, silent: bool = False, due_ms: int | None = None) -> NewTask:
    """As an older version submits it."""
    payload = encode_call(Call(1, CALL, *encode_arguments((), {}), outcome=not silent, key=hash_key("the key")))
    return NewTask(new_call_name(), payload, due_ms, hash_key("the key"))


def fail() -> None:
    raise ValueError("it fails")


async def keys(stage: Stage) -> list[str]:
    return await stage.names(layout.KEYS)


async def is_held_by(stage: Stage, task: str, key: str = KEY) -> bool:
    return await keys(stage) == [key, f"{key}-{task}"] and await stage.data(layout.key_path(key)) == task.encode()


async def accepted(client: StagedClient, task: NewTask) -> str:
    await client.put(task).accepted
    return task.name
