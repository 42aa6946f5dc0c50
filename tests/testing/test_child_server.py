"""The launcher of a server as a child process, whichever server it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from herdmaster.testing.child_server import ChildServer
from herdmaster.testing.ports import LOOPBACK
from tests.pools.process_setting import is_alive

pytestmark = pytest.mark.long


@contextmanager
def connected(hosts: str) -> Iterator[KazooClient]:
    client = KazooClient(hosts, timeout=4.0)
    client.start(timeout=30)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)


def test_a_namespace_exists_and_is_empty(namespace: str) -> None:
    with connected(namespace) as client:
        assert client.get_children("/") == []


def test_a_restart_keeps_the_port_and_the_data(own_zookeeper: ChildServer) -> None:
    port = own_zookeeper.port
    with connected(own_zookeeper.hosts) as client:
        client.create("/kept", b"before")
        own_zookeeper.restart()
        assert own_zookeeper.port == port
        assert client.retry(client.get, "/kept")[0] == b"before"


def test_a_killed_server_comes_back_with_what_it_had_acknowledged(own_zookeeper: ChildServer) -> None:
    with connected(own_zookeeper.hosts) as client:
        for number in range(50):
            client.create(f"/node-{number}")
    own_zookeeper.kill()
    assert not own_zookeeper.is_running
    assert own_zookeeper.mode() is None
    own_zookeeper.start()
    with connected(own_zookeeper.hosts) as client:
        assert {f"node-{number}" for number in range(50)} <= set(client.get_children("/"))


def test_a_paused_server_accepts_connections_and_answers_when_it_goes_on(own_zookeeper: ChildServer) -> None:
    own_zookeeper.pause()
    assert own_zookeeper.is_running
    with socket.create_connection((LOOPBACK, own_zookeeper.port), timeout=10) as connection:
        connection.sendall(b"ruok")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        own_zookeeper.resume()
        connection.settimeout(10)
        assert connection.recv(4) == b"imok"


def test_a_paused_server_can_be_stopped(own_zookeeper: ChildServer) -> None:
    own_zookeeper.pause()
    own_zookeeper.stop()
    assert not own_zookeeper.is_running


def test_stopping_and_closing_twice_is_harmless_and_removes_the_folder(own_zookeeper: ChildServer) -> None:
    folder = own_zookeeper.folder
    own_zookeeper.stop()
    own_zookeeper.stop()
    own_zookeeper.close()
    own_zookeeper.close()
    assert not folder.exists()


def test_a_known_port_that_is_taken_is_waited_for(own_zookeeper: ChildServer) -> None:
    own_zookeeper.kill()
    start = threading.Thread(target=own_zookeeper.start)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((LOOPBACK, own_zookeeper.port))
        squatter.listen()
        start.start()
        wait_until(lambda: "address already in use" in own_zookeeper.log.read_text().lower(), "a try fails")
    start.join()
    assert own_zookeeper.mode() == "standalone"


_PARENT = """
import signal
from {module} import {kind}

with {kind}() as server:
    {before}
    print(server.pid, server.folder, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("before", ["pass", "server.pause()"], ids=["serving", "paused"])
def test_nothing_is_left_of_a_server_whose_parent_is_killed(
    new_zookeeper: Callable[..., ChildServer], before: str
) -> None:
    kind = type(new_zookeeper())
    program = _PARENT.format(module=kind.__module__, kind=kind.__name__, before=before)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        pid_text, folder_text = parent.stdout.readline().split(maxsplit=1)
        pid, folder = int(pid_text), Path(folder_text.strip())
        assert is_alive(pid)
        assert folder.exists()
        os.killpg(parent.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the server ends with its parent")
    wait_until(lambda: not folder.exists(), "its folder goes")
