"""Foreign names: names in the folders that Herdmaster does not use. They are left alone, and logged once."""

from __future__ import annotations

from collections.abc import Iterable

from herdmaster.core.names import parse_task_name, parse_worker_name


class ForeignNames:
    """The foreign names that were seen and not taken yet."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def add(self, *names: str) -> None:
        self._names.update(names)

    def take(self) -> set[str]:
        """Return the names that were added since the last call."""
        names, self._names = self._names, set()
        return names

    def is_task(self, name: str) -> bool:
        """Whether the name is a task's. If not, add it."""
        if parse_task_name(name) is not None:
            return True
        self.add(name)
        return False

    def filter_workers(self, names: Iterable[str]) -> list[str]:
        """Return the names of workers; add the others."""
        workers = []
        for name in names:
            if parse_worker_name(name) is not None:
                workers.append(name)
            else:
                self.add(name)
        return workers
