"""What clients and tasks note down: one JSON line per fact, appended in one write.

A file that is opened with O_APPEND takes lines from several processes without mixing them, and what was written stays
when its writer is killed the next moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

EXECUTIONS: Final = "CHAOS_EXECUTIONS"
"""The environment variable that tells workers where executions are noted down."""


class Executed(msgspec.Struct, frozen=True, tag="executed"):
    """The code of a task began to run. `tag` is what its client calls the task, `at` is in unix seconds."""

    tag: str
    pid: int
    at: float


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The submission was acknowledged; `task` is its name."""

    tag: str
    task: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Certainly not accepted: NotSubmitted."""

    tag: str
    reason: str


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """Whether it was accepted is unknown: SubmissionUnknown."""

    tag: str
    task: str


class Told(msgspec.Struct, frozen=True, tag="told"):
    """An outcome came: a result, or what the task failed with."""

    task: str
    result: str | None = None
    error: str | None = None


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    """There was nothing to wait for: OutcomeGone."""

    task: str


Noted = Accepted | Refused | Unknown | Told | Gone
"""What a client notes down."""


class RecordFile:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, record: Noted | Executed) -> None:
        os.write(self._file, msgspec.json.encode(record) + b"\n")


_noted: Final[msgspec.json.Decoder[Noted]] = msgspec.json.Decoder(Noted)
_executed: Final = msgspec.json.Decoder(Executed)


def read_notes(path: Path) -> Iterator[Noted]:
    return map(_noted.decode, _lines(path))


def read_executions(path: Path) -> Iterator[Executed]:
    return map(_executed.decode, _lines(path))


def _lines(path: Path) -> list[bytes]:
    """Whole lines alone: who wrote the last one may have been killed over it."""
    return path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []
