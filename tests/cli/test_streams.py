"""The command with standard streams that are closed, full, or read no more."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import IO

import pytest

from tests.cli.processes import HERD, connect, wait_until

pytestmark = pytest.mark.long


def run_in_shell(
    command: str, hosts: str, stdout: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """`$herd` is the command."""
    return subprocess.run(
        ["bash", "-c", command.replace("$herd", " ".join(HERD))],
        env={**os.environ, "HERD_ZOOKEEPER": hosts}, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=40,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_leads_nowhere(namespace: str, closed: str) -> None:
    result = run_in_shell(f"$herd submit m:f --unchecked --create {closed}", namespace)
    assert (result.returncode, result.stderr) == (0, "")
    assert (result.stdout == "") == (">&-" in closed.split())
    with connect(namespace) as client:
        assert len(client.get_children("/tasks")) == 1


@pytest.mark.parametrize("command", ["$herd nope 2>&-", "$herd nope >&- 2>&-"])
def test_a_mistake_keeps_its_code_and_goes_to_no_other_stream(command: str) -> None:
    result = run_in_shell(command, "127.0.0.1:1")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "")


@pytest.mark.parametrize(("command", "name"), [("status", "status"), ("--help", ""), ("status --help", "status")])
def test_a_disk_that_is_full_is_told_in_one_line(namespace: str, command: str, name: str) -> None:
    result = run_in_shell(f"$herd {command} >/dev/full", namespace)
    shown = f"herd {name}".strip()
    assert result.stderr == f"{shown}: the output cannot be written: No space left on device\n"
    assert result.returncode == 1


@pytest.mark.parametrize("command", ["$herd status", "$herd submit m:f --unchecked --create", "$herd --help"])
def test_a_reader_that_is_gone_ends_the_command_without_a_word(namespace: str, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        result = run_in_shell(f"{command}; echo $? >&2", namespace, output)
    assert result.stderr == f"{128 + signal.SIGPIPE}\n"


def test_a_worker_without_streams_gives_its_sockets_other_numbers(namespace: str, tmp_path: Path) -> None:
    """Else what its tasks print would go to ZooKeeper."""
    pid_file = tmp_path / "pid"
    process = subprocess.Popen(
        ["bash", "-c", f"echo $$ > {pid_file}; exec {' '.join(HERD)} worker {namespace} <&- >&- 2>&-"]
    )
    try:
        with connect(namespace) as client:
            wait_until(lambda: client.exists("/workers") and client.get_children("/workers"), "no worker")
        streams = [Path(f"/proc/{process.pid}/fd/{number}").resolve() for number in range(3)]
        assert streams == [Path(os.devnull)] * 3
    finally:
        process.terminate()
        process.wait(20)
    assert process.returncode == 0
