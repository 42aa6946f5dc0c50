"""Whatever a busy server did: its snapshots and logs give it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL
from herdmaster.zookeeper.server.journal import Journal
from herdmaster.zookeeper.server.snapshots import Snapshot, snapshot_of
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request
from herdmaster.zookeeper.wire.multi import Multi
from tests.zookeeper.server.journals import FIRST, SECRET, entropy, load, shape
from tests.zookeeper.server.rig import Peer, Rig

NAMES = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/z"])
ACLS = st.sampled_from([OPEN_ACL, READ_ONLY_ACL])
DATA = st.one_of(st.none(), st.binary(max_size=4))
OPERATIONS = st.one_of(
    st.builds(records.Create2, NAMES, DATA, ACLS, st.sampled_from([0, 1, 2, 3])),
    st.builds(records.CreateContainer, NAMES, DATA, st.just(OPEN_ACL), st.just(4)),
    st.builds(records.CreateTtl, NAMES, DATA, st.just(OPEN_ACL), st.sampled_from([5, 6]), st.just(10_000)),
    st.builds(records.Delete, NAMES, st.just(-1)),
    st.builds(records.SetData, NAMES, DATA, st.sampled_from([-1, 1])),
)
WRITES = st.one_of(OPERATIONS, st.builds(records.SetAcl, NAMES, ACLS, st.just(-1)))
MULTIS = st.builds(Multi, st.lists(OPERATIONS, max_size=4).map(tuple))
STEPS = st.one_of(
    WRITES,
    MULTIS,
    st.sampled_from(
        ["open session", "close session", "expire", "sweep", "append", "restart", "snapshot", "snapshot", "archive"]
    ),
)


class Life:
    """A server's life: a machine, its journal, and a few clients."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entropy = entropy()
        self._clients: list[Peer] = []
        self._unfinished: Snapshot | None = None
        self.begin()

    def begin(self) -> None:
        self._journal = Journal(self._folder, self._entropy, 1 << 20)
        state, secret = self._journal.open(State(100, 1, FIRST), SECRET if not self._clients else b"another")
        assert secret == SECRET
        self.rig = Rig(state=state, recording=True)
        self._clients = [self.rig.client()]
        self._unfinished = None

    def end(self) -> None:
        self._journal.append(self.rig.machine.take_recorded())
        self._journal.close()

    def do(self, step: object) -> None:
        if isinstance(step, records.Request):
            self._clients[-1].send(encode_request(1, step))
        elif step == "open session":
            self._clients.append(self.rig.client())
        elif step == "close session" and len(self._clients) > 1:
            self._clients.pop(0).request(records.CloseSession())
        elif step == "expire" and len(self._clients) > 1:
            self.rig.machine.expire_session(self._clients.pop(0).session_id, self.rig.now)
            self.rig.settle()
        elif step == "sweep":
            self.rig.advance(61_000)
            self._clients = [self.rig.client()]
        elif step == "append":
            self._journal.append(self.rig.machine.take_recorded())
        elif step == "snapshot" and self._unfinished is None:
            self._journal.append_and_rotate(self.rig.machine.take_recorded(), self.rig.state.zxid)
            self._unfinished = snapshot_of(self.rig.state, SECRET)
        elif step == "archive" and self._unfinished is not None:
            self._journal.archive(self._unfinished)
            self._unfinished = None
        elif step == "restart":
            before = self.rig.state
            self.end()
            self.begin_like(before)

    def begin_like(self, before: State) -> None:
        expected = shape(before)
        assert shape(load(self._folder)) == expected
        self.begin()


@pytest.mark.long
@settings(max_examples=80)
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_snapshot_and_replay_give_the_live_tree(tmp_path_factory: pytest.TempPathFactory, steps: list[object]) -> None:
    """Whatever is done, and wherever snapshots and restarts fall in between."""
    folder = tmp_path_factory.mktemp("journal")
    life = Life(folder)
    for step in steps:
        life.do(step)
    life.end()
    assert shape(load(folder)) == shape(life.rig.state)
