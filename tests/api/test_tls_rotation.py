"""Certificates are replaced on both ends while tasks run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from herdmaster import Herd
from herdmaster.api.internals import core_of
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings, print_raw
from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.testing.running import RunningRoles
from herdmaster.zookeeper.client import Security
from tests.authority import Authority, put

pytestmark = pytest.mark.long

TASKS = 400
ROTATIONS = 5


def square(number: int) -> int:
    return number * number


def test_certificates_are_replaced_under_load(authority: Authority, tmp_path: Path) -> None:
    """A connection that is made between the two files fails, and is tried again."""
    place = {
        name: msgspec.structs.replace(
            authority.server, certificate=tmp_path / f"{name}.pem", key=tmp_path / f"{name}.key"
        )
        for name in ("server", "client")
    }
    put(authority.server, place["server"])
    put(authority.client, place["client"])
    tls = place["client"].tls()
    with EmbeddedZooKeeper(tls=place["server"].tls()) as server, Herd(f"{server.hosts}/rotated", tls=tls) as herd:
        task = herd.task(square)
        system = System(security=Security(tls))
        functions = core_of(herd).registry.functions
        hosts = f"{server.hosts}/rotated"
        master = Master(hosts, MasterSettings(session_timeout=4.0), system)
        worker = Worker(hosts, functions, WorkerSettings(4.0, slots=4), print_raw, system)
        with RunningRoles(worker, master):
            results: list[int] = []
            number = 0
            for result in task.map(range(TASKS), window=40, timeout=60):
                results.append(result)
                if len(results) % (TASKS // ROTATIONS) == TASKS // ROTATIONS // 2:
                    number = len(results)
                    put(authority.issue(f"client-{number}", hosts=()), place["client"])
                    put(authority.issue(f"server-{number}"), place["server"])
                    server.drop_connections()
            assert results == [number * number for number in range(TASKS)]
            connections = tuple(server._server.machine.connections)
            subjects = {each.id for link in connections for each in link.actor.identities if each.scheme == "x509"}
    assert subjects == {f"CN=client-{number},OU=tests,O=Herdmaster"}
