"""A client whose calls are answered by hand, one after another, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.picture import Listing
from herdmaster.core.roster import WorkerState
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import SessionState, Stat

STAT = Stat(*(0,) * 11)
STATE = WorkerState(4, frozenset({"default"}))
W = "worker-w"


class ScriptedClient:
    """Each call waits in `calls`, as its name, its path or paths, and what `answer` is to call."""

    state = SessionState.CONNECTED
    hosts = SimpleNamespace(chroot=SimpleNamespace(prefix=""))
    acl_size = 0

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, Any, Callable[[Any, Exception | None], None]]] = []

    def clock(self) -> float:
        return self.now

    def exists_nowait(self, path: str, done: Callable[..., None]) -> None:
        self.calls.append(("exists", path, done))

    def get_nowait(self, path: str, done: Callable[..., None]) -> None:
        self.calls.append(("get", path, done))

    def create_nowait(self, path: str, _data: bytes, done: Callable[..., None]) -> None:
        self.calls.append(("create", path, done))

    def delete_nowait(self, path: str, done: Callable[..., None]) -> None:
        self.calls.append(("delete", path, done))

    def children_nowait(self, path: str, done: Callable[..., None]) -> None:
        self.calls.append(("children", path, done))

    def set_nowait(self, path: str, _data: bytes, done: Callable[..., None]) -> None:
        self.calls.append(("set", path, done))

    def multi_read_nowait(self, paths: Sequence[str], done: Callable[..., None]) -> None:
        self.calls.append(("read", tuple(paths), done))

    def transaction(self) -> ScriptedTransaction:
        return ScriptedTransaction(self)

    def pending(self) -> list[str]:
        return [name for name, _, _ in self.calls]

    def answer(self, name: str, result: object = None, error: Exception | None = None) -> Any:
        """Answer the oldest call of that name. Return its path or paths."""
        index = self.pending().index(name)
        _, path, done = self.calls.pop(index)
        done(result, error)
        return path

    def answer_read(self, *data: bytes | errors.ServerError) -> tuple[str, ...]:
        nodes = [each if isinstance(each, errors.ServerError) else (each, STAT) for each in data]
        paths: tuple[str, ...] = self.answer("read", nodes)
        return paths

    def refuse(self, index: int, error: errors.ServerError) -> Any:
        """Refuse the oldest transaction at that operation."""
        return self.answer("commit", None, errors.TransactionFailed(index, error))


class ScriptedTransaction:
    def __init__(self, client: ScriptedClient) -> None:
        self._client = client
        self._operations: list[tuple[str, str]] = []

    def create(self, path: str, _data: bytes) -> None:
        self._operations.append(("create", path))

    def delete(self, path: str, _version: int = -1) -> None:
        self._operations.append(("delete", path))

    def check(self, path: str, _version: int = -1) -> None:
        self._operations.append(("check", path))

    def set(self, path: str, _data: bytes, _version: int) -> None:
        self._operations.append(("set", path))

    def commit_nowait(self, done: Callable[..., None]) -> None:
        self._client.calls.append(("commit", tuple(self._operations), done))


def new_dispatcher(*tasks: str, inbox: tuple[str, ...] = (), is_alive: bool = True) -> Dispatcher:
    """A dispatcher after a takeover that found these tasks, and one worker."""
    dispatcher = Dispatcher()
    dispatcher.replace_tasks(tasks)
    dispatcher.replace_inboxes([W], 0.0)
    dispatcher.replace_assignments(W, inbox, 0.0)
    dispatcher.replace_workers([W] if is_alive else [], 0.0)
    dispatcher.set_worker_state(W, STATE)
    for listing in Listing:
        dispatcher.complete(listing)
    return dispatcher


class FakeServerClock:
    """`time` is None while the servers' time is not known."""

    def __init__(self) -> None:
        self.time: int | None = None

    def now_ms(self, _changed: Callable[[], None]) -> int | None:
        return self.time

    def estimate_ms(self) -> int:
        return self.time or 0

    def wakeup(self, due_ms: int) -> float | None:
        return None if self.time is None else (due_ms - self.time) / 1000
