"""The demo: what it counts, that it comes through its own kills, that it notices a wrong result, what it leaves."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from herdmaster.cli.demo import command
from herdmaster.cli.demo.command import FEWEST_FILES, MOST_FILES
from herdmaster.cli.demo.counting import count_plainly, count_words, find_texts
from herdmaster.cli.demo.display import Display
from herdmaster.cli.demo.plain_loop import PlainLoop
from herdmaster.cli.demo.stage import CONNECT_TIMEOUT
from herdmaster.cli.failures import Failed
from herdmaster.testing.ports import free_ports
from tests.cli.processes import REPOSITORY, HerdProcess, connect, run_herd, wait_until
from tests.pools.process_setting import is_alive

ROLES = 4
"""Beside them the plain loop may run."""


def write_texts(folder: Path, files: int = 120) -> None:
    for number in range(files):
        words = " ".join(f"{'abcdefghij'[n % 10]}{'xyz'[n % 3]}" for n in range(number, 2000 + 7 * number))
        (folder / f"text-{number:03}.txt").write_text(f"{words}\n")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    write_texts(folder)
    return folder


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_word_is_a_run_of_letters_of_the_lower_cased_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"It's 2 by 2, IT is\nx_y \xff\xc3\xa9t\xc3\xa9")
    assert count_words(str(path)) == {"it": 2, "s": 1, "by": 1, "is": 1, "x": 1, "y": 1, "t": 1}


def test_texts_are_found_by_name_and_hold_no_null_byte(tmp_path: Path) -> None:
    inside = tmp_path / "package"
    inside.mkdir()
    for name in ("copyright", "README", "README.Debian", "notes.txt", "notes.md"):
        (inside / name).write_text("text")
    for name in ("README.gz", "copyright.old", "notes.html", "txt"):
        (inside / name).write_text("text")
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    names = [Path(path).name for path in find_texts(tmp_path)]
    assert names == ["README", "README.Debian", "copyright", "notes.md", "notes.txt"]


def test_a_folder_with_few_texts_is_refused(tmp_path: Path) -> None:
    write_texts(tmp_path, FEWEST_FILES - 1)
    result = run_herd("demo", "--folder", str(tmp_path))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"{tmp_path} has {FEWEST_FILES - 1} " in line
    assert "--folder" in line


def test_without_documents_the_sources_of_the_standard_library_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "DOCUMENTATION", tmp_path / "nothing")
    texts = command.find_enough_texts(None)
    assert texts.folder == Path(os.__file__).parent
    assert FEWEST_FILES <= len(texts.files) <= MOST_FILES
    assert not any("site-packages" in file for file in texts.files)
    assert count_plainly(texts.files[:FEWEST_FILES])["import"] > FEWEST_FILES


def test_of_a_folder_that_was_not_named_not_more_is_counted_than_a_short_run_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / f"{number}.txt").touch()
    monkeypatch.setattr(command, "DOCUMENTATION", tmp_path)
    assert len(command.find_enough_texts(None).files) == MOST_FILES
    assert len(command.find_enough_texts(tmp_path).files) == MOST_FILES + 1


def test_a_malformed_connect_string_is_refused_before_anything_else_is_said(tmp_path: Path) -> None:
    result = run_herd("demo", "--zookeeper=localhost:x", "--folder", str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert "'localhost:x' is not host:port" in line


@pytest.mark.long
def test_an_ensemble_that_does_not_answer_is_given_up_after_one_connect_timeout(texts: Path) -> None:
    (port,) = free_ports(1)
    started = time.monotonic()
    result = run_herd("demo", f"--zookeeper=127.0.0.1:{port}", f"--folder={texts}")
    assert (result.returncode, result.stdout) == (1, "")
    trying, line = result.stderr.splitlines()
    assert trying.startswith(f"herd demo: still trying 127.0.0.1:{port} (")
    assert line.startswith(f"herd demo: no session with 127.0.0.1:{port} within 10 s")
    assert time.monotonic() - started < 2 * CONNECT_TIMEOUT


@pytest.mark.long
def test_the_result_is_right_although_the_primary_and_a_worker_are_killed(namespace: str, texts: Path) -> None:
    result = run_herd("demo", f"--zookeeper={namespace}", f"--folder={texts}", "--repeat=8", "--json", timeout=100)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    words = count_plainly(find_texts(texts))
    assert (report["files"], report["tasks"], report["same_as_plain_loop"]) == (120, 960, True)
    assert report["words"] == words.total() * 8
    assert [(each["word"], each["count"]) for each in report["most_frequent"]] == [
        (word, count * 8) for word, count in Counter(words).most_common(10)
    ]
    assert 0 < report["primary_killed_after"] < report["worker_killed_after"] < 960
    assert report["takeover"] > 0
    assert result.stderr.count("SIGKILL") == 2
    with connect(namespace) as client:
        assert client.get_children("/") == []


@pytest.mark.long
def test_a_wrong_result_is_noticed(namespace: str, texts: Path) -> None:
    with HerdProcess("demo", f"--zookeeper={namespace}", f"--folder={texts}", "--repeat=12") as demo:
        demo.wait_for_log("ready")
        # Another word every few milliseconds: its twelve tasks and the plain loop cannot all read the same text.
        for word in itertools.product("klmnopq", repeat=5):
            with (texts / "text-000.txt").open("a") as file:
                file.write(f"{''.join(word)}\n")
            if demo.wait_briefly(0.02) is not None:
                break
        assert demo.wait(timeout=0) == 1
        assert demo.stderr.splitlines()[-1] == "herd demo: the totals differ from those of a plain loop"
        assert "tasks per second" in demo.stdout


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_stops_what_it_started(
    number: signal.Signals, code: int, namespace: str, texts: Path
) -> None:
    with HerdProcess("demo", f"--zookeeper={namespace}", f"--folder={texts}", "--repeat=1000") as demo:
        demo.wait_for_log("ready")
        started = children(demo.pid)
        assert len(started) >= ROLES
        demo.send(number)
        assert demo.wait(timeout=100) == code
        assert "Traceback" not in demo.stderr
    assert [pid for pid in started if is_alive(pid)] == []
    with connect(namespace) as client:
        assert client.get_children("/") == []


@pytest.mark.long
def test_a_demo_that_is_killed_leaves_no_process_and_no_file(namespace: str, texts: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    arguments = ["demo", f"--zookeeper={namespace}", f"--folder={texts}", "--repeat=1000"]
    with HerdProcess(*arguments, environment={"TMPDIR": str(temporary)}) as demo:
        demo.wait_for_log("ready")
        started = children(demo.pid)
        assert list(temporary.iterdir())
        demo.kill()
        wait_until(lambda: not any(map(is_alive, started)), "some are still there")
        wait_until(lambda: not list(temporary.iterdir()), "some files are still there")


@pytest.mark.long
def test_a_demo_whose_workers_die_says_so_and_stops(namespace: str, texts: Path) -> None:
    with HerdProcess("demo", f"--zookeeper={namespace}", f"--folder={texts}", "--repeat=1000") as demo:
        demo.wait_for_log("ready")
        for pid in children(demo.pid):
            if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        assert demo.wait(timeout=100) == 1
        assert "ended by itself" in demo.stderr


@pytest.mark.long
def test_it_starts_a_zookeeper_of_its_own(texts: Path) -> None:
    result = run_herd("demo", f"--folder={texts}", "--repeat=8", timeout=100)
    assert result.returncode == 0, result.stderr
    assert "the totals are those of a plain loop" in result.stdout


@pytest.mark.long
def test_the_plain_loop_tells_how_far_it_is_and_what_it_counted(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    files = find_texts(texts)
    last = texts / "last.txt"
    os.mkfifo(last)  # so that it waits before the last one
    screen = Terminal()
    display = Display(screen)

    def is_shown() -> bool:
        display.refresh(None)
        return "120 of 121" in screen.getvalue()

    with PlainLoop([*files, str(last)]) as loop, ThreadPoolExecutor(1) as threads:
        words = threads.submit(loop.wait, display)
        try:
            wait_until(lambda: loop.counted == len(files), "it does not get on")
            wait_until(is_shown, "it does not show")
            assert not words.done()
        finally:
            last.write_text("the last word")
        assert words.result(60) == count_plainly(files) + Counter(["the", "last", "word"])
        assert loop.counted == len(files) + 1
    assert "a plain loop still counts" in screen.getvalue()


def test_a_plain_loop_that_cannot_read_a_file_says_so(texts: Path) -> None:
    with (
        PlainLoop([*find_texts(texts)[:2], str(texts / "gone.txt")]) as loop,
        pytest.raises(Failed, match=r"the plain loop ended by itself: FileNotFoundError.*gone\.txt"),
    ):
        loop.wait(Display(io.StringIO()))


@pytest.mark.long
def test_the_example_counts_on_a_worker_that_was_started_by_hand(namespace: str, tmp_path: Path) -> None:
    folder = REPOSITORY / "examples" / "wordcount"
    (tmp_path / "copyright").write_text("one two two")
    environment = {"HERD_ZOOKEEPER": namespace}
    with (
        HerdProcess("master", folder=folder, environment=environment),
        HerdProcess("worker", "--app=wordcount", folder=folder, environment=environment),
    ):
        result = run_herd(str(tmp_path), folder=folder, environment=environment, module="wordcount")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["2", "two", "1", "one"]
