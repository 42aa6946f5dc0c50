"""The journal's files: what survives, what is cut off, and what is refused."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL
from herdmaster.zookeeper.server.blocks import Fault, block, header, read_blocks, seed_of
from herdmaster.zookeeper.server.effects import NodeCreated, SessionOpened, Transaction
from herdmaster.zookeeper.server.journal import DataDirectoryInUse, Journal, JournalCorrupt, JournalError
from herdmaster.zookeeper.server.snapshots import Snapshot, read_snapshot, snapshot_of
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request
from herdmaster.zookeeper.wire.multi import Multi
from tests.zookeeper.server.rig import Peer, Rig

SECRET = b"s" * 32
FIRST = 100


def entropy() -> Callable[[int], bytes]:
    """Bytes that are never the same twice, and the same in every run."""
    counter = itertools.count()
    return lambda length: hashlib.sha256(str(next(counter)).encode()).digest()[:length]


def journal_in(folder: Path) -> Journal:
    return Journal(folder, entropy(), 1 << 20)


def fresh() -> State:
    return State(100, 1, FIRST)


def transaction(zxid: int, data: bytes = b"data") -> Transaction:
    return Transaction(zxid, 1000 + zxid, (NodeCreated(f"/n{zxid}", data, OPEN_ACL),))


def write(folder: Path, *batches: list[Transaction]) -> None:
    journal = journal_in(folder)
    journal.open(fresh(), SECRET)
    for batch in batches:
        journal.append(batch)
    journal.close()


def load(folder: Path) -> State:
    journal = journal_in(folder)
    try:
        return journal.open(fresh(), b"another secret")[0]
    finally:
        journal.close()


def names(state: State) -> list[str]:
    return [path for path, _ in state.tree.items() if path.startswith("/n")]


def the_log(folder: Path) -> Path:
    """The newest log."""
    return max(folder.glob("log.*"))


def shape(state: State) -> tuple[object, ...]:
    """Everything that a restart has to bring back."""
    snapshot = snapshot_of(state, b"")
    return snapshot.heading.zxid, snapshot.heading.sessions, snapshot.nodes


class TestBlocks:
    def write(self, path: Path, *payloads: bytes, salt: bytes = b"0123456789abcdef") -> list[int]:
        head = header(salt)
        data = head
        offsets = []
        for payload in payloads:
            offsets.append(len(data))
            data += block(payload, seed_of(head))
        path.write_bytes(data)
        return offsets

    def test_payloads_come_back_with_their_offsets(self, tmp_path: Path) -> None:
        offsets = self.write(tmp_path / "f", b"one", b"", b"three")
        assert list(read_blocks(tmp_path / "f")) == list(zip(offsets, [b"one", b"", b"three"], strict=True))

    def test_a_file_cut_anywhere_is_a_torn_tail(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        first, second = self.write(path, b"one", b"a longer second one")
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            blocks = read_blocks(path)
            if size >= second:
                assert next(blocks) == (first, b"one")
            if size in (first, second):
                assert list(blocks) == []
                continue
            with pytest.raises(Fault) as raised:
                next(blocks)
            assert raised.value.is_tail

    def test_a_change_of_any_byte_before_the_last_block_is_damage(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        _, second, last = self.write(path, b"one", b"two", b"three")
        whole = path.read_bytes()
        for at in range(last):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
            with pytest.raises(Fault) as raised:
                list(read_blocks(path))
            assert not raised.value.is_tail
            head = len(header(b"0" * 16))
            assert raised.value.offset == (0 if at < head else head if at < second else second)

    def test_a_block_of_another_file_inside_a_torn_one_is_not_taken_for_a_block(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        self.write(other, b"x" * 50, salt=b"another salt....")
        path = tmp_path / "f"
        self.write(path, b"one", other.read_bytes() + b"tail")
        path.write_bytes(path.read_bytes()[:-2])
        with pytest.raises(Fault) as raised:
            list(read_blocks(path))
        assert raised.value.is_tail


def test_an_empty_directory_begins_with_what_is_given(tmp_path: Path) -> None:
    journal = journal_in(tmp_path / "new" / "deep")
    state, secret = journal.open(fresh(), SECRET)
    journal.close()
    assert (state.zxid, secret) == (FIRST, SECRET)


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101), transaction(102)], [Transaction(103, 0), transaction(104)])
    state = load(tmp_path)
    assert names(state) == ["/n101", "/n102", "/n104"]
    assert state.zxid == 104


def test_the_secret_is_the_first_ones(tmp_path: Path) -> None:
    write(tmp_path)
    journal = journal_in(tmp_path)
    assert journal.open(fresh(), b"another")[1] == SECRET
    journal.close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder, [transaction(101)])
    assert folder.stat().st_mode & 0o77 == 0
    assert {path.stat().st_mode & 0o77 for path in folder.iterdir()} == {0}


def test_many_restarts_add_up(tmp_path: Path) -> None:
    for zxid in range(101, 111):
        journal = journal_in(tmp_path)
        journal.open(fresh(), SECRET)
        journal.append([transaction(zxid)])
        journal.close()
    assert len(names(load(tmp_path))) == 10
    for _ in range(3):
        assert load(tmp_path).zxid == 110


def test_a_torn_last_record_is_cut_off_wherever_it_tears(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)], [transaction(102), transaction(103)])
    path = the_log(tmp_path)
    whole = path.read_bytes()
    offsets = [offset for offset, _ in read_blocks(path)]
    for size in range(offsets[1], len(whole)):
        path.write_bytes(whole[:size])
        state = load(tmp_path)
        assert state.zxid == 101
        assert names(state) == ["/n101"]
        # What was cut stays cut, and the next transaction follows what is left.
        journal = journal_in(tmp_path)
        journal.open(fresh(), SECRET)
        journal.append([transaction(102, b"other")])
        journal.close()
        assert load(tmp_path).zxid == 102
        for log in tmp_path.glob("log.*"):
            log.unlink()


@pytest.mark.parametrize("tail", [b"\0" * 5000, entropy()(32) * 100], ids=["zeros", "noise"])
def test_a_torn_record_of_anything_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    write(tmp_path, [transaction(101)])
    path = the_log(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert load(tmp_path).zxid == 101
    assert path.read_bytes() == whole


def test_damage_in_the_middle_is_refused_with_file_and_offset_and_nothing_is_changed(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)], [transaction(102)], [transaction(103)])
    path = the_log(tmp_path)
    whole = path.read_bytes()
    offsets = [offset for offset, _ in read_blocks(path)]
    for at in range(offsets[1], offsets[2]):
        damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        path.write_bytes(damaged)
        with pytest.raises(JournalCorrupt) as raised:
            load(tmp_path)
        assert (raised.value.path, raised.value.offset) == (path, offsets[1])
        assert path.name in str(raised.value)
        assert str(offsets[1]) in str(raised.value)
        assert path.read_bytes() == damaged


def test_damage_at_the_end_of_a_file_that_is_not_the_newest_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)], [transaction(102)])
    older = the_log(tmp_path)
    journal = journal_in(tmp_path)
    journal.open(fresh(), SECRET)
    journal.append([transaction(103)])
    journal.close()
    older.write_bytes(older.read_bytes()[:-1])
    with pytest.raises(JournalCorrupt) as raised:
        load(tmp_path)
    assert raised.value.path == older


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)])
    older = the_log(tmp_path)
    journal = journal_in(tmp_path)
    journal.open(fresh(), SECRET)
    journal.append([transaction(102)])
    journal.close()
    older.unlink()
    with pytest.raises(JournalCorrupt, match="0x65 to 0x65 are missing"):
        load(tmp_path)


def test_a_missing_snapshot_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)])
    for path in tmp_path.glob("snapshot.*"):
        path.unlink()
    with pytest.raises(JournalCorrupt, match="no snapshot"):
        load(tmp_path)


def test_a_damaged_snapshot_without_an_older_one_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)])
    (path,) = tmp_path.glob("snapshot.*")
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(JournalCorrupt) as raised:
            load(tmp_path)
        assert raised.value.path == path


def test_transactions_that_do_not_follow_are_refused(tmp_path: Path) -> None:
    for wrong in ([transaction(101), transaction(103)], [Transaction(101, 0, (NodeCreated("/no/x", b"", OPEN_ACL),))]):
        folder = tmp_path / str(len(wrong))
        write(folder, wrong)
        with pytest.raises(JournalCorrupt, match="does not follow"):
            load(folder)


def test_two_servers_never_share_a_directory(tmp_path: Path) -> None:
    first = journal_in(tmp_path)
    first.open(fresh(), SECRET)
    with pytest.raises(DataDirectoryInUse, match="another server"):
        load(tmp_path)
    first.append([transaction(101)])
    first.close()
    assert load(tmp_path).zxid == 101


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalError, match="cannot use the data directory"):
        load(tmp_path / "file" / "data")


def test_after_a_failed_write_nothing_is_appended_any_more(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    journal.open(fresh(), SECRET)
    journal.close()
    for _ in range(2):
        with pytest.raises(JournalError, match="cannot write"):
            journal.append([transaction(101)])


class TestSnapshots:
    def archived(self, folder: Path) -> tuple[Journal, Snapshot]:
        """A journal that has rotated at transaction 102, and the snapshot of that moment."""
        journal = journal_in(folder)
        state, secret = journal.open(fresh(), SECRET)
        for zxid in (101, 102):
            state.replay(transaction(zxid))
        journal.append([transaction(101)])
        snapshot = snapshot_of(state, secret)
        journal.append_and_rotate([transaction(102)], 102)
        return journal, snapshot

    def test_a_snapshot_replaces_what_came_before(self, tmp_path: Path) -> None:
        journal, snapshot = self.archived(tmp_path)
        journal.append([transaction(103)])
        journal.archive(snapshot)
        journal.append([transaction(104)])
        journal.close()
        assert len(list(tmp_path.glob("snapshot.*"))) == 1
        assert len(list(tmp_path.glob("log.*"))) == 1
        assert names(load(tmp_path)) == ["/n101", "/n102", "/n103", "/n104"]

    def test_a_snapshot_of_more_than_the_old_files_hold_is_never_archived(self, tmp_path: Path) -> None:
        """It would take the newest log with it."""
        journal, _ = self.archived(tmp_path)
        journal.append([transaction(103)])
        state = fresh()
        for zxid in (101, 102, 103):
            state.replay(transaction(zxid))
        with pytest.raises(JournalError, match="end at"):
            journal.append_and_rotate([], 104)
        with pytest.raises(JournalError, match="no log goes on"):
            journal.archive(snapshot_of(state, SECRET))
        journal.close()
        assert load(tmp_path).zxid == 103

    def test_a_crash_before_the_snapshot_was_written_loses_nothing(self, tmp_path: Path) -> None:
        journal, _ = self.archived(tmp_path)
        journal.append([transaction(103)])
        journal.close()
        (tmp_path / "snapshot.00000066.tmp").write_bytes(b"half")
        assert load(tmp_path).zxid == 103
        assert not list(tmp_path.glob("*.tmp"))

    def test_a_crash_before_old_files_were_removed_loses_nothing(self, tmp_path: Path) -> None:
        journal, snapshot = self.archived(tmp_path)
        journal.append([transaction(103)])
        kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
        journal.archive(snapshot)
        journal.close()
        for path, data in kept.items():
            path.write_bytes(data)
        assert names(load(tmp_path)) == ["/n101", "/n102", "/n103"]

    def test_an_older_snapshot_serves_where_the_newest_is_damaged_and_the_logs_are_there(self, tmp_path: Path) -> None:
        journal, snapshot = self.archived(tmp_path)
        journal.append([transaction(103)])
        kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
        journal.archive(snapshot)
        journal.close()
        newest = max(tmp_path.glob("snapshot.*"))
        newest.write_bytes(newest.read_bytes()[:-1])
        for path, data in kept.items():
            path.write_bytes(data)
        assert load(tmp_path).zxid == 103

    def test_a_snapshot_of_a_large_tree_is_written_in_several_blocks(self, tmp_path: Path) -> None:
        state = fresh()
        for zxid in range(101, 161):
            state.replay(transaction(zxid, b"x" * 100_000))
        journal = journal_in(tmp_path)
        journal.open(fresh(), SECRET)
        journal.append_and_rotate([transaction(zxid, b"x" * 100_000) for zxid in range(101, 161)], 160)
        journal.archive(snapshot_of(state, SECRET))
        journal.close()
        path = max(tmp_path.glob("snapshot.*"))
        assert len(list(read_blocks(path))) > 3
        assert read_snapshot(path) == snapshot_of(state, SECRET)

    def test_a_journal_is_long_from_its_limit_on_also_after_a_restart(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path, entropy(), 5_000)
        journal.open(fresh(), SECRET)
        journal.append([transaction(101, b"x" * 3_000)])
        assert not journal.is_long
        journal.close()
        journal = Journal(tmp_path, entropy(), 5_000)
        journal.open(fresh(), SECRET)
        journal.append([transaction(102, b"x" * 3_000)])
        before = journal.is_long
        journal.append_and_rotate([], 102)
        assert (before, journal.is_long) == (True, False)
        journal.close()


def test_sessions_survive_and_new_ids_go_on_above_them(tmp_path: Path) -> None:
    write(tmp_path, [Transaction(101, 0, (SessionOpened(77, 9000),))])
    state = load(tmp_path)
    session = state.sessions.find(77)
    assert session is not None
    assert (session.timeout, session.deadline) == (9000, 0)
    assert state.sessions.next_id == 78


NAMES = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/z"])
ACLS = st.sampled_from([OPEN_ACL, READ_ONLY_ACL])
DATA = st.one_of(st.none(), st.binary(max_size=4))
WRITES = st.one_of(
    st.builds(records.Create2, NAMES, DATA, ACLS, st.sampled_from([0, 1, 2, 3])),
    st.builds(records.CreateContainer, NAMES, DATA, st.just(OPEN_ACL), st.just(4)),
    st.builds(records.CreateTtl, NAMES, DATA, st.just(OPEN_ACL), st.sampled_from([5, 6]), st.just(10_000)),
    st.builds(records.Delete, NAMES, st.just(-1)),
    st.builds(records.SetData, NAMES, DATA, st.sampled_from([-1, 1])),
    st.builds(records.SetAcl, NAMES, ACLS, st.just(-1)),
)
MULTIS = st.builds(
    Multi,
    st.lists(WRITES.filter(lambda request: not isinstance(request, records.SetAcl)), max_size=4).map(tuple),
)
STEPS = st.one_of(
    WRITES,
    MULTIS,
    st.sampled_from(
        ["open session", "close session", "expire", "sweep", "append", "restart", "snapshot", "slow snapshot"]
    ),
)


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=40))
def test_snapshot_and_replay_give_the_live_tree(tmp_path_factory: pytest.TempPathFactory, steps: list[object]) -> None:
    """Whatever is done, and wherever snapshots and restarts fall in between."""
    folder = tmp_path_factory.mktemp("journal")
    random = entropy()
    journal = Journal(folder, random, 1 << 20)
    state, secret = journal.open(State(100, 1, FIRST), SECRET)
    rig = Rig(state=state, recording=True)
    clients: list[Peer] = [rig.client()]
    unfinished: Snapshot | None = None
    for step in steps:
        if isinstance(step, records.Request):
            clients[-1].send(encode_request(1, step))
        elif step == "open session":
            clients.append(rig.client())
        elif step == "close session" and len(clients) > 1:
            clients.pop(0).request(records.CloseSession())
        elif step == "expire" and len(clients) > 1:
            rig.machine.expire_session(clients.pop(0).session_id, rig.now)
            rig.settle()
        elif step == "sweep":
            rig.advance(5)
        elif step == "append":
            journal.append(rig.machine.take_recorded())
        elif step == "snapshot":
            journal.append_and_rotate(rig.machine.take_recorded(), rig.state.zxid)
            journal.archive(snapshot_of(rig.state, secret))
        elif step == "slow snapshot":
            if unfinished is None:
                journal.append_and_rotate(rig.machine.take_recorded(), rig.state.zxid)
                unfinished = snapshot_of(rig.state, secret)
            else:
                journal.archive(unfinished)
                unfinished = None
        elif step == "restart":
            journal.append(rig.machine.take_recorded())
            journal.close()
            journal = Journal(folder, random, 1 << 20)
            state, restored = journal.open(State(100, 1, FIRST), b"another")
            assert restored == secret
            assert shape(state) == shape(rig.state)
            rig = Rig(state=state, recording=True)
            clients = [rig.client()]
            unfinished = None
    journal.append(rig.machine.take_recorded())
    journal.close()
    assert shape(load(folder)) == shape(rig.state)
