"""What came of one run of a task's code, before the next move is decided; and its form on the way out of a process."""

from __future__ import annotations

from typing import Final

import msgspec

from herdmaster.core.added_steps import AddedStep
from herdmaster.core.retry import Raised

_NULL: Final = msgspec.Raw(b"null")
_ABSENT: Final = msgspec.Raw()


class Returned(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="returned"):
    """`result` is JSON. That of a raw task is not used. `steps` are what a step has added to its flow."""

    result: msgspec.Raw = _NULL
    steps: tuple[AddedStep, ...] = ()


class ItemRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of a chunk: what it raised, or else its result as JSON."""

    result: msgspec.Raw = _ABSENT
    raised: Raised | None = None


class ChunkRan(msgspec.Struct, frozen=True, omit_defaults=True, tag="chunk"):
    """Every item was run, in their order. `steps` as of `Returned`."""

    items: tuple[ItemRun, ...]
    steps: tuple[AddedStep, ...] = ()


class Expired(msgspec.Struct, frozen=True, gc=False, tag="expired"):
    """Its turn came too late: the code was not run."""


class Lacking(msgspec.Struct, frozen=True, gc=False, tag="lacking"):
    """There is no such function here after all, or (not `is_function`) it has no such parameters, and another worker
    may have it; `reason` is a sentence that says what is lacking."""

    reason: str = ""
    is_function: bool = True


Ending = Returned | Raised | ChunkRan | Expired | Lacking


class Run(msgspec.Struct, frozen=True):
    """`started` and `ended` in unix milliseconds of the machine that ran it."""

    ending: Ending
    started: int
    ended: int


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Run)


def encode_run(run: Run) -> bytes:
    return _encoder.encode(run)


def decode_run(data: bytes) -> Run:
    """What `encode_run` gave; for use between processes of one version."""
    return _decoder.decode(data)
