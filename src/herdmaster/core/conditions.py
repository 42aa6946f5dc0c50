"""Conditions in a call's header that the primary must know before it places the task: when it expires."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from herdmaster.core.names import parse_task_name
from herdmaster.core.payload import decode_call
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload

_MIN_VOIDS: Final = 64


def is_conditional(task: str) -> bool:
    """Whether the name says that the header has conditions."""
    if not task.endswith((".c", ".c.f")):
        return False
    name = parse_task_name(task)  # a queue may be called `c`
    return name is not None and name.conditional


def expiry_of(task: str, payload: bytes) -> int | None:
    """Return when the task expires, in unix milliseconds; None for never.

    A task that has begun before never expires. Nor does one whose payload cannot be read: its worker reports that.
    """
    if not is_conditional(task):
        return None
    try:
        call = decode_call(payload)
    except (BadPayload, *UNREADABLE):
        return None
    return call.expires if call.attempt == 1 else None


class Conditions:
    """What is known of the headers of waiting tasks with conditions.

    The dispatcher says which tasks these are, and asks which headers to read and which tasks have expired. Each task is
    given out once, until `want` or `watch` is called for it again.
    """

    def __init__(self) -> None:
        self._unread: dict[str, None] = {}
        self._expiries: dict[str, int | None] = {}  # None: never
        self._heap: list[tuple[int, str]] = []
        self._watched: set[str] = set()  # tasks with an entry in the heap

    def knows(self, task: str) -> bool:
        """Whether the task's header was read."""
        return task in self._expiries

    def want(self, task: str) -> None:
        self._unread[task] = None

    def take_unread(self) -> Iterator[str]:
        """Yield the tasks whose headers are wanted; each is taken before it is yielded."""
        while self._unread:
            task = next(iter(self._unread))
            del self._unread[task]
            yield task

    def tell(self, task: str, expires: int | None) -> None:
        """Note when the task expires, in unix milliseconds; None for never."""
        self._expiries[task] = expires
        self._watched.discard(task)
        self.watch(task)

    def watch(self, task: str) -> None:
        """Let the task expire from now on."""
        expires = self._expiries.get(task)
        if expires is not None and task not in self._watched:
            self._watched.add(task)
            heapq.heappush(self._heap, (expires, task))

    def forget(self, task: str) -> None:
        """Forget a task that does not wait any more."""
        self._unread.pop(task, None)
        self._expiries.pop(task, None)
        self._watched.discard(task)
        if len(self._heap) > 2 * len(self._watched) + _MIN_VOIDS:
            self._heap = sorted({entry for entry in self._heap if self._is_valid(entry)})

    def clear(self) -> None:
        """Forget all headers: what was read may be old."""
        self._unread.clear()
        self._expiries.clear()
        self._watched.clear()
        self._heap.clear()

    def take_expired(self, now_ms: int) -> Iterator[str]:
        """Yield the tasks that have expired, the first to expire first; each is taken before it is yielded."""
        while (expires := self.next_expiry_ms()) is not None and expires <= now_ms:
            task = heapq.heappop(self._heap)[1]
            self._watched.discard(task)
            yield task

    def next_expiry_ms(self) -> int | None:
        while self._heap and not self._is_valid(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _is_valid(self, entry: tuple[int, str]) -> bool:
        return entry[1] in self._watched and self._expiries.get(entry[1]) == entry[0]
