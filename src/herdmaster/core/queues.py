"""The data of `/queues/QUEUE`: `{"paused":true,"max_running":4,"rate":2.5}`, with the fields that are set."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from herdmaster.core.bounds import Count
from herdmaster.core.names import check_queue
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import ConfigurationError, InvalidName


class QueueSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of a queue, over all workers together.

    `paused`: no task is assigned. `max_running`: at most so many tasks are in workers' inboxes. `rate`: at most so many
    are assigned per second.
    """

    paused: bool = False
    max_running: Count | None = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None


UNLIMITED: Final = QueueSettings()

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(QueueSettings)


def encode_queue(settings: QueueSettings) -> bytes:
    """Raises ConfigurationError for a limit that would let nothing through: pause the queue instead."""
    if (settings.max_running is not None and settings.max_running < 1) or (
        settings.rate is not None and not 0 < settings.rate < float("inf")
    ):
        raise ConfigurationError("max_running and rate are above 0; to let nothing through, pause the queue")
    return _encoder.encode(settings)


def decode_queue(data: bytes | None) -> QueueSettings | None:
    """Return the limits; None for data that cannot be used."""
    try:
        return _decoder.decode(data or b"{}")
    except UNREADABLE:
        return None


def describe_queue(settings: QueueSettings) -> str:
    """Return a queue's limits as a text for people; empty where there are none."""
    parts = ["paused"] if settings.paused else []
    if settings.max_running is not None:
        parts.append(f"at most {settings.max_running} running")
    if settings.rate is not None:
        parts.append(f"at most {settings.rate:g} a second")
    return ", ".join(parts)


def parse_queue_name(name: str) -> str | None:
    """Return the queue of a name in `/queues`; None for a name that is not a queue's."""
    try:
        return check_queue(name)
    except InvalidName:
        return None
