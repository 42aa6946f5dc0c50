"""`herd zookeeper` with few file descriptors: it serves those whom it can, and says so once a second at most."""

from __future__ import annotations

import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.testing.embedded_process import EmbeddedProcess
from herdmaster.zookeeper.wire import records
from tests.cli.processes import HerdProcess, wait_until
from tests.zookeeper.server.wire import ConnectionEnded, Wire

LIMIT = 100
RESERVE = 16


@contextmanager
def soft_limit(most: int) -> Iterator[int]:
    """For processes that start meanwhile. Gives the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def port_of(server: HerdProcess) -> int:
    found = re.search(r"serving on [^,]+:(\d+), ", server.wait_for_log("serving on"))
    assert found is not None
    return int(found[1])


def limit_of(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"mntr")
        told = b"".join(iter(lambda: connection.recv(8192), b"")).decode()
    return int(re.findall(r"zk_max_file_descriptor_count\t(\d+)", told)[0])


def is_served(wire: Wire) -> bool:
    try:
        return bool(wire.handshake().session_id)
    except (ConnectionEnded, ConnectionError):
        return False


@pytest.mark.long
def test_a_server_of_its_own_raises_the_soft_limit_to_the_hard_one() -> None:
    with soft_limit(512) as hard, ExitStack() as stack:
        herd = stack.enter_context(HerdProcess("zookeeper", "--port=0"))
        process = stack.enter_context(EmbeddedProcess())
        port = port_of(herd)
        assert hard > 512
        assert (limit_of(port), limit_of(process.port)) == (hard, hard)


def test_a_server_in_a_program_of_a_user_leaves_its_limits_alone() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with EmbeddedZooKeeper():
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.long
def test_without_descriptors_connections_are_refused_and_the_others_are_served(tmp_path: Path) -> None:
    with HerdProcess("zookeeper", "--port=0", f"--data-dir={tmp_path}") as server, ExitStack() as stack:
        port = port_of(server)
        began = time.monotonic()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        wires = [stack.enter_context(Wire(port)) for _ in range(3 * LIMIT)]
        served = [wire for wire in wires if is_served(wire)]
        assert LIMIT - RESERVE - 30 < len(served) <= LIMIT - RESERVE
        for number, wire in enumerate(served):
            assert wire.create(f"/n{number}").error == 0
        told = server.wait_for_log("connections refused: ")
        assert "have, only the last 16 are free; `ulimit -n` raises the limit" in told
        for wire in wires:
            wire.close()
        wait_until(lambda: _is_served_again(port) or None, "the server takes no connection any more")
        # One line a second: the last ones are counted in a line that is still to come.
        wait_until(lambda: _count_refused(server.stderr) > LIMIT or None, "not all that were refused are counted")
        complaints = [line for line in server.stderr.splitlines() if "connections refused" in line]
        assert len(complaints) <= 1 + time.monotonic() - began
        assert "Traceback" not in server.stderr


def _count_refused(log: str) -> int:
    return sum(int(each) for each in re.findall(r"connections refused: (\d+)", log))


def _is_served_again(port: int) -> bool:
    with Wire(port) as wire:
        return is_served(wire) and wire.ask(records.Exists("/n0", False)).error == 0
