"""Results of an `each` in a temporary file."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from herdmaster.core.each_items import EachItems
from herdmaster.core.inputs import Spooled, StepResult
from herdmaster.errors import BadOutcome
from herdmaster.running import spool
from herdmaster.running.spool import SpoolReader, SpoolWriter, remove_left_over


def test_results_come_back_in_order_and_what_is_missing_is_none() -> None:
    writer = SpoolWriter("4", EachItems(4))
    writer.write([(3, StepResult(b"30", "pickle"))])
    writer.write([(0, StepResult(b'"a"', "pickle")), (1, StepResult(b"[1]", "pickle"))])
    reader = SpoolReader("4", writer.finish())
    expected = [StepResult(b'"a"', "pickle"), StepResult(b"[1]", "pickle"), None, StepResult(b"30", "pickle")]
    assert list(reader) == expected
    assert ([reader[index] for index in range(4)], reader[-1], reader[1:3]) == (expected, expected[3], expected[1:3])
    with pytest.raises(IndexError):
        reader[4]


def test_the_items_of_chunks_are_flat() -> None:
    writer = SpoolWriter("4", EachItems(5, 2))
    writer.write([(0, StepResult(b"[1,2]")), (2, StepResult(b"[5]"))])
    reader = SpoolReader("4", writer.finish())
    assert [None if each is None else each.data for each in reader] == [b"1", b"2", None, None, b"5"]
    assert (reader[1], reader[4], reader[2], len(reader)) == (StepResult(b"2"), StepResult(b"5"), None, 5)


def test_a_chunk_without_all_its_results_is_refused() -> None:
    writer = SpoolWriter("4", EachItems(2, 2))
    writer.write([(0, StepResult(b"[1]"))])
    with pytest.raises(BadOutcome, match=r"the chunk 4\.0 has 2 items, and 1 results"):
        list(SpoolReader("4", writer.finish()))


def test_the_file_is_deleted_with_its_writer_and_can_be_read_on() -> None:
    writer = SpoolWriter("4", EachItems(1))
    writer.write([(0, StepResult(b"1"))])
    spooled = writer.finish()
    path = Path(spooled.path)
    assert path.stat().st_mode & 0o777 == 0o600
    reader = SpoolReader("4", spooled)
    del writer
    gc.collect()
    assert not path.exists()
    assert list(reader) == [StepResult(b"1")]
    with pytest.raises(BadOutcome, match="the results of step 4 cannot be read"):
        SpoolReader("4", spooled)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_files_of_killed_processes_are_deleted_and_those_of_living_ones_stay(folder: Path) -> None:
    def leave() -> None:
        _writer = SpoolWriter("4", EachItems(1))
        os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        leave()
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left_over = set(folder.iterdir())
    assert len(left_over) == 1
    writer = SpoolWriter("4", EachItems(1))
    writer.write([(0, StepResult(b"1"))])
    others = [folder / "other", folder / "herdmaster-results-folder"]
    others[0].touch()
    others[1].mkdir()
    remove_left_over()
    spooled = writer.finish()
    assert set(folder.iterdir()) == {Path(spooled.path), *others}
    assert list(SpoolReader("4", spooled)) == [StepResult(b"1")]


def test_a_file_that_is_deleted_before_it_is_locked_is_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tempfile.NamedTemporaryFile

    def make_slowly(**options: Any) -> Any:
        monkeypatch.setattr(tempfile, "NamedTemporaryFile", make)
        file = make(**options)
        remove_left_over()
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", make_slowly)
    writer = SpoolWriter("4", EachItems(1))
    assert [str(path) for path in folder.iterdir()] == [writer.finish().path]


def test_a_file_that_something_else_has_deleted_is_closed_quietly(folder: Path) -> None:
    writer = SpoolWriter("4", EachItems(1))
    Path(writer.finish().path).unlink()
    del writer
    gc.collect()  # a warning of an exception that cannot be raised would fail the test


def test_too_many_bytes_and_a_missing_folder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter("4", EachItems(2))
    monkeypatch.setattr(spool, "MAX_SPOOL", 3)
    with pytest.raises(BadOutcome, match="the results of step 4 have more than"):
        writer.write([(0, StepResult(b"12")), (1, StepResult(b"34"))])
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    with pytest.raises(BadOutcome, match="the results of step 4 cannot be kept in a file"):
        SpoolWriter("4", EachItems(1))


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadOutcome, match="the results of step 4 cannot be read"):
        SpoolReader("4", Spooled("/no/such/file", 1, 0, 0))
