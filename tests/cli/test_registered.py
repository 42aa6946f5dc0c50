"""`herd submit`: the options that a function is registered with, and calls that are not registered."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from herdmaster.api.internals import core_of
from herdmaster.cli.call_options import Request, make_request
from herdmaster.cli.failures import Failed
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

def make():
    @herd.task
    def inner(): ...

make()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "registered_shop.py").write_text(APP)
    (tmp_path / "registered_again.py").write_text("from registered_shop import send\n")
    (tmp_path / "registered_other.py").write_text(
        "from herdmaster import Herd\nherd = Herd()\n@herd.task\ndef mine(): ...\n"
    )
    (tmp_path / "registered_broken.py").write_text("x = 1\n1 / 0\n")
    (tmp_path / "registered_exit.py").write_text("import sys; sys.exit(3)\n")
    (tmp_path / "registered_lacking.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("registered_")]:
        del sys.modules[name]


def request_of(call: str, given: dict[str, object] | None = None, app: str | None = None) -> Request:
    with click.Context(click.Command("submit")):
        return make_request(call, given or {}, app, unchecked=False)


@pytest.mark.parametrize("app", [None, "registered_shop"])
@pytest.mark.parametrize("call", ["registered_shop:send", "registered_again:send"])
def test_what_is_registered_holds_unless_something_else_is_given(
    folder: Path, capsys: pytest.CaptureFixture[str], call: str, app: str | None
) -> None:
    found, options, herd, _, registered = request_of(call, app=app)
    assert (found.call, options.queue, options.priority) == ("registered_shop:send", "mail", 7)
    assert options.expires == 60_000
    assert options.overrides == Overrides()  # its worker knows the rest
    assert herd is core_of(sys.modules["registered_shop"].herd)
    assert registered == options
    _, options, _, _, again = request_of(call, {"queue": "slow", "max_attempts": 5, "key": None})
    assert again == registered
    assert (options.queue, options.priority, options.overrides.max_attempts) == ("slow", 7, 5)
    assert capsys.readouterr() == ("", "imported\n")


@pytest.mark.parametrize(
    ("call", "app", "told"),
    [
        ("registered_absent:f", None, "no module 'registered_absent' is importable from here"),
        ("registered_absent.deeper:f", None, "no module 'registered_absent.deeper' is importable from here"),
        ("registered_shop:absent", None, "module registered_shop has no task registered_shop:absent"),
        ("registered_shop:absent", None, "it has registered_shop:send; --unchecked submits it"),
        ("registered_shop:sent", None, "(did you mean registered_shop:send?)"),
        ("registered_shop:Jobs.plain", None, "has no task registered_shop:Jobs.plain"),
        ("registered_shop:herd", None, "has no task registered_shop:herd"),
        ("json:dumps", None, "module json has no task json:dumps, nor any other; --unchecked submits it"),
        ("registered_absent:f", "registered_shop", "app registered_shop has no task registered_absent:f"),
        ("registered_other:mine", "registered_shop", "app registered_shop has no task registered_other:mine"),
        ("registered_shop:make.<locals>.inner", "registered_shop", "its options cannot be read here"),
        ("registered_broken:f", None, "(ZeroDivisionError: division by zero) ({}/registered_broken.py, line 2)"),
        ("registered_exit:f", None, "(it calls sys.exit) ({}/registered_exit.py, line 1)"),
        ("registered_lacking:f", None, "(ModuleNotFoundError: No module named 'a_module_that_is_not_there') ({}/"),
        ("registered_shop:send", "registered_nowhere", "no module 'registered_nowhere' is importable from here"),
    ],
)
def test_a_call_that_is_not_registered_is_refused(folder: Path, call: str, app: str | None, told: str) -> None:
    with pytest.raises((Failed, ConfigurationError)) as caught:
        request_of(call, app=app)
    assert told.format(folder) in str(caught.value)


def test_an_option_that_the_function_cannot_have_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="max_attempts=0"):
        request_of("registered_shop:send", {"max_attempts": 0})


def test_unchecked_imports_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, options, herd, keyring, _ = make_request("registered_shop:send", {"priority": 3}, None, unchecked=True)
    assert (found.call, options.queue, options.priority) == ("registered_shop:send", "default", 3)
    assert (herd, keyring) == (None, None)
    assert capsys.readouterr() == ("", "")


@pytest.mark.long
def test_herd_submit_sends_a_task_to_its_registered_queue_and_prints_its_name_alone(
    namespace: str, folder: Path
) -> None:
    at = ("submit", "--zookeeper", namespace, "registered_shop:send")
    result = run_herd(*at, "a@b", "--create", folder=folder)
    parsed = parse_task_name(result.stdout.removesuffix("\n"))
    assert parsed is not None
    assert (parsed.queue, parsed.priority) == ("mail", 7)
    result = run_herd(*at, "a@b", "--unchecked", folder=folder)
    parsed = parse_task_name(result.stdout.removesuffix("\n"))
    assert parsed is not None
    assert (parsed.queue, parsed.priority, result.stderr) == ("default", 5, "")
    result = run_herd("submit", "--zookeeper", "127.0.0.1:1", "registered_shop:send", folder=folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert "registered_shop:send misses `address`" in result.stderr
