"""Looks for the flows that `herd flows remove` is to remove, before it asks."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, TypeVar

from herdmaster.errors import HerdError

if TYPE_CHECKING:
    from herdmaster.zookeeper.client import Client

T = TypeVar("T")


async def look_for_removal(client: Client, flows: Sequence[str], *, is_forced: bool) -> dict[str, HerdError | None]:
    """Return for each flow, by its name, why it cannot be removed; None if it can."""
    from herdmaster.inspection.flows import resolve_flow
    from herdmaster.operations.flows import check_removal

    found: dict[str, HerdError | None] = {}
    for each in dict.fromkeys(flows):
        name = await attempt(resolve_flow(client, each))
        if isinstance(name, HerdError):
            found[each] = name
        elif name not in found:
            state = await attempt(check_removal(client, name, is_forced=is_forced))
            found[name] = state if isinstance(state, HerdError) else None
    return found


async def attempt(act: Awaitable[T]) -> T | HerdError:
    """Return the result, or the error if it concerns one flow and not the session."""
    from herdmaster.zookeeper.errors import ServerError, ZooKeeperError

    try:
        return await act
    except HerdError as error:
        if isinstance(error, ZooKeeperError) and not isinstance(error, ServerError):
            raise  # the session is over
        return error
