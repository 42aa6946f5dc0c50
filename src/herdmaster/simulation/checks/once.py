"""Check the results that the code of tasks saves with `once`.

- Code goes on with a result only if the assignment of its task has that result, or the task has left.
- Every run of a task goes on with the same result, and none calls the function again after one went on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.payload import decode_call

NAME: Final = "order"
"""The name under which the code of a job saves."""


class OnceCheck:
    """`read` returns the data of a znode as applied, `is_excused` whether a reference role has touched a task: its
    copies of a task are as old as they are."""

    def __init__(
        self, read: Callable[[str], bytes | None], is_excused: Callable[[str], bool], fail: Callable[[str], None]
    ) -> None:
        self._read = read
        self._is_excused = is_excused
        self._fail = fail
        self._results: dict[str, bytes] = {}  # by task: what its code went on with
        self._calls = 0
        self._expired: set[str] = set()

    def expired_early(self, process: str) -> None:
        """Note that the server ended a session of the process early, which no fence of the process can know."""
        self._expired.add(process)

    def called(self, process: str, task: str) -> bytes:
        """Note a call of the function. Return its result, which no other call has."""
        if task in self._results and not (self._is_excused(task) or process in self._expired):
            self._fail(f"{process} orders again for {task}, which went on with {self._results[task].decode()} before")
        self._calls += 1
        return b"%d" % self._calls

    def went_on(self, process: str, worker: str, task: str, result: bytes) -> None:
        """Note that the code goes on with a result."""
        data = self._read(layout.assignment_path(worker, task))
        saved = None if data is None else (decode_call(data).saved or {}).get(NAME, msgspec.Raw(b"nothing"))
        if saved is not None and bytes(saved) != result:
            self._fail(
                f"{process} goes on with {result.decode()} in {task}, whose assignment has {bytes(saved).decode()}"
            )
        before = self._results.setdefault(task, result)
        if before != result and not self._is_excused(task):
            self._fail(
                f"{process} goes on with {result.decode()} in {task}, which went on with {before.decode()} before"
            )
