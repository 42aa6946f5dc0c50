"""A queue by which a test does something in the moment right after a look at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class LateQueue(deque[Any]):
    """Calls `late` once, right after it has been found empty."""

    def __init__(self, late: Callable[[], object]) -> None:
        super().__init__()
        self._late: Callable[[], object] | None = late

    def __bool__(self) -> bool:
        is_empty = not len(self)
        if is_empty and self._late is not None:
            late, self._late = self._late, None
            late()
        return not is_empty
