"""What a master that may stand in does first and what second: it is told of every change that its look may miss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from herdmaster.core import layout
from herdmaster.core.members import MasterRecord, encode_record
from herdmaster.roles.primary.stand_in import StandIn
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import EventType, SessionState, Stat, WatchEvent

MINE, OTHER = (layout.master_record_path(name) for name in ("master-mine", "master-other"))
OURS = encode_record(MasterRecord("master-x", "host", 1, 0))
REFERENCE = b"1a2b3c4d"
SESSION = 7


class ScriptedClient:
    """A tree that changes at a given call, and tells those whose watch was armed before."""

    session_id = SESSION
    state = SessionState.CONNECTED

    def __init__(self) -> None:
        self.nodes = {MINE: (b"", SESSION, 10)}  # path: data, owner, czxid
        self.watchers: list[tuple[str, Callable[[WatchEvent], None]]] = []
        self.after: dict[tuple[str, str], Callable[[], None]] = {}  # a call: what happens once, when it is answered
        self.calls: list[tuple[str, str]] = []

    def put(self, path: str, data: bytes, owner: int = 99, czxid: int = 20) -> None:
        self.nodes[path] = data, owner, czxid
        self._tell(path, EventType.CREATED)

    def delete(self, path: str) -> None:
        del self.nodes[path]
        self._tell(path, EventType.DELETED)

    def _tell(self, path: str, kind: EventType) -> None:
        told = [each for each in self.watchers if each[0] in (path, layout.MASTERS) and path.startswith(each[0])]
        self.watchers = [each for each in self.watchers if each not in told]
        for _, watcher in told:
            watcher(WatchEvent(kind, path))

    def _answered(self, call: str, path: str) -> None:
        self.calls.append((call, path))
        self.after.pop((call, path), lambda: None)()

    def _stat(self, path: str) -> Stat | None:
        if path not in self.nodes:
            return None
        _, owner, czxid = self.nodes[path]
        return Stat(czxid, czxid, 0, 0, 0, 0, 0, owner, 0, 0, czxid)

    async def get(self, path: str) -> tuple[bytes, Stat]:
        data, stat = self.nodes.get(path, (b"",))[0], self._stat(path)
        self._answered("get", path)
        if stat is None:
            raise errors.NoNode(path)
        return data, stat

    async def exists(self, path: str, watcher: Callable[[WatchEvent], None] | None = None) -> Stat | None:
        stat = self._stat(path)
        if watcher is not None:
            self.watchers.append((path, watcher))
        self._answered("exists", path)
        return stat

    async def children(self, path: str, watcher: Callable[[WatchEvent], None] | None = None) -> list[str]:
        names = [name for name in map(layout.name_of, self.nodes) if layout.master_record_path(name) in self.nodes]
        if watcher is not None:
            self.watchers.append((path, watcher))
        self._answered("children", path)
        return names

    def add_listener(self, _listener: object) -> None: ...

    def remove_listener(self, _listener: object) -> None: ...


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient()


async def wait(client: ScriptedClient, *, wanted: bool) -> None:
    stand_in = StandIn(client, MINE)  # type: ignore[arg-type]  # it has the calls that are made
    async with asyncio.timeout(1.0):  # what was missed is never told
        await stand_in.wait(wanted=wanted)


async def test_a_reference_primary_that_comes_just_after_the_look_is_not_missed(client: ScriptedClient) -> None:
    client.after["get", layout.MASTER] = lambda: client.put(layout.MASTER, REFERENCE)

    await wait(client, wanted=True)
    assert client.calls.count(("get", layout.MASTER)) == 2


async def test_an_older_master_that_goes_just_after_the_look_is_not_missed(client: ScriptedClient) -> None:
    client.put(layout.MASTER, REFERENCE)
    client.put(OTHER, b"", czxid=5)
    client.after["exists", OTHER] = lambda: client.delete(OTHER)

    await wait(client, wanted=True)


async def test_a_primary_of_ours_that_comes_just_after_the_look_ends_it(client: ScriptedClient) -> None:
    client.put(layout.MASTER, REFERENCE)

    def change() -> None:
        client.delete(layout.MASTER)
        client.put(layout.MASTER, OURS)

    client.after["get", layout.MASTER] = change
    await wait(client, wanted=False)


@pytest.mark.parametrize("armed", [("exists", layout.MASTER), ("children", layout.MASTERS)])
async def test_a_change_between_arming_and_looking_is_seen_by_the_look(
    client: ScriptedClient, armed: tuple[str, str]
) -> None:
    client.after[armed] = lambda: client.put(layout.MASTER, REFERENCE)

    await wait(client, wanted=True)
