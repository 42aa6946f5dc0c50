"""What a command says on stderr when it cannot connect at once, whatever its log level."""

from __future__ import annotations

import json

import pytest

from tests.cli.processes import run_herd

pytestmark = pytest.mark.long
NOWHERE = "127.0.0.1:1"


def test_a_namespace_that_a_submission_makes_is_told_once(namespace: str) -> None:
    hosts = f"{namespace}/typo"
    servers, _, path = hosts.partition("/")
    result = run_herd("submit", "--zookeeper", hosts, "--unchecked", "--create", "m:f")
    told = f"namespace /{path} does not exist yet: it is created on {servers}"
    assert (result.returncode, result.stderr) == (0, f"herd submit: {told}\n")
    assert run_herd("submit", "--zookeeper", hosts, "--unchecked", "--create", "m:f").stderr == ""


def test_a_namespace_is_told_as_json_where_lines_are(namespace: str) -> None:
    result = run_herd(
        "submit", "--zookeeper", f"{namespace}/typo", "--log-format=json", "--unchecked", "--create", "m:f"
    )
    line = json.loads(result.stderr)
    assert (line["level"], line["logger"]) == ("warning", "herdmaster.connecting")
    assert "does not exist yet: it is created" in line["message"]


def test_that_no_server_answers_is_told_after_three_seconds_and_at_the_end() -> None:
    result = run_herd("status", NOWHERE, "--connect-timeout=3.2", "--log-level=error")
    trying, ended = result.stderr.splitlines()
    assert trying.startswith(f"herd status: still trying {NOWHERE} ({NOWHERE}: ")
    assert ended.startswith(f"herd status: no session with {NOWHERE} within 3.2 s")
    assert result.returncode == 1


def test_a_command_that_invokes_another_one_names_itself() -> None:
    result = run_herd("dead", "list", NOWHERE, "--connect-timeout=3.2")
    assert result.stderr.startswith(f"herd dead list: still trying {NOWHERE} ")
