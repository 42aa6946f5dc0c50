"""Planted bugs in the results that `once` saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core import payload
from herdmaster.roles.worker import next_move
from herdmaster.roles.worker.saves import Saves


def code_goes_on_before_the_save() -> Any:
    """The code is answered when the save is sent."""
    take = Saves._take

    def answer_at_once(self: Any, task: Any, name: str, data: bytes, saved: Callable[[Any], None]) -> None:
        take(self, task, name, data, lambda _answer: None)
        saved(msgspec.Raw(data))

    return patch.object(Saves, "_take", answer_at_once)


def retries_forget_results() -> Any:
    """The payload of the next attempt has no saved results."""

    def with_attempt(data: bytes, due_ms: int | None = None) -> bytes:
        return payload._rewrite(payload.with_attempt(data, due_ms), saved=None)

    return patch.object(next_move, "with_attempt", with_attempt)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug for bug in (code_goes_on_before_the_save, retries_forget_results)
}
