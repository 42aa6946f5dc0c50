"""The codec of some steps of flows: JSON, read backwards."""

from __future__ import annotations

from typing import Final

import msgspec


class Backwards:
    """JSON that is written backwards, so that nothing reads it as what it is not."""

    name = "backwards"

    def encode(self, value: object, /) -> bytes:
        return msgspec.json.encode(value)[::-1]

    def decode(self, data: bytes, /) -> object:
        return msgspec.json.decode(data[::-1])


CODEC: Final = Backwards()
