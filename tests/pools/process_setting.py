"""A pool of processes whose items are the requests that they run, as `process_code` reads them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from herdmaster.pools.folder import Folder
from herdmaster.pools.limits import NO_LIMITS, Ended, Limits
from herdmaster.pools.processes import ProcessPool
from tests.pools.conditions import Deliveries, until

HANDLER = "tests.pools.process_code:make_handler"


class Setting:
    def __init__(
        self,
        slots: int = 1,
        limits: Limits = NO_LIMITS,
        handler: str = HANDLER,
        handler_argument: str = "",
        folder: Folder | None = None,
    ) -> None:
        self.limits: dict[str, Limits] = {}
        self.unmade: set[str] = set()
        self.made: list[str] = []
        self.notes: list[tuple[str, bytes]] = []
        self.questions: list[tuple[str, bytes, Callable[[bytes], None]]] = []
        self.output: list[tuple[str | None, str, str]] = []
        self.deliveries: Deliveries[str, bytes] = Deliveries()
        self._default = limits
        self.pool: ProcessPool[str] = ProcessPool(
            slots,
            self._make_request,
            self.deliveries,
            handler=handler,
            handler_argument=handler_argument,
            note=lambda item, data: self.notes.append((item, data)),
            ask=lambda item, data, answer: self.questions.append((item, data, answer)),
            on_output=lambda *line: self.output.append(line),
            folder=folder,
        )

    def _make_request(self, item: str) -> tuple[bytes, Limits] | None:
        self.made.append(item)
        return None if item in self.unmade else (item.encode(), self.limits.get(item, self._default))

    async def run(self, *items: str) -> list[bytes | Ended]:
        """What each comes to; items of one call must differ."""
        before = len(self.deliveries.all)
        self.pool.submit(items)
        await until(lambda: set(items) <= dict(self.deliveries.all[before:]).keys())
        results = dict(self.deliveries.all[before:])
        return [results[item] for item in items]

    async def run_text(self, item: str) -> str:
        (result,) = await self.run(item)
        assert isinstance(result, bytes), result
        return result.decode()


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_asleep(pid: int) -> bool:
    """Whether its main thread waits in a system call."""
    return "State:\tS" in Path(f"/proc/{pid}/status").read_text()


def children(parent: int) -> set[int]:
    """Zombies included."""
    pids: set[int] = set()
    for thread in Path(f"/proc/{parent}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended just now
            pids.update(map(int, (thread / "children").read_text().split()))
    return pids


def command(pid: int) -> str:
    """The name of what it runs."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def open_fds() -> set[str]:
    return {f"{path.name} {path.readlink()}" for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
