"""Deletes flows whose time to live is over, flows that were never completed, and what is left of removals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from herdmaster.core import layout
from herdmaster.core.flows import FlowState, decode_header
from herdmaster.core.names import parse_flow_name
from herdmaster.errors import BadPayload
from herdmaster.roles.shared.flow_removal import remove_flow
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_READ_AT_ONCE: Final = 100
_REMOVED_AT_ONCE: Final = 20

_log = logging.getLogger("herdmaster.master")


class FlowSweep:
    """Sweeps `/flows`. `ttl`, in seconds, is for flows that name no time to live; a flow that is not complete for
    `building` seconds was given up by its client.

    The header of a flow is read when it is first seen, in each round while it runs, and again before it is deleted.
    That of a flow that has ended is also read now and then: a client may have said that the flow is to be removed.
    """

    def __init__(self, client: Client, ttl: float, building: float) -> None:
        self._client = client
        self._ttl = ttl
        self._building = building
        self._until: dict[str, float] = {}  # when a flow that does not run is to go, in unix milliseconds
        self._look_again_ms = building * 1000 / 6
        self._read_at: dict[str, int] = {}  # of those in `_until`

    async def sweep(self, now_ms: int) -> None:
        """Delete what is over. Raises what reading raises, and one of the errors that refused a deletion."""
        try:
            names = {name for name in await self._client.children(layout.FLOWS) if parse_flow_name(name) is not None}
        except errors.NoNode:
            return  # a namespace that only older programs have used
        for name in self._until.keys() - names:
            self._forget(name)
        recent = {name for name, read_at in self._read_at.items() if now_ms - read_at < self._look_again_ms}
        await self._learn(sorted(names - recent), now_ms)
        over = [name for name, until in self._until.items() if until <= now_ms]
        refusals: list[errors.ServerError] = []
        for start in range(0, len(over), _REMOVED_AT_ONCE):
            batch = over[start : start + _REMOVED_AT_ONCE]
            await self._learn(batch, now_ms)
            still = [name for name in batch if self._until.get(name, now_ms + 1) <= now_ms]
            refusals += [each for each in await asyncio.gather(*map(self._remove, still)) if each is not None]
        if refusals:
            raise refusals[0]

    async def _learn(self, names: Sequence[str], now_ms: int) -> None:
        for start in range(0, len(names), _READ_AT_ONCE):
            batch = names[start : start + _READ_AT_ONCE]
            for name, node in zip(batch, await self._client.multi_read(map(layout.flow_path, batch)), strict=True):
                until = self._until_of(node) if isinstance(node, tuple) else None
                if until is None:
                    self._forget(name)
                else:
                    self._until[name], self._read_at[name] = until, now_ms

    def _forget(self, name: str) -> None:
        self._until.pop(name, None)
        self._read_at.pop(name, None)

    def _until_of(self, node: Node) -> float | None:
        """Return when a flow is to go: after its header was last written, which is its end if it has ended. None for
        never: while it runs, and if the header is that of a later version."""
        data, stat = node
        if not data:  # made by hand, or a removal that did not understand the header
            return stat.mtime + self._building * 1000
        try:
            header = decode_header(data)
        except BadPayload:
            return None
        match header.state:
            case FlowState.RUNNING:
                return None
            case FlowState.REMOVED:
                return 0
            case FlowState.BUILDING:
                return stat.mtime + self._building * 1000
        return stat.mtime + (self._ttl if header.ttl is None else header.ttl) * 1000

    async def _remove(self, name: str) -> errors.ServerError | None:
        try:
            if await remove_flow(self._client, name):
                self._forget(name)
                _log.debug("removed %s", name)
        except errors.ServerError as error:
            return error
        return None
