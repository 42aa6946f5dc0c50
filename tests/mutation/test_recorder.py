from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mutation import reach, recorder, tree
from mutation.reach import Recorded

CODE = """\
import os

def double(number):
    if number < 0:
        return -double(-number)
    return number + number
"""
TESTS = """\
import sys
sys.path.insert(0, "src")
from herdmaster.code import double

def test_plus():
    assert double(1) == 2

def test_minus():
    assert double(-1) == -2

def test_that_does_not_end():
    import time
    double(2)
    while True:
        try:
            time.sleep(9)
        except BaseException:
            pass

def test_that_ends_the_process():
    import os
    os._exit(0 if double(0) else 3)

def test_after_them():
    assert double(2) == 4
"""
PATH = "src/herdmaster/code.py"
PLUGIN = "src/herdmaster/testing/pytest_plugin.py"  # which an installed herdmaster has


@pytest.mark.long
def test_files_are_recorded_once_although_tests_do_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    files = {PATH: CODE, "tests/test_code.py": TESTS}
    files |= dict.fromkeys(("src/herdmaster/__init__.py", "src/herdmaster/testing/__init__.py", PLUGIN), "")
    shutil.copytree(tree.ROOT / "mutation", root / "mutation")
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    (root / "conftest.py").write_text('def pytest_addoption(parser):\n    parser.addoption("--server")\n', "utf-8")
    monkeypatch.setattr(tree, "copy_to", lambda target: shutil.copytree(root, target, dirs_exist_ok=True))
    monkeypatch.setattr(tree, "ROOT", root)
    monkeypatch.setattr(tree, "BUILD", tmp_path)
    monkeypatch.setattr(reach, "FOLDER", tmp_path / "reach")
    monkeypatch.setattr(reach, "_SOURCES", tmp_path / "reach" / "sources")
    monkeypatch.setattr(recorder, "_MOST_SECONDS", 2.0)

    assert recorder.record(anew=False, processes=1) == 0
    (record,) = (each for each in reach.load()._records if not each.is_long)
    assert [test.name.partition("::")[2] for test in record.tests if not test.failed] == [
        "test_plus",
        "test_minus",
        "test_after_them",
    ]
    assert [test for test in record.tests if test.failed] == [
        Recorded(f"tests/test_code.py::test_that_{ends}", 2.0, is_long=False, failed=True)
        for ends in ("does_not_end", "ends_the_process")
    ]
    reaching = [test.name.partition("::")[2] for test in record.reaching(PATH, CODE, [5])]
    assert reaching == ["test_minus"]
    assert recorder._changed() == []
    assert recorder.record(anew=False, processes=1, seconds=0.0) == 0
