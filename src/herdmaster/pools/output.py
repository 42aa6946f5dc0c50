"""Lines out of what a process prints."""

from __future__ import annotations

from typing import Final

MAX_LINE: Final = 16 * 1024
"""Bytes. A longer line is handed on in pieces."""


class LineReader:
    """Takes bytes as they come, gives the lines that are complete, without their ends."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        pieces = [piece for line in lines for piece in _cut(line.removesuffix(b"\r"))]
        if len(self._rest) > MAX_LINE:
            *more, self._rest = _cut(self._rest)
            pieces += more
        return [piece.decode("utf-8", "replace") for piece in pieces]

    def flush(self) -> list[str]:
        """What is left of a line that nobody ended."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", "replace")] if rest else []


def _cut(line: bytes) -> list[bytes]:
    return [line[start : start + MAX_LINE] for start in range(0, max(len(line), 1), MAX_LINE)]
