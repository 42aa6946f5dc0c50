"""What the command line answers without ZooKeeper: help, mistakes, and what it imports for that."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from herdmaster import __version__
from herdmaster.cli.call_options import check_call, read_arguments
from herdmaster.cli.program import COMMANDS, herd
from herdmaster.cli.session import Session
from herdmaster.cli.submit import looks_like_hosts

_HELP_AND_MODULES = """
import sys
from herdmaster.cli import herd
try:
    herd.main(sys.argv[1:], prog_name="herd")
except SystemExit as end:
    print(*sorted(sys.modules), sep="\\n", file=sys.stderr)
    raise
"""


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(herd, list(arguments), prog_name="herd")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_imports_no_asyncio_and_nothing_of_a_role(arguments: list[str]) -> None:
    command = [sys.executable, "-c", _HELP_AND_MODULES, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 0
    modules = result.stderr.split()
    assert "herdmaster.cli.program" in modules
    heavy = (
        "asyncio",
        "msgspec",
        "socket",
        "herdmaster.api",
        "herdmaster.roles",
        "herdmaster.core",
        "herdmaster.testing",
    )
    assert [module for module in modules if module in heavy] == []


@pytest.mark.long
def test_help_comes_quickly(request: pytest.FixtureRequest) -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "herdmaster", "--help"], capture_output=True, check=True, timeout=30)
        times.append(time.perf_counter() - started)
    request.node.user_properties.append(("seconds", round(min(times), 3)))
    assert min(times) < 3.0  # loose: the machine is shared


def test_help_names_every_verb_with_a_whole_sentence() -> None:
    code, text, _ = run("--help")
    assert code == 0
    listed = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("group", ["tasks", "dead", "workers", "queues", "keys", "access", "schedules", "flows"])
def test_the_help_of_a_group_has_a_whole_sentence_for_each_of_its_verbs(group: str) -> None:
    listed = run(group, "--help")[1].partition("Commands:\n")[2].splitlines()
    assert listed
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize("verb", [("flows", "retry"), ("history",), ("submit",), ("worker",)], ids=" ".join)
def test_help_has_the_options_of_security_after_those_of_the_verb(verb: tuple[str, ...]) -> None:
    text = run(*verb, "--help")[1]
    own, _, security = text.partition("\nSecurity options:\n")
    assert "--help" in own
    assert "\n  FLOW" not in own.partition("\nOptions:")[2]
    assert "--tls" not in own
    assert "--auth" not in own
    names = [line.split()[0] for line in security.splitlines() if line.startswith("  -")]
    assert [name for name in names if not name.startswith(("--tls", "--auth"))] == []
    assert len(names) > 10


def test_the_version_is_told() -> None:
    assert run("--version") == (0, f"herd {__version__}\n", "")


def test_without_a_verb_it_shows_what_there_is_and_fails() -> None:
    code, output, error = run()
    assert (code, output) == (2, "")
    assert "Commands:" in error


@pytest.mark.parametrize(
    ("arguments", "start", "hint"),
    [
        (["nope"], "herd: ", "nope"),
        (["--nope"], "herd: ", "--nope"),
        (["worker", "--slot", "3"], "herd worker: ", "--slots"),
        (["worker", "--slots", "0"], "herd worker: ", "1<=x"),
        (["worker", "a:1", "b"], "herd worker: ", "(b)"),
        (["worker", "--drain-timeout", "nan"], "herd worker: ", "86400"),
        (["master", "--session-timeout", "-1"], "herd master: ", "86400"),
        (["master", "--log-level", "loud"], "herd master: ", "'debug'"),
        (["master", "localhost:99999"], "herd master: ", "host1:2181"),
        (["master", ""], "herd master: ", "host1:2181"),
        (["master", "localhost:2181/a//b"], "herd master: ", "empty segment"),
        (["status", "not a host"], "herd status: ", "host1:2181"),
        (["client", "--zookeeper", "not a host"], "herd client: ", "host1:2181"),
        (["worker", "--app", "no_such_module"], "herd worker: ", "'no_such_module'"),
        (["worker", "--app", "json"], "herd worker: ", "no Herd"),
        (["worker", "--app", "json:dumps"], "herd worker: ", "json"),
        (["worker", "--app", "a b"], "herd worker: ", "MODULE"),
        (["worker", "127.0.0.1:1", "--queue", "Loud"], "herd worker: ", "'Loud'"),
        (["submit"], "herd submit: ", "MODULE:FUNCTION"),
        (["submit", "shop.tasks"], "herd submit: ", "shop.tasks:resize"),
        (["submit", "shop:add", "--wiat"], "herd submit: ", "after `--`"),
        (["submit", "shop:add", "x=1", "x=2"], "herd submit: ", "twice"),
        (["submit", "shop:add", "--priority", "12"], "herd submit: ", "0<=x<=9"),
        (["submit", "shop:add", "--unchecked", "--queue", "Loud"], "herd submit: ", "'Loud'"),
        (["demo", "--folder", "/no/such/folder"], "herd demo: ", "/no/such/folder"),
        (["demo", "--folder", "/dev"], "herd demo: ", "at least 100"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_told_in_one_line_and_ends_with_2(arguments: list[str], start: str, hint: str) -> None:
    environment = dict(os.environ)
    code, output, error = run(*arguments)
    assert (code, output) == (2, "")
    (line,) = error.splitlines()
    assert line.startswith(start)
    assert hint in line
    assert dict(os.environ) == environment  # other tests run in this process


@pytest.mark.parametrize(
    "text", ["a:1", "127.0.0.1:2181", "a:1,b:2", "zk-1.example:2181/prod/x", "[::1]:2181", "x_y:1/"]
)
def test_the_first_argument_of_client_is_hosts_if_it_looks_like_it(text: str) -> None:
    assert looks_like_hosts(text)


@pytest.mark.parametrize("text", ["Sample task", "a", "a:b", "a:1 b", "a:1,b", ":1", "a:", "note: 5", "a:123456", ""])
def test_other_first_arguments_of_client_are_data(text: str) -> None:
    assert not looks_like_hosts(text)


def test_arguments_are_json_or_text_or_keywords() -> None:
    texts = ["2", "-3.5", "null", "[1, 2]", '{"a": "b=c"}', "plain text", "2,5", '"2"', "k=7", "who=me", "empty=", "-"]
    args, kwargs = read_arguments(texts)
    assert args == [2, -3.5, None, [1, 2], {"a": "b=c"}, "plain text", "2,5", "2", "-"]
    assert kwargs == {"k": 7, "who": "me", "empty": ""}


@pytest.mark.long
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=10))
def test_any_json_is_an_argument_and_a_keyword_argument(value: object) -> None:
    text = json.dumps(value)
    assert read_arguments([text, f"name={text}"]) == ([value], {"name": value})


@pytest.mark.parametrize("call", ["shop:add", "shop.tasks:Shop.add", "shop:make.<locals>.add"])
def test_a_call_is_a_module_and_a_function(call: str) -> None:
    check_call(call)


@pytest.mark.parametrize(
    "call", ["", "shop", "shop:", ":add", "shop tasks:add", "shop:add:mul", "a..b:c", "shop:add()"]
)
def test_anything_else_is_no_call(call: str) -> None:
    with pytest.raises(click.BadParameter):
        check_call(call)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An app whose Herd names its servers; its import prints."""
    (tmp_path / "placed_app.py").write_text("from herdmaster import Herd\nprint('imported')\nherd = Herd('app:1')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "placed_app"
    sys.modules.pop("placed_app", None)


def test_hosts_are_the_option_then_the_variable_then_the_apps_then_local(
    app: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HERD_ZOOKEEPER", raising=False)
    with click.Context(click.Command("herd")):
        assert Session(None, None, 1.0).find_hosts() == "127.0.0.1:2181"
        assert Session(None, app, 1.0).find_hosts() == "app:1"
        assert capsys.readouterr() == ("", "imported\n")
        monkeypatch.setenv("HERD_ZOOKEEPER", "variable:1")
        assert Session(None, None, 1.0).find_hosts() == "variable:1"
        assert Session(None, "no_such_module", 1.0).find_hosts() == "variable:1"
        assert Session("option:1", app, 1.0).find_hosts() == "option:1"


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["tasks"],
        ["tasks", "show", "task-01jd0000000000000000000001.default"],
        ["dead", "list"],
        ["workers"],
        ["queues", "pause", "mail"],
        ["keys"],
        pytest.param(["client", "text"], marks=pytest.mark.long),
        ["submit", "placed_app:f", "--unchecked"],
    ],
    ids=" ".join,
)
def test_each_command_goes_where_its_app_does(app: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.delenv("HERD_ZOOKEEPER", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # does not listen: refuses at once
        hosts = f"127.0.0.1:{taken.getsockname()[1]}"
        Path("placed_app.py").write_text(f"from herdmaster import Herd\nherd = Herd({hosts!r})\n")
        code, output, error = run(*arguments, "--app", app, "--connect-timeout", "0.05")
    assert (code, output) == (1, "")
    assert hosts in error
