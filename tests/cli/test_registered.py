"""`herd submit` with the options that a function is registered with, where its module is here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.cli.submit import choose_options
from herdmaster.core.names import parse_task_name
from herdmaster.core.options import Overrides
from herdmaster.errors import ConfigurationError
from tests.cli.processes import run_herd

APP = """
from herdmaster import Herd
print("imported")
herd = Herd()

@herd.task(queue="mail", priority=7, expires=60, max_attempts=3)
def send(address: str) -> None: ...

class Jobs:
    @staticmethod
    def plain(): ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "registered_shop.py").write_text(APP)
    (tmp_path / "registered_again.py").write_text("from registered_shop import send\n")
    (tmp_path / "registered_broken.py").write_text("x = 1\n1 / 0\n")
    (tmp_path / "registered_exit.py").write_text("import sys; sys.exit(3)\n")
    (tmp_path / "registered_lacking.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("registered_")]:
        del sys.modules[name]


@pytest.mark.parametrize("call", ["registered_shop:send", "registered_again:send"])
def test_what_is_registered_holds_unless_something_else_is_given(
    folder: Path, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    found, options = choose_options(call, {}, may_import=True)
    assert (found, options.queue, options.priority, options.expires) == ("registered_shop:send", "mail", 7, 60_000)
    assert options.overrides == Overrides()  # the rest its worker knows
    found, options = choose_options(call, {"queue": "slow", "max_attempts": 5, "key": None}, may_import=True)
    assert (options.queue, options.priority, options.overrides.max_attempts) == ("slow", 7, 5)
    assert capsys.readouterr() == ("", "imported\n")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("registered_absent:f", ""),
        ("registered_absent.deeper:f", ""),
        ("registered_shop:absent", "imported\n"),
        ("registered_shop:Jobs.plain", "imported\n"),
        ("registered_shop:herd", "imported\n"),
        ("registered_broken:f", "(ZeroDivisionError: division by zero) ({}/registered_broken.py, line 2)"),
        ("registered_exit:f", "(it calls sys.exit) ({}/registered_exit.py, line 1)"),
        ("registered_lacking:f", "(ModuleNotFoundError: No module named 'a_module_that_is_not_there') ({}/"),
    ],
)
def test_a_function_that_is_not_found_here_is_submitted_plainly(
    folder: Path, capsys: pytest.CaptureFixture[str], call: str, told: str
) -> None:
    found, options = choose_options(call, {"priority": 3}, may_import=True)
    assert (found, options.queue, options.priority) == (call, "default", 3)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told.format(folder) in printed.err
    assert (call.startswith("registered_shop") or not told) == ("is submitted without the options" not in printed.err)


def test_an_option_that_the_function_cannot_have_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="max_attempts=0"):
        choose_options("registered_shop:send", {"max_attempts": 0}, may_import=True)


def test_nothing_is_imported_where_that_is_not_wanted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_options("registered_shop:send", {}, may_import=False)[1].queue == "default"
    assert capsys.readouterr() == ("", "")


@pytest.mark.long
def test_herd_submit_sends_a_task_to_its_registered_queue_and_prints_its_name_alone(
    namespace: str, folder: Path
) -> None:
    result = run_herd("submit", "--zookeeper", namespace, "registered_shop:send", "a@b", folder=folder)
    parsed = parse_task_name(result.stdout.removesuffix("\n"))
    assert parsed is not None
    assert (parsed.queue, parsed.priority, result.stderr) == ("mail", 7, "imported\n")
    result = run_herd("submit", "--zookeeper", namespace, "--no-import", "registered_shop:send", "a@b", folder=folder)
    parsed = parse_task_name(result.stdout.removesuffix("\n"))
    assert parsed is not None
    assert (parsed.queue, parsed.priority, result.stderr) == ("default", 5, "")
