"""Reads the payloads of some tasks, with few requests of bounded size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from herdmaster.core.names import parse_task_name
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_MAX_WEIGHT: Final = 256
"""Of one request. The name of a call says whether its payload has at most 4 KiB, or up to 512."""
_WEIGHT_OF_BIG: Final = 128


def is_big(task: str) -> bool:
    """Return whether the name says that the payload has more than 4 KiB."""
    parsed = parse_task_name(task)
    return parsed is not None and parsed.big


async def read_payloads(client: Client, places: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """Return the payload of each (task, path) that can be read. Raises ConnectionLoss, SessionExpired."""
    found: dict[str, bytes] = {}
    for batch in _batches(places):
        replies = await client.multi_read([path for _, path in batch])
        for (task, _), reply in zip(batch, replies, strict=True):
            if not isinstance(reply, errors.ServerError):
                found[task] = reply[0] or b""
    return found


def _batches(places: Iterable[tuple[str, str]]) -> Iterable[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    weight = 0
    for task, path in places:
        own = _WEIGHT_OF_BIG if is_big(task) else 1
        if batch and weight + own > _MAX_WEIGHT:
            yield batch
            batch, weight = [], 0
        batch.append((task, path))
        weight += own
    if batch:
        yield batch
