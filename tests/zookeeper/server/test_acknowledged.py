"""A log that was emptied or taken away is noticed; what a crash leaves behind is no alarm."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from herdmaster.zookeeper.server import log_files
from herdmaster.zookeeper.server.acknowledged import Acknowledged, End
from herdmaster.zookeeper.server.journal import Journal
from herdmaster.zookeeper.server.snapshots import snapshot_of
from tests.zookeeper.server.journals import SECRET, entropy, fresh, journal_in, load, the_log, transaction, write


def empty(log: Path) -> None:
    log.write_bytes(b"")


def cut_to_its_header(log: Path) -> None:
    log.write_bytes(log.read_bytes()[:28])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


@pytest.mark.parametrize(
    ("spoil", "fault"), [(empty, "is empty"), (Path.unlink, "is missing"), (cut_to_its_header, "ends before them")]
)
def test_a_newest_log_that_lost_transactions_is_told_with_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], fault: str
) -> None:
    write(tmp_path, [transaction(101)], [transaction(102)])
    write(tmp_path, [transaction(103)], [transaction(104), transaction(105)])
    log = the_log(tmp_path)
    assert warnings(caplog) == []
    spoil(log)
    assert load(tmp_path).zxid == 102
    (told,) = warnings(caplog)
    assert "those from 0x67 to 0x69." in told
    assert f"{log}, {fault}." in told
    assert load(tmp_path).zxid == 102
    assert warnings(caplog) == [], "it is told once"


def test_an_only_log_that_was_emptied_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [transaction(101)])
    empty(the_log(tmp_path))
    assert load(tmp_path).zxid == 100
    (told,) = warnings(caplog)
    assert "those from 0x65 to 0x65." in told


def test_a_directory_that_lost_all_its_logs_and_snapshots_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, [transaction(101)])
    for path in (*tmp_path.glob("log.*"), *tmp_path.glob("snapshot.*")):
        path.unlink()
    assert load(tmp_path).zxid == 100
    (told,) = warnings(caplog)
    assert "those from 0x65 to 0x65." in told
    assert "is missing" in told


def test_an_older_log_that_was_emptied_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [transaction(101)])
    first = the_log(tmp_path)
    write(tmp_path, [transaction(102)])
    empty(first)
    with pytest.raises(Exception, match="the header of this file is damaged or not whole"):
        load(tmp_path)


# --- no alarm -------------------------------------------------------------------------------------------


def test_starts_and_stops_are_no_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for zxid in range(101, 105):
        load(tmp_path)
        write(tmp_path, [transaction(zxid)])
    assert load(tmp_path).zxid == 104
    assert warnings(caplog) == []


def write_over_a_snapshot(folder: Path) -> None:
    state = fresh()
    journal = Journal(folder, entropy(), 1)
    journal.open(state, SECRET)
    for zxid in (101, 102):
        journal.append([transaction(zxid)])
        state.replay(transaction(zxid))
    assert journal.append_and_rotate([], 102)
    journal.archive(snapshot_of(state, SECRET))
    journal.append([transaction(103)])
    journal.close()


def test_a_kill_at_any_moment_is_no_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the system is asked for: a copy of the folder from just before it starts without a word."""
    folder, copies = tmp_path / "data", tmp_path / "copies"
    moments = 0

    def seen(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal moments
            moments += 1
            if folder.exists():
                monkeypatch.undo()
                shutil.copytree(folder, copies / str(moments))
                watch()
            return real(*arguments, **named)

        return call

    def watch() -> None:
        for name in ("open", "write", "fsync", "pwrite", "replace", "unlink"):
            monkeypatch.setattr(os, name, seen(getattr(os, name)))

    copies.mkdir()
    watch()
    write_over_a_snapshot(folder)
    monkeypatch.undo()
    warnings(caplog)
    kept = sorted(copies.iterdir(), key=lambda path: int(path.name))
    assert len(kept) > 20
    for copy in kept:
        load(copy)
        assert [told for told in warnings(caplog) if "missing" in told] == [], copy.name


def test_a_directory_of_a_version_without_that_file_is_no_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, [transaction(101)])
    (tmp_path / "acknowledged").unlink()
    empty(the_log(tmp_path))
    assert load(tmp_path).zxid == 100
    assert warnings(caplog) == []


@pytest.mark.parametrize("content", [b"", b"HERDACK1", b"x" * 28, b"HERDACK1" + b"\0\0\0\0\0\0\0\x01" * 2 + b"oops"])
def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "acknowledged").write_bytes(content)
    acknowledged = Acknowledged(tmp_path)
    acknowledged.open()
    assert acknowledged.read() is None
    acknowledged.write(End(101, 105))
    assert acknowledged.read() == End(101, 105)
    acknowledged.close()


# --- no descriptors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_where_no_log_can_be_opened_the_old_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    journal = journal_in(tmp_path)
    state = fresh()
    journal.open(state, SECRET)
    old = the_log(tmp_path)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as without:
        without.setattr(os, "open", refuse)
        assert not journal.append_and_rotate([transaction(101)], 101)
    (told,) = warnings(caplog)
    assert old.name in told
    assert os.strerror(number) in told
    journal.append([transaction(102)])
    assert the_log(tmp_path) == old
    assert journal.append_and_rotate([transaction(103)], 103)
    for zxid in (101, 102, 103):
        state.replay(transaction(zxid))
    with monkeypatch.context() as without:
        without.setattr(os, "open", refuse)
        without.setattr(Path, "touch", refuse)
        journal.archive(snapshot_of(state, SECRET))
    assert old.exists(), "no snapshot has replaced it"
    journal.append([transaction(104)])
    journal.close()
    assert load(tmp_path).zxid == 104


def test_only_a_lack_of_descriptors_says_nothing_about_the_disk() -> None:
    assert log_files.is_out_of_descriptors(OSError(errno.EMFILE, ""))
    assert not log_files.is_out_of_descriptors(OSError(errno.EIO, ""))
    assert not log_files.is_out_of_descriptors(OSError(errno.ENOSPC, ""))
