"""Names in the folders that are none of ours: they are left alone, and logged once."""

from __future__ import annotations

from collections.abc import Iterable

from herdmaster.core.names import parse_task_name, parse_worker_name


class ForeignNames:
    def __init__(self) -> None:
        self._found: set[str] = set()

    def add(self, *names: str) -> None:
        self._found.update(names)

    def take(self) -> set[str]:
        """Those that were seen since the last call."""
        found, self._found = self._found, set()
        return found

    def is_task(self, name: str) -> bool:
        if parse_task_name(name) is not None:
            return True
        self.add(name)
        return False

    def workers(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are a worker's."""
        found = []
        for name in names:
            if parse_worker_name(name) is not None:
                found.append(name)
            else:
                self.add(name)
        return found
