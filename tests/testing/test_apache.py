"""The launcher of Apache's server."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdmaster.testing.apache import (
    ApacheEnsemble,
    ApacheZooKeeper,
    ServerStartFailed,
    ZooKeeperNotInstalled,
    find_zookeeper,
)
from tests.testing.test_child_server import connected, wait_until


def test_a_started_server_says_that_it_is_standalone(apache: ApacheZooKeeper) -> None:
    assert "Mode: standalone" in apache.four_letter_word("srvr")
    assert apache.mode() == "standalone"
    assert apache.hosts == f"127.0.0.1:{apache.port}"
    assert f"dataDir={apache.data_dir}" in apache.four_letter_word("conf")


@pytest.mark.apache
def test_a_folder_that_was_given_is_kept(apache: ApacheZooKeeper, tmp_path: Path) -> None:
    with ApacheZooKeeper(folder=tmp_path) as server, connected(server.hosts) as client:
        client.create("/kept")
    with ApacheZooKeeper(folder=tmp_path) as server, connected(server.hosts) as client:
        assert client.exists("/kept")


def test_a_server_that_cannot_start_says_why(apache: ApacheZooKeeper) -> None:
    broken = ApacheZooKeeper(settings={"tickTime": "soon"})
    with pytest.raises(ServerStartFailed, match="Invalid config"), broken:
        pass
    assert not broken.is_running


def test_another_server_on_the_port_is_not_mistaken_for_the_own_one(apache: ApacheZooKeeper) -> None:
    late = ApacheZooKeeper(port=apache.port, start_timeout=1.0)
    with pytest.raises(ServerStartFailed), late:
        pass
    assert apache.mode() == "standalone"


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
