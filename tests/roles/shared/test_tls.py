"""A role whose certificate is replaced or lost while it runs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.system import System
from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.testing.running import RunningRoles
from herdmaster.zookeeper.client import Security
from tests.authority import Authority, Issued, put

pytestmark = pytest.mark.long

_PATIENCE = 40.0


def copied(issued: Issued, folder: Path) -> Issued:
    """Files that the test may take away."""
    for file in (issued.certificate, issued.key):
        shutil.copy(file, folder / file.name)
    return msgspec.structs.replace(issued, certificate=folder / issued.certificate.name, key=folder / issued.key.name)


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < limit, "not within the patience of the test"
        time.sleep(0.01)


def test_a_master_that_loses_its_certificate_says_so_and_waits_for_it(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = copied(authority.client, tmp_path)
    with EmbeddedZooKeeper(tls=authority.server.tls()) as server:
        master = Master(f"{server.hosts}/m", MasterSettings(session_timeout=2.0), System(security=Security(own.tls())))
        attempts = 0
        opened = master.open

        async def count() -> object:
            nonlocal attempts
            attempts += 1
            return await opened()

        master.open = count  # type: ignore[method-assign,assignment]  # counts what the role tries
        with RunningRoles(master):
            wait_for(lambda: master.not_ready() is None)
            own.certificate.unlink()
            server.kill_primary("/m")
            wait_for(lambda: attempts >= 5)
            put(authority.client, own)
            wait_for(lambda: master.not_ready() is None)
    # In the moment in which the file comes back, another text may follow: it is looked for once it could not be used.
    missing = f"{own.certificate} cannot be read: no such file or directory; trying again"
    lost = [record.name for record in caplog.records if missing in record.getMessage()]
    # Once by the session that it kept from coming back, and once by the role, which could not begin another.
    assert lost == ["herdmaster.zookeeper", "herdmaster"], caplog.text


def test_a_certificate_that_is_replaced_is_used_by_the_next_connection(authority: Authority, tmp_path: Path) -> None:
    own = copied(authority.client, tmp_path)
    with EmbeddedZooKeeper(tls=authority.server.tls()) as server:

        def sessions() -> list[int]:
            return [each.id for each in server._server.machine.state.sessions.all()]

        def subjects() -> set[str]:
            machine = server._server.machine
            return {each.id for link in machine.connections for each in link.actor.identities if each.scheme == "x509"}

        master = Master(f"{server.hosts}/m", MasterSettings(session_timeout=4.0), System(security=Security(own.tls())))
        with RunningRoles(master):
            wait_for(lambda: master.not_ready() is None)
            assert subjects() == {"CN=client,OU=tests,O=Herdmaster"}
            before = sessions()
            renewed = authority.issue("renewed", hosts=())
            put(renewed, own)
            server.drop_connections()
            wait_for(lambda: subjects() == {"CN=renewed,OU=tests,O=Herdmaster"})
            wait_for(lambda: master.not_ready() is None)
            assert sessions() == before
