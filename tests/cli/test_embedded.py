"""`herd zookeeper` as a process: where it listens, what it says, how it ends, and what it refuses."""

from __future__ import annotations

import errno
import re
import signal
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from herdmaster.cli.embedded import CannotListen
from herdmaster.cli.program import herd
from herdmaster.testing.ports import LOOPBACK
from tests.cli.processes import HerdProcess, connect, run_herd, wait_until


def address_of(server: HerdProcess) -> tuple[str, int]:
    """Of a server that was started with `--port=0`."""
    found = re.search(r"INFO zookeeper: serving on ([^,]+):(\d+), ", server.wait_for_log("serving on"))
    assert found is not None
    return found[1], int(found[2])


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.long
def test_it_serves_and_says_that_it_keeps_everything_in_memory() -> None:
    with HerdProcess("zookeeper", "--port=0") as server:
        host, port = address_of(server)
        line = server.wait_for_log("serving on")
        assert ", in memory: lost when it stops;" in line
        assert "production belongs on Apache ZooKeeper" in line
        with connect(f"{host}:{port}") as client:
            assert client.create("/a", b"kept") == "/a"


@pytest.mark.long
def test_without_a_host_only_loopback_reaches_it() -> None:
    with HerdProcess("zookeeper", "--port=0") as server:
        host, port = address_of(server)
        assert host == LOOPBACK
        socket.create_connection((LOOPBACK, port), 5).close()
        with pytest.raises(ConnectionRefusedError):  # another address of this machine
            socket.create_connection(("127.0.0.2", port), 5)


@pytest.mark.long
def test_it_listens_on_the_host_that_it_is_given() -> None:
    with HerdProcess("zookeeper", "--port=0", "--host=127.0.0.2") as server:
        host, port = address_of(server)
        assert host == "127.0.0.2"
        socket.create_connection((host, port), 5).close()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order_and_a_data_directory_keeps_what_it_knew(
    number: signal.Signals, tmp_path: Path
) -> None:
    for is_first in (True, False):
        with HerdProcess("zookeeper", "--port=0", f"--data-dir={tmp_path}") as server:
            host, port = address_of(server)
            assert f", data in {tmp_path};" in server.wait_for_log("serving on")
            with connect(f"{host}:{port}") as client:
                if is_first:
                    client.create("/a", b"kept")
                assert client.get("/a")[0] == b"kept"
            server.send(number)
            assert server.wait() == 0
            assert server.stderr.endswith(f" INFO zookeeper: stopping; a second {number.name} stops at once\n")


@pytest.mark.long
def test_a_second_signal_ends_it_at_once() -> None:
    with HerdProcess("zookeeper", "--port=0") as server:
        address_of(server)
        # Both come before it has had the time to end, in an order of the system's own.
        server.send(signal.SIGSTOP)
        wait_until(lambda: is_stopped(server.pid), "it does not stand still")
        server.send(signal.SIGINT)
        server.send(signal.SIGTERM)
        server.send(signal.SIGCONT)
        assert server.wait() in {128 + signal.SIGINT, 128 + signal.SIGTERM}
        assert "WARNING zookeeper: stopping at once" in server.stderr
        assert "Traceback" not in server.stderr


@pytest.mark.long
def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        result = run_herd("zookeeper", f"--port={port}")
    assert result.returncode == 1
    assert result.stderr == (
        f"herd zookeeper: cannot listen on {LOOPBACK}:{port}: another process uses the port; "
        "choose another with --port\n"
    )


def test_a_port_that_needs_a_privilege_says_which_ports_do_not() -> None:
    """Root, as which tests may run, has the privilege: hence the error alone."""
    error = PermissionError(errno.EACCES, "error while attempting to bind on address: permission denied")
    told = str(CannotListen("127.0.0.1", "127.0.0.1:80", "--port", error))
    assert told == "cannot listen on 127.0.0.1:80: not permitted; choose a port from 1024 with --port"


@pytest.mark.long
@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1", "127.0.0.1:2181", "[::1]", "a..b", "a b"])
@pytest.mark.parametrize("port", ["24999", "0"])
def test_a_host_that_is_not_of_this_machine_is_told_in_one_line(host: str, port: str) -> None:
    result = run_herd("zookeeper", f"--host={host}", f"--port={port}")
    assert result.returncode == 1
    assert result.stderr == (
        f"herd zookeeper: cannot listen on {host!r}: it is not a name or address of this machine; "
        "choose another with --host\n"
    )


@pytest.mark.parametrize("option", ["--host", "--data-dir"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_host_or_data_directory_is_refused(option: str, value: str) -> None:
    """An unset variable of the shell would else mean all addresses of the machine, or its working directory."""
    result = CliRunner().invoke(herd, ["zookeeper", option, value], prog_name="herd")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"herd zookeeper: Invalid value for '{option}': the value is empty")


@pytest.mark.long
def test_a_damaged_data_directory_is_told_in_one_line_with_file_and_offset(tmp_path: Path) -> None:
    with HerdProcess("zookeeper", "--port=0", f"--data-dir={tmp_path}") as server:
        address_of(server)
        server.send(signal.SIGINT)
        assert server.wait() == 0
    (snapshot,) = tmp_path.glob("snapshot.*")
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 0xFF
    snapshot.write_bytes(data)
    before = sorted(tmp_path.iterdir())

    result = run_herd("zookeeper", "--port=0", f"--data-dir={tmp_path}")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert re.match(rf"herd zookeeper: the journal is damaged: {re.escape(str(snapshot))} at offset \d+: ", line)
    assert "Restore the data directory from a backup" in line
    assert snapshot.read_bytes() == data
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.long
def test_a_data_directory_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with HerdProcess("zookeeper", "--port=0", f"--data-dir={tmp_path}") as server:
        address_of(server)
        result = run_herd("zookeeper", "--port=0", f"--data-dir={tmp_path}")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("herd zookeeper: ")
    assert str(tmp_path) in line
