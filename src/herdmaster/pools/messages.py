"""The messages between a pool and its processes: msgpack after four bytes of length."""

from __future__ import annotations

from typing import Final

import msgspec

_LENGTH_BYTES: Final = 4
_MOST_BYTES: Final = 256 * 1024 * 1024


class Start(msgspec.Struct, frozen=True, tag="start"):
    """To a new process: its `sys.path`, the factory of its handler as `module:attribute`, the argument of the factory,
    the log level of its parent, and the mark that begins its log records."""

    path: list[str]
    handler: str
    argument: str
    log_level: int
    log_mark: str


class Request(msgspec.Struct, frozen=True, tag="request"):
    """To an idle process. Notes and reply repeat `number`. The limits are as in `limits.Limits`."""

    number: int
    data: bytes
    soft: float | None
    memory: int | None


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """To a process that has asked: repeats `number` and `question`."""

    number: int
    question: int
    data: bytes


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process can take a request."""


class CannotStart(msgspec.Struct, frozen=True, tag="cannot"):
    """The process ends for this reason, before it has taken a request."""

    reason: str


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Data that the code sends while it runs."""

    number: int
    data: bytes


class Question(msgspec.Struct, frozen=True, tag="question"):
    """Data that the code sends while it runs, and on whose answer it waits. `question` counts the questions of the
    process."""

    number: int
    question: int
    data: bytes


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The result of the handler for the request of that number."""

    number: int
    data: bytes


class SoftlyTimedOut(msgspec.Struct, frozen=True, tag="soft"):
    """The handler raised SoftTimeLimitExceeded."""

    number: int


class HandlerFailed(msgspec.Struct, frozen=True, tag="failed"):
    """The handler raised another exception. The process must not be used again."""

    number: int
    reason: str


ToChild = Start | Request | Answer
FromChild = Ready | CannotStart | Note | Question | Reply | SoftlyTimedOut | HandlerFailed

_encoder: Final = msgspec.msgpack.Encoder()
to_child_decoder: Final[msgspec.msgpack.Decoder[ToChild]] = msgspec.msgpack.Decoder(ToChild)
from_child_decoder: Final[msgspec.msgpack.Decoder[FromChild]] = msgspec.msgpack.Decoder(FromChild)


def encode_frame(message: ToChild | FromChild) -> bytes:
    data = _encoder.encode(message)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


class NoAnswer(Exception):
    """Nothing will answer the question: its request is over, or a forked process asked."""


class FrameReader:
    """Splits a stream of bytes into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the contents of the frames that are complete. Raises ValueError for a length that no frame has."""
        buffer = self._buffer
        buffer += data
        frames = []
        position = 0
        while len(buffer) - position >= _LENGTH_BYTES:
            begin = position + _LENGTH_BYTES
            length = int.from_bytes(buffer[position:begin], "big")
            if length > _MOST_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = begin + length
            if len(buffer) < end:
                break
            frames.append(bytes(buffer[begin:end]))
            position = end
        del buffer[:position]
        return frames
