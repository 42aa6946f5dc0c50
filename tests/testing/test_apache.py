"""The launcher of Apache's server."""

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

from herdmaster.testing.apache import (
    ApacheEnsemble,
    ApacheStartFailed,
    ApacheZooKeeper,
    ZooKeeperNotInstalled,
    find_zookeeper,
)
from herdmaster.testing.ports import LOOPBACK


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


def is_alive(pid: int) -> bool:
    """False for a zombie too: a container's first process may never collect it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_started_server_says_that_it_is_standalone(apache: ApacheZooKeeper) -> None:
    assert "Mode: standalone" in apache.four_letter_word("srvr")
    assert apache.mode() == "standalone"
    assert apache.hosts == f"127.0.0.1:{apache.port}"
    assert f"dataDir={apache.data_dir}" in apache.four_letter_word("conf")


def test_a_namespace_exists_and_is_empty(namespace: str) -> None:
    with connected(namespace) as client:
        assert client.get_children("/") == []


def test_a_restart_keeps_the_port_and_the_data(own_apache: ApacheZooKeeper) -> None:
    port = own_apache.port
    with connected(own_apache.hosts) as client:
        client.create("/kept", b"before")
        own_apache.restart()
        assert own_apache.port == port
        assert client.retry(client.get, "/kept")[0] == b"before"


def test_a_killed_server_comes_back_with_what_it_had_acknowledged(own_apache: ApacheZooKeeper) -> None:
    with connected(own_apache.hosts) as client:
        for number in range(50):
            client.create(f"/node-{number}")
    own_apache.kill()
    assert not own_apache.is_running
    assert own_apache.mode() is None
    own_apache.start()
    with connected(own_apache.hosts) as client:
        assert {f"node-{number}" for number in range(50)} <= set(client.get_children("/"))


def test_a_paused_server_accepts_connections_and_answers_when_it_goes_on(own_apache: ApacheZooKeeper) -> None:
    own_apache.pause()
    assert own_apache.is_running
    with socket.create_connection((LOOPBACK, own_apache.port), timeout=10) as connection:
        connection.sendall(b"ruok")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        own_apache.resume()
        connection.settimeout(10)
        assert connection.recv(4) == b"imok"


def test_a_paused_server_can_be_stopped(own_apache: ApacheZooKeeper) -> None:
    own_apache.pause()
    own_apache.stop()
    assert not own_apache.is_running


def test_stopping_and_closing_twice_is_harmless_and_removes_the_folder(own_apache: ApacheZooKeeper) -> None:
    folder = own_apache.folder
    own_apache.stop()
    own_apache.stop()
    own_apache.close()
    own_apache.close()
    assert not folder.exists()


@pytest.mark.apache
def test_a_folder_that_was_given_is_kept(apache: ApacheZooKeeper, tmp_path: Path) -> None:
    with ApacheZooKeeper(folder=tmp_path) as server, connected(server.hosts) as client:
        client.create("/kept")
    with ApacheZooKeeper(folder=tmp_path) as server, connected(server.hosts) as client:
        assert client.exists("/kept")


def test_a_server_that_cannot_start_says_why(apache: ApacheZooKeeper) -> None:
    broken = ApacheZooKeeper(settings={"tickTime": "soon"})
    with pytest.raises(ApacheStartFailed, match="Invalid config"), broken:
        pass
    assert not broken.is_running


def test_another_server_on_the_port_is_not_mistaken_for_the_own_one(apache: ApacheZooKeeper) -> None:
    late = ApacheZooKeeper(port=apache.port, start_timeout=1.0)
    with pytest.raises(ApacheStartFailed), late:
        pass
    assert apache.mode() == "standalone"


def test_a_known_port_that_is_taken_is_waited_for(own_apache: ApacheZooKeeper) -> None:
    own_apache.kill()
    start = threading.Thread(target=own_apache.start)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((LOOPBACK, own_apache.port))
        squatter.listen()
        start.start()
        wait_until(lambda: "Address already in use" in own_apache.log.read_text(), "a try fails")
    start.join()
    assert own_apache.mode() == "standalone"


def test_a_machine_without_zookeeper_is_told_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ZooKeeperNotInstalled, match="make zookeeper"):
        find_zookeeper([tmp_path])


def test_a_machine_without_java_is_told_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    (tmp_path / "usr/share/java").mkdir(parents=True)
    (tmp_path / "usr/share/java/zookeeper.jar").touch()
    with pytest.raises(ZooKeeperNotInstalled, match="Java"):
        find_zookeeper([tmp_path])


_PARENT = """
import signal
from herdmaster.testing.apache import ApacheZooKeeper

with ApacheZooKeeper() as server:
    {before}
    print(server.pid, server.folder, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("before", ["pass", "server.pause()"], ids=["serving", "paused"])
def test_nothing_is_left_of_a_server_whose_parent_is_killed(apache: ApacheZooKeeper, before: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT.format(before=before)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        pid_text, folder_text = parent.stdout.readline().split(maxsplit=1)
        pid, folder = int(pid_text), Path(folder_text.strip())
        assert is_alive(pid)
        assert folder.exists()
        os.killpg(parent.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the server ends with its parent")
    wait_until(lambda: not folder.exists(), "its folder goes")


def test_an_ensemble_elects_a_leader_and_survives_its_kill(apache_ensemble: ApacheEnsemble) -> None:
    first = apache_ensemble.wait_for_leader()
    assert sorted(str(member.mode()) for member in apache_ensemble.members) == ["follower", "follower", "leader"]
    with connected(apache_ensemble.hosts) as client:
        client.create("/before")
        first.kill()
        second = apache_ensemble.wait_for_leader()
        assert second is not first
        client.retry(client.create, "/after")
        first.restart()
    assert first.mode() == "follower"
    with connected(first.hosts) as client:
        client.sync("/")
        assert {"before", "after"} <= set(client.get_children("/"))


def test_an_ensemble_goes_on_without_a_paused_leader(apache_ensemble: ApacheEnsemble) -> None:
    first = apache_ensemble.wait_for_leader()
    first.pause()
    second = apache_ensemble.wait_for_leader()
    assert second is not first
    first.resume()
    wait_until(lambda: first.mode() == "follower", "the old leader follows")


def test_an_ensemble_without_a_quorum_serves_again_after_a_restart(apache_ensemble: ApacheEnsemble) -> None:
    for member in apache_ensemble.members[:2]:
        member.kill()
    wait_until(lambda: apache_ensemble.members[2].mode() is None, "the last member stops serving")
    apache_ensemble.start()
    assert apache_ensemble.leader() is not None
