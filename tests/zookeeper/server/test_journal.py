"""The journal's files: what survives, what is cut off, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server.blocks import read_blocks
from herdmaster.zookeeper.server.effects import NodeCreated, SessionOpened, Transaction
from herdmaster.zookeeper.server.journal import Journal
from herdmaster.zookeeper.server.journal_errors import DataDirectoryInUse, JournalCorrupt, JournalError
from herdmaster.zookeeper.server.snapshots import Snapshot, read_snapshot, snapshot_of
from herdmaster.zookeeper.server.state import State
from tests.zookeeper.server.journals import (
    FIRST,
    SECRET,
    entropy,
    fresh,
    journal_in,
    load,
    names,
    the_log,
    transaction,
    write,
)


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


@pytest.mark.long
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


def test_what_is_cut_off_is_told_with_file_offset_and_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [transaction(101)], [transaction(102)])
    path = the_log(tmp_path)
    whole = path.read_bytes()
    _, offset = [offset for offset, _ in read_blocks(path)]
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert load(tmp_path).zxid == 101
    lost, record = caplog.records
    assert lost.levelno == record.levelno == logging.WARNING
    assert "those from 0x66 to 0x66." in lost.getMessage()
    assert f"{path}, ends before them" in lost.getMessage()
    assert f"{path} ends with {len(whole) - offset} bytes at offset {offset}" in record.getMessage()
    caplog.clear()
    load(tmp_path)
    assert caplog.records == []


@pytest.mark.parametrize("is_newest", [True, False])
def test_a_damaged_header_is_refused_as_such(tmp_path: Path, is_newest: bool) -> None:
    write(tmp_path, [transaction(101)])
    path = the_log(tmp_path)
    if not is_newest:
        load(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:3] + bytes([whole[3] ^ 1]) + whole[4:])
    with pytest.raises(JournalCorrupt, match="header of this file is damaged") as raised:
        load(tmp_path)
    assert (raised.value.path, raised.value.offset) == (path, 0)


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
    with pytest.raises(JournalCorrupt, match="a newer log follows") as raised:
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


def test_a_missing_only_log_is_refused(tmp_path: Path) -> None:
    """It would be an empty tree otherwise, as after a crash right after the snapshot was written. So the log is there
    before the snapshot has its name."""
    write(tmp_path, [transaction(101)])
    path = the_log(tmp_path)
    path.unlink()
    for _ in range(2):
        with pytest.raises(JournalCorrupt, match="this log is missing") as raised:
            load(tmp_path)
        assert raised.value.path == path


@pytest.mark.parametrize("crash", ["snapshot begun", "snapshot written", "log begun", "log made"])
def test_a_first_start_that_was_cut_short_begins_again(tmp_path: Path, crash: str) -> None:
    write(tmp_path)
    (snapshot,) = tmp_path.glob("snapshot.*")
    unfinished = snapshot.with_name(snapshot.name + ".tmp")
    snapshot.rename(unfinished)
    log = the_log(tmp_path)
    if crash.startswith("snapshot"):
        log.unlink()
    if crash == "snapshot begun":
        unfinished.write_bytes(b"half")
    if crash == "log begun":
        log.write_bytes(log.read_bytes()[:5])
    journal = journal_in(tmp_path)
    assert journal.open(State(100, 1, 500), b"another")[1] == b"another"
    journal.append([transaction(501)])
    journal.close()
    assert load(tmp_path).zxid == 501
    assert not log.exists()
    assert not unfinished.exists()


def test_a_log_with_transactions_is_never_taken_for_a_first_start(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)])
    (snapshot,) = tmp_path.glob("snapshot.*")
    snapshot.rename(snapshot.with_name(snapshot.name + ".tmp"))
    with pytest.raises(JournalCorrupt, match="no snapshot"):
        load(tmp_path)
    assert the_log(tmp_path).exists()


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
        with pytest.raises(JournalError, match="no log follows the snapshot"):
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

    def test_an_older_snapshot_does_not_serve_where_the_logs_end_before_the_damaged_one(self, tmp_path: Path) -> None:
        journal, snapshot = self.archived(tmp_path)
        journal.archive(snapshot)
        journal.close()
        newest = max(tmp_path.glob("snapshot.*"))
        for log in tmp_path.glob("log.*"):
            log.unlink()
        older = tmp_path / "older"
        write(older, [transaction(101)])
        for path in older.iterdir():
            path.rename(tmp_path / path.name)
        newest.write_bytes(newest.read_bytes()[:-1])
        torn = the_log(tmp_path)
        torn.write_bytes(torn.read_bytes() + b"torn")
        older.rmdir()
        files = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(JournalCorrupt) as raised:
            load(tmp_path)
        assert raised.value.path == newest
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files

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
