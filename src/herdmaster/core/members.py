"""The data that masters and workers write into their own znodes."""

from __future__ import annotations

from typing import Final

import msgspec

from herdmaster.core.bounds import Number, UnixMs
from herdmaster.core.names import DEFAULT_QUEUE
from herdmaster.core.roster import WorkerState
from herdmaster.core.values import UNREADABLE

FLOWS: Final = "flows"
"""A feature of workers: they run steps of flows."""

READY: Final = "ready"
DRAINING: Final = "draining"
DRAINED: Final = "drained"
"""The state of a worker that was asked to drain, and has nothing left."""

NO_REQUEST: Final = ""
DRAIN: Final = "drain"
STOP: Final = "stop"
_REFERENCE_STATES: Final = (b"Idle", b"Working")
MAX_SLOTS: Final = 10_000


class MasterRecord(msgspec.Struct, frozen=True):
    """`/master` and `/masters/master-ID` of ours. `since` in unix milliseconds."""

    id: str
    host: str
    pid: Number
    since: UnixMs


class WorkerRecord(msgspec.Struct, frozen=True):
    """`/workers/worker-ID` of ours. `since` in unix milliseconds; `calls`: it has functions to run them with;
    `app` is where they come from, as `module:attribute`; `request` is what an operator asks of the worker (`drain`,
    `stop`), empty for nothing. It is None for an older worker, which takes no requests. `features`: what the worker
    can do that older ones cannot."""

    slots: Number
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    state: str = READY
    host: str = ""
    pid: Number = 0
    since: UnixMs = 0
    version: str = ""
    calls: bool = True
    app: str | None = None
    request: str | None = None
    features: tuple[str, ...] = ()


_encoder = msgspec.json.Encoder()
_master_decoder = msgspec.json.Decoder(MasterRecord)
_worker_decoder = msgspec.json.Decoder(WorkerRecord)


def encode_record(record: MasterRecord | WorkerRecord) -> bytes:
    return _encoder.encode(record)


def decode_master(data: bytes | None) -> MasterRecord | None:
    """Return the record; None for a reference master, whose data is an id as text."""
    try:
        return _master_decoder.decode(data or b"")
    except UNREADABLE:
        return None


def decode_worker(data: bytes | None) -> WorkerRecord | None:
    """Return the record; None for a reference worker, and for data that cannot be used."""
    try:
        record = _worker_decoder.decode(data or b"")
    except UNREADABLE:
        return None
    return record if 0 < record.slots <= MAX_SLOTS else None


def worker_state(data: bytes | None) -> WorkerState | None:
    """Return what the primary needs to know of a worker; None for data that cannot be used."""
    if data in _REFERENCE_STATES:
        return WorkerState(1, frozenset((DEFAULT_QUEUE,)), reference=True)
    record = decode_worker(data)
    if record is None:
        return None
    return WorkerState(
        record.slots,
        frozenset(record.queues),
        draining=record.state != READY,
        calls=record.calls,
        flows=FLOWS in record.features,
    )
