"""A drain that an operator requests: what is handed back, and what the worker's znode says, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from herdmaster.core.members import DRAINED, DRAINING, READY, MasterRecord, WorkerRecord, encode_record
from herdmaster.roles.worker import requested_drain
from herdmaster.roles.worker.own_znode import OwnZnode
from herdmaster.roles.worker.requested_drain import RequestedDrain
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import SessionState, Stat

OURS = encode_record(MasterRecord("master-x", "host", 1, 0))
STAT = Stat(*(0,) * 11)


class Client:
    """`/master` has this data."""

    def __init__(self) -> None:
        self.master: bytes | None = OURS

    async def get(self, _path: str) -> tuple[bytes, Stat]:
        if self.master is None:
            raise errors.NoNode("master")
        return self.master, STAT


class Session:
    def __init__(self) -> None:
        self.is_empty = False
        self._may_start = True
        self.handed_back = self.looks = 0

    def set_starting(self, *, may_start: bool) -> None:
        self._may_start = may_start

    def starts(self) -> bool:
        return self._may_start

    def hand_back(self) -> None:
        self.handed_back += 1

    def look_again(self) -> None:
        self.looks += 1


class Own:
    """The worker's znode. `writes`: whether its next writes succeed."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.writes = True

    async def write(self, data: bytes) -> Stat | None:
        if not self.writes:
            return None
        self.written.append(data)
        return STAT


class Rig:
    def __init__(self) -> None:
        self.client, self.session, self.own = Client(), Session(), Own()
        self.changed = asyncio.Event()
        self.is_over = False
        parts: Any = (self.client, self.session, self.own)
        self.drain = RequestedDrain(*parts, record_of=str.encode, changed=self.changed, is_over=lambda: self.is_over)
        self.task = asyncio.create_task(self.drain.run())

    async def turn(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(requested_drain, "_INTERVAL", 3600.0)
    rig = Rig()
    await rig.turn()
    yield rig
    rig.task.cancel()
    await asyncio.wait([rig.task])
    assert rig.task.cancelled()


async def test_nothing_happens_before_a_drain_is_wanted(rig: Rig) -> None:
    assert (rig.drain.state, rig.session.handed_back, rig.own.written) == (READY, 0, [])
    assert rig.session.starts()


async def test_under_our_primary_what_waits_is_handed_back_and_nothing_is_started(rig: Rig) -> None:
    rig.drain.set_wanted(is_wanted=True)
    assert rig.drain.state == DRAINING
    assert rig.changed.is_set()
    await rig.turn()

    assert not rig.session.starts()
    assert (rig.session.handed_back, rig.session.looks) == (1, 1)
    assert rig.own.written == [DRAINING.encode()]


@pytest.mark.parametrize("master", [b"1a2b3c4d", None], ids=["a reference primary", "no primary"])
async def test_under_any_other_primary_the_worker_runs_its_inbox_empty(rig: Rig, master: bytes | None) -> None:
    rig.client.master = master
    rig.drain.set_wanted(is_wanted=True)
    await rig.turn()

    assert rig.session.starts()
    assert (rig.session.handed_back, rig.session.looks) == (0, 1)
    assert rig.own.written == [DRAINING.encode()]


async def test_the_znode_says_once_that_it_is_empty_and_again_if_it_is_not(rig: Rig) -> None:
    rig.drain.set_wanted(is_wanted=True)
    await rig.turn()
    for is_empty in (False, True, True, False):
        rig.session.is_empty = is_empty
        rig.changed.set()
        await rig.turn()

    assert rig.own.written == [state.encode() for state in (DRAINING, DRAINED, DRAINING)]
    assert rig.session.handed_back == 5


async def test_a_write_that_fails_is_repeated(rig: Rig) -> None:
    rig.own.writes = False
    rig.drain.set_wanted(is_wanted=True)
    await rig.turn()
    rig.own.writes = True
    rig.changed.set()
    await rig.turn()

    assert rig.own.written == [DRAINING.encode()]


async def test_without_a_change_it_looks_again_after_a_while(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requested_drain, "_INTERVAL", 0.001)
    rig.drain.set_wanted(is_wanted=True)
    async with asyncio.timeout(10):
        while rig.session.handed_back < 3:
            await asyncio.sleep(0.001)


async def test_a_drain_that_is_taken_back_lets_tasks_start_again(rig: Rig) -> None:
    rig.drain.set_wanted(is_wanted=True)
    await rig.turn()
    rig.drain.set_wanted(is_wanted=False)
    assert rig.drain.state == READY
    await rig.turn()
    assert rig.session.starts()
    assert rig.own.written == [DRAINING.encode()]

    rig.drain.set_wanted(is_wanted=True)
    await rig.turn()
    assert not rig.session.starts()
    assert rig.own.written == [DRAINING.encode()] * 2, "what stands there by now is not known"


async def test_a_drain_that_is_taken_back_while_it_asks_for_the_primary_hands_nothing_back(rig: Rig) -> None:
    rig.drain.set_wanted(is_wanted=True)
    rig.drain.set_wanted(is_wanted=False)
    await rig.drain._hand_back()

    assert (rig.session.handed_back, rig.session.looks) == (0, 0)
    assert rig.drain.state == READY


async def test_the_end_of_the_worker_ends_the_drain_and_starts_nothing(rig: Rig) -> None:
    rig.drain.set_wanted(is_wanted=True)
    await rig.turn()
    looks = rig.session.looks
    rig.is_over = True
    rig.changed.set()
    await rig.turn()
    rig.changed.set()
    await rig.turn()

    assert rig.session.looks == looks
    assert not rig.session.starts()
    assert not rig.task.done()


# --- the worker's own znode ------------------------------------------------------------------------------------------


class ZnodeClient:
    """One znode. `raises` is raised by the next `set`."""

    session_id = 7
    state = SessionState.CONNECTED

    def __init__(self, request: str | None = None, owner: int = 7, version: int = 3) -> None:
        self.data = encode_record(WorkerRecord(1, request=request or ""))
        self.owner, self.version = owner, version
        self.raises: Exception | None = None
        self.sets: list[int] = []

    async def get(self, _path: str, _watcher: object) -> tuple[bytes, Stat]:
        return self.data, Stat(0, 0, 0, 0, self.version, 0, 0, self.owner, 0, 0, 0)

    async def set(self, _path: str, _data: bytes, version: int) -> Stat:
        self.sets.append(version)
        if self.raises is not None:
            raise self.raises
        self.version += 1
        return Stat(0, 0, 0, 0, self.version, 0, 0, self.owner, 0, 0, 0)


def own_znode(client: ZnodeClient) -> OwnZnode:
    given: Any = client
    return OwnZnode(given, "worker-w")


async def test_a_znode_of_another_session_is_not_this_workers() -> None:
    assert await own_znode(ZnodeClient("drain", owner=8)).wait_request("") is None
    assert await own_znode(ZnodeClient("drain")).wait_request("") == "drain"


async def test_a_write_names_the_version_that_was_read_or_written_last() -> None:
    client = ZnodeClient("drain")
    own = own_znode(client)
    await own.wait_request("")
    assert await own.write(b"")
    assert await own.write(b"")

    assert client.sets == [3, 4]


@pytest.mark.parametrize("error", [errors.BadVersion("x"), errors.NoNode("x"), errors.ConnectionLoss()])
async def test_a_write_that_may_not_have_been_made_is_left_to_the_next_look(error: Exception) -> None:
    client = ZnodeClient()
    client.raises = error
    own = own_znode(client)

    assert await own.write(b"") is None
    assert await own.write(b"") is None
    assert client.sets == [0, 0]
