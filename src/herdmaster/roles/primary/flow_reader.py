"""Reads the headers of flows, and what their ends are to say, many in one request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_MAX_READ: Final = 200
_WEIGHT_OF_PAYLOAD: Final = 25


class FlowWanted(msgspec.Struct, frozen=True):
    """A flow to read. `failed` are the steps whose payloads are wanted, with their errors. `is_cancelled`: there is a
    request to cancel it, which is wanted, too."""

    name: str
    failed: tuple[str, ...] = ()
    is_cancelled: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        failed = (layout.flow_failed_path(self.name, step) for step in self.failed)
        cancel = (layout.flow_cancel_path(self.name),) if self.is_cancelled else ()
        return layout.flow_path(self.name), *failed, *cancel

    @property
    def weight(self) -> int:
        return 1 + self.is_cancelled + _WEIGHT_OF_PAYLOAD * len(self.failed)


class FlowRead(msgspec.Struct, frozen=True):
    """What was read. `header` is None if the flow is not there. `cancel` is the data of the request to cancel it: empty
    if that could not be read, None if it was not wanted. `failed` are the payloads that are there, by step. `error` if
    the header could not be read."""

    header: Node | None = None
    cancel: bytes | None = None
    failed: dict[str, bytes] = {}
    error: Exception | None = None


Read = Callable[[str, FlowRead], None]


class FlowReader:
    """The reads of a master over one session."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, wanted: Iterable[FlowWanted], read: Read) -> None:
        """`read` is called once for each flow. Raises the session's final error."""
        batch: list[FlowWanted] = []
        weight = 0
        for each in wanted:
            if batch and weight + each.weight > _MAX_READ:
                self._send(batch, read)
                batch, weight = [], 0
            batch.append(each)
            weight += each.weight
        if batch:
            self._send(batch, read)

    def _send(self, batch: Sequence[FlowWanted], read: Read) -> None:
        paths = [path for each in batch for path in each.paths]
        self._client.multi_read_nowait(paths, partial(_done, batch, read))


def _done(
    batch: Sequence[FlowWanted],
    read: Read,
    results: list[Node | errors.ServerError] | None,
    error: Exception | None,
) -> None:
    if results is None:
        for each in batch:
            read(each.name, FlowRead(error=error or errors.SessionExpired("the session ended")))
        return
    rest = iter(results)
    for each in batch:
        read(each.name, _collect(each, [next(rest) for _ in each.paths]))


def _collect(wanted: FlowWanted, results: Sequence[Node | errors.ServerError]) -> FlowRead:
    header, *failed = results
    cancel = _data_of(failed.pop()) if wanted.is_cancelled else None
    if not isinstance(header, tuple):
        return FlowRead(error=None if isinstance(header, errors.NoNode) else header)
    payloads = {
        step: each[0] or b"" for step, each in zip(wanted.failed, failed, strict=True) if isinstance(each, tuple)
    }
    return FlowRead(header, cancel, payloads)


def _data_of(node: Node | errors.ServerError) -> bytes:
    """Return the data of a znode; nothing if it could not be read."""
    return (node[0] or b"") if isinstance(node, tuple) else b""
