"""The app on the command line: what is told of it at the start, and what of one that cannot be used."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from herdmaster.cli.failures import Failed, Refused
from herdmaster.cli.named_app import announce, load_named_app
from herdmaster.roles.primary.master import Master
from herdmaster.testing.running import RunningRoles
from tests.cli.processes import HerdProcess, run_herd

APP = "from herdmaster import Herd\nherd = Herd()\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Modules of a project, and nothing of them stays imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    with click.Context(click.Command("worker"), info_name="herd worker"):
        yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("told_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("content", "error", "says", "line"),
    [
        ("import sys\nsys.exit()", Failed, "app told_app calls sys.exit when it is imported", 2),
        (f"{APP}\n@herd.task(max_attempts=0)\ndef f(): ...", Refused, "max_attempts=0: it takes a whole number", 4),
        (
            f"{APP}\n@herd.task(quue='x')\ndef f(): ...",
            Refused,
            "quue= is no option of a task: did you mean queue=?",
            4,
        ),
        ("from herdmaster import Herd\nherd = Herd('a:b:c')", Refused, "connect string 'a:b:c'", 2),
        (f"{APP}herd.before_task(3)", Refused, "before_task takes a function that is called as", 3),
    ],
)
def test_a_mistake_in_an_app_is_one_line_with_its_place(
    folder: Path, content: str, error: type[Failed], says: str, line: int
) -> None:
    (folder / "told_app.py").write_text(content)
    with pytest.raises(error) as raised:
        load_named_app("told_app")
    assert raised.value.message.startswith(says)
    assert f"({folder / 'told_app.py'}, line {line})" in raised.value.message
    assert "\n" not in raised.value.message


def test_a_place_that_the_error_tells_itself_is_told_once(folder: Path) -> None:
    (folder / "told_app.py").write_text(f"{APP}\n@herd.task\ndef f(): ...\n@herd.task\ndef f(x): ...\n")
    with pytest.raises(Refused) as raised:
        load_named_app("told_app")
    assert f" ({folder}" not in raised.value.message


def test_what_the_app_itself_raises_keeps_its_traceback(folder: Path) -> None:
    (folder / "told_app.py").write_text("def f(x): ...\nf()")
    with pytest.raises(TypeError, match="missing 1 required"):
        load_named_app("told_app")


def announced(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what is logged about the app: threads of other tests may log, too."""
    return [record for record in caplog.records if record.getMessage().startswith("worker: app")]


@pytest.mark.parametrize(
    ("tasks", "says", "level"),
    [
        (0, "no tasks: if other modules register them, name these with `--import MODULE`, or in Herd(im", "WARNING"),
        (1, "1 task: told_app:f0", "INFO"),
        (12, f"12 tasks: {', '.join(f'told_app:f{n}' for n in (0, 1, 10, 11, 2, 3, 4, 5, 6, 7))} and 2 more", "INFO"),
    ],
)
def test_a_worker_says_what_its_app_has(
    folder: Path, caplog: pytest.LogCaptureFixture, tasks: int, says: str, level: str
) -> None:
    (folder / "told_app.py").write_text(APP + "".join(f"@herd.task\ndef f{n}(): ...\n" for n in range(tasks)))
    caplog.set_level("INFO", "herdmaster")
    announce("told_app", load_named_app("told_app"), may_import=False)
    (record,) = announced(caplog)
    assert record.levelname == level
    assert record.getMessage().startswith(f"worker: app told_app:herd has {says}")


@pytest.mark.parametrize(
    ("content", "may_import"), [("herd.raw_handler(print)", False), ("", True)], ids=["raw handler", "--allow-import"]
)
def test_an_app_without_tasks_may_be_meant(
    folder: Path, caplog: pytest.LogCaptureFixture, content: str, may_import: bool
) -> None:
    (folder / "told_app.py").write_text(APP + content)
    caplog.set_level("INFO", "herdmaster")
    announce("told_app", load_named_app("told_app"), may_import=may_import)
    assert [record.levelname for record in announced(caplog)] == ["INFO"]


TASKS = """
import os
from split.app import herd

@herd.task(queue="mail")
def area(width: int, height: int) -> int:
    return width * height

@herd.task(pool="process", queue="mail")
def parent() -> int:
    return os.getppid()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An app whose tasks are in a module of their own."""
    package = tmp_path / "split"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(APP)
    (package / "named.py").write_text("from herdmaster import Herd\nherd = Herd(imports=['split.tasks_of_named'])\n")
    (package / "tasks.py").write_text(TASKS)
    (package / "tasks_of_named.py").write_text(TASKS.replace("split.app", "split.named"))
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "module"),
    [(["--app=split.app", "--import=split.tasks"], "split.tasks"), (["--app=split.named"], "split.tasks_of_named")],
)
def test_tasks_of_modules_that_are_named_run_in_the_worker_and_its_processes(
    namespace: str, project: Path, options: list[str], module: str
) -> None:
    with (
        RunningRoles(Master(namespace)),
        HerdProcess("worker", namespace, *options, folder=project) as worker,
    ):
        assert f"has 2 tasks: {module}:area, {module}:parent" in worker.wait_for_log("worker: app")
        assert "queues default, mail" in worker.wait_for_log("is ready")
        for call, result in ((("area", "6", "7"), "42"), (("parent",), str(worker.pid))):
            name, *arguments = call
            command = ("submit", "--zookeeper", namespace, "--wait", f"{module}:{name}", *arguments)
            submitted = run_herd(*command, folder=project)
            assert (submitted.stdout, submitted.returncode) == (f"{result}\n", 0)


@pytest.mark.long
def test_herd_dev_imports_the_modules_that_are_named(project: Path) -> None:
    with HerdProcess("dev", "--port=0", "--app=split.app", "--import=split.tasks", folder=project) as dev:
        assert "has 2 tasks" in dev.wait_for_log("worker: app")
        assert "queues default, mail" in dev.wait_for_log("is ready")


@pytest.mark.long
def test_an_app_without_tasks_is_told_from_none(namespace: str, project: Path) -> None:
    with (
        HerdProcess("master", namespace) as master,
        HerdProcess("worker", namespace, "--app=split.app", folder=project) as worker,
    ):
        worker.wait_for_log("has no tasks: if other modules register them")
        worker.wait_for_log("is ready")
        name = run_herd("submit", "--zookeeper", namespace, "--unchecked", "split.tasks:area", "6", "7").stdout.strip()
        shown = run_herd("tasks", "show", "--zookeeper", namespace, name).stdout
        assert (
            "no worker that serves queue default has a task: its app (split.app:herd) registers none; "
            "`herd worker --import MODULE` imports a module that does"
        ) in shown
        assert "  app split.app:herd  " in run_herd("workers", "--zookeeper", namespace).stdout
        master.wait_for_log("no worker that serves queue default has functions: its calls wait")


@pytest.mark.long
def test_import_without_an_app_is_refused() -> None:
    result = run_herd("worker", "127.0.0.1:1", "--import=split.tasks")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "give --app as well" in result.stderr
