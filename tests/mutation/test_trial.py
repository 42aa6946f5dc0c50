import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutation import tree, trial
from mutation.leftovers import end_marked
from mutation.reach import Recorded, matching_lines
from mutation.trial import Ending, Limits, Trial, in_stages

MODULE = "src/herdmaster/core/names.py"


def names(stages: list[list[Recorded]]) -> list[list[str]]:
    return [[test.name for test in stage] for stage in stages]


def test_near_tests_run_first_then_other_fast_ones_then_long_ones() -> None:
    tests = [
        Recorded("tests/api/test_a.py::test_far", 0.1, is_long=False),
        Recorded("tests/core/test_names.py::test_slow", 0.5, is_long=False),
        Recorded("tests/core/test_paths.py::test_quick", 0.1, is_long=False),
        Recorded("tests/core/test_names.py::test_long", 2.0, is_long=True),
        Recorded("tests/core/test_names.py::test_quick", 0.2, is_long=False),
    ]

    assert names(list(in_stages(tests, MODULE, Limits()))) == [
        [
            "tests/core/test_names.py::test_quick",
            "tests/core/test_names.py::test_slow",
            "tests/core/test_paths.py::test_quick",
        ],
        ["tests/api/test_a.py::test_far"],
        ["tests/core/test_names.py::test_long"],
    ]


def test_what_takes_longer_than_the_limit_is_left_out() -> None:
    tests = [Recorded(f"tests/core/test_names.py::test_{number}", 1.0, is_long=False) for number in range(9)]

    (stage,) = in_stages(tests, MODULE, Limits(fast=3.0))

    assert len(stage) == 3


def test_a_mutant_that_no_test_reaches_survives(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n", "utf-8")

    assert Trial(tmp_path).judge("a.py", "x = 2\n", [], Limits()) == Ending("survived", "", 0)
    assert (tmp_path / "a.py").read_text("utf-8") == "x = 1\n"


def test_the_copy_is_as_it_was_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n", "utf-8")

    class Interrupted:
        def __iter__(self) -> Iterator[list[Recorded]]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trial(tmp_path).judge("a.py", "x = 2\n", Interrupted(), Limits())

    assert (tmp_path / "a.py").read_text("utf-8") == "x = 1\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A tree with one module, `x = 1`, and what pytest needs for the tests that a test writes."""
    copy = tmp_path / "tree"
    shutil.copytree(tree.ROOT / "mutation", copy / "mutation")
    (copy / "a.py").write_text("x = 1\n", "utf-8")
    (copy / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--server')\n", "utf-8")
    return copy


def judge(copy: Path, test: str, name: str = "test_x") -> Ending:
    """Return what becomes of `x = 2` if this is the test."""
    (copy / "test_a.py").write_text(f"import pathlib, pytest, time\nfrom a import x\n{test}", "utf-8")
    recorded = Recorded(f"test_a.py::{name}", 0.1, is_long=False)
    return Trial(copy).judge("a.py", "x = 2\n", [[recorded]], Limits())


@pytest.mark.long
def test_a_test_whose_name_looks_like_its_message_kills_too(copy: Path) -> None:
    test = '@pytest.mark.parametrize("y", ["a - at b"])\ndef test_x(y):\n    assert x == 1\n'

    assert judge(copy, test, "test_x[a - at b]") == Ending("killed", "test_a.py::test_x[a - at b]", 1)


@pytest.mark.long
def test_a_test_that_never_ends_counts_apart(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_START", 4.0)

    test = "def test_x():\n    while x == 2:\n        time.sleep(0.01)\n"

    assert judge(copy, test) == Ending("timeout", "test_a.py::test_x", 1)


@pytest.mark.long
@pytest.mark.parametrize(
    "test",
    [
        pytest.param("def test_x():\n    assert False\n", id="it fails without the mutant"),
        pytest.param(
            'once = pathlib.Path("once")\ndef test_x():\n    if not once.exists():\n        once.touch()\n'
            "        time.sleep(9)\n",
            id="it was late once",
        ),
        pytest.param("", id="there is no such test any more"),
    ],
)
def test_a_test_that_fails_for_another_reason_kills_nothing(
    copy: Path, monkeypatch: pytest.MonkeyPatch, test: str
) -> None:
    monkeypatch.setattr(trial, "_START", 4.0)

    assert judge(copy, test) == Ending("survived", "", 1)


@pytest.mark.long
def test_a_mutant_that_cannot_be_imported_is_killed(copy: Path) -> None:
    (copy / "test_a.py").write_text("from a import x\ndef test_x(): pass\n", "utf-8")

    ending = Trial(copy).judge("a.py", "y = 1\n", [[Recorded("test_a.py::test_x", 0.1, is_long=False)]], Limits())

    assert ending.state == "killed"


def test_a_file_of_tests_that_was_deleted_kills_nothing(copy: Path) -> None:
    stages = [[Recorded("test_gone.py::test_x", 0.1, is_long=False)]]

    assert Trial(copy).judge("a.py", "x = 2\n", stages, Limits()) == Ending("survived", "", 1)


def test_all_that_has_the_mark_is_killed_and_nothing_else() -> None:
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with (
        subprocess.Popen(command, env={**os.environ, "HERD_MUTATION_TRIAL": "m1"}, stdout=subprocess.PIPE) as marked,
        subprocess.Popen(command, env={**os.environ, "HERD_MUTATION_TRIAL": "m2"}, stdout=subprocess.PIPE) as other,
    ):
        try:
            for process in (marked, other):
                assert process.stdout is not None
                process.stdout.readline()
            end_marked("m1")
            assert marked.wait(10) < 0
            assert other.poll() is None
        finally:
            marked.kill()
            other.kill()


def test_lines_are_found_where_they_stood_before() -> None:
    assert matching_lines("a\nb\nc\n", "a\nx\nb\nc\n") == {1: 1, 3: 2, 4: 3}
