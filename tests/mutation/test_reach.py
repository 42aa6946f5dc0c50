from __future__ import annotations

from pathlib import Path

import pytest

from mutation import reach
from mutation.reach import FileRecord, Reach, Recorded

MODULE = "src/herdmaster/core/names.py"
SOURCE = "import os\n\n\ndef f(x):\n    if x:\n        return 1\n    return 2\n"
TESTS = "tests/far/test_far.py"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileRecord:
    monkeypatch.setattr(reach, "FOLDER", tmp_path)
    monkeypatch.setattr(reach, "_SOURCES", tmp_path / "sources")
    tests = [Recorded(f"{TESTS}::test_{name}", 0.1, is_long=False) for name in ("one", "two", "both")]
    masks = {1: 0b101, 2: 0b110}  # the blocks of line 6 and of line 7
    return FileRecord(TESTS, False, "digest", tests, {MODULE: reach.keep_source(SOURCE)}, {MODULE: masks})


def names_reaching(source: str, *lines: int) -> list[str]:
    found = reach.load().reaching(MODULE, source, lines)
    return [test.name.rpartition("_")[2] for test in found if test.path == TESTS]


def test_a_record_that_was_kept_says_which_tests_reach_a_line(record: FileRecord) -> None:
    reach.keep(record)

    assert names_reaching(SOURCE, 6) == ["one", "both"]
    assert names_reaching(SOURCE, 7) == ["two", "both"]
    assert names_reaching(SOURCE, 5) == ["one", "two", "both"]
    assert names_reaching(SOURCE, 1) == []
    assert reach.known(TESTS, is_long=False) == "digest"
    assert reach.known(TESTS, is_long=True) is None


def test_lines_are_found_by_their_text_where_the_source_has_changed(record: FileRecord) -> None:
    reach.keep(record)
    changed = "import sys\n" + SOURCE.replace("return 2", "return 3")

    assert names_reaching(changed, 7) == ["one", "both"]
    assert names_reaching(changed, 8) == []


def test_the_modules_own_tests_are_always_among_them(record: FileRecord) -> None:
    found = Reach([record]).reaching(MODULE, SOURCE, [6])

    assert "tests/core/test_names.py" in {test.name for test in found}
    assert record.tests[0] in found
    assert [test.path for test in Reach([record]).near("src/herdmaster/far/a.py")] == [TESTS] * 3
