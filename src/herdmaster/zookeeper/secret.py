"""A secret in memory that no repr, log line, traceback with locals or encoder shows."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

_HIDDEN: Final = "***"


class Secret:
    """Bytes that are shown as `***`. Only `reveal` returns them: use its result within an expression, because a local
    variable would stand in a traceback that shows locals."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return _HIDDEN

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")
