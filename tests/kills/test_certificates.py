"""Three Apache servers that take only certificates, a closed namespace, and an identity for every program, while some
are killed and all servers are restarted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from herdmaster.core.access import Identity
from herdmaster.testing.apache import ApacheEnsemble, ZooKeeperNotInstalled
from herdmaster.zookeeper.client import Client, Security
from herdmaster.zookeeper.model import SessionState
from tests.authority import Authority
from tests.kills.ledger import Ledger
from tests.kills.secured import Credentials, SecuredCluster, play

pytestmark = [pytest.mark.long, pytest.mark.apache, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def servers(authority: Authority) -> Iterator[ApacheEnsemble]:
    try:
        with ApacheEnsemble(tls=authority.server.tls()) as ensemble:
            yield ensemble
    except ZooKeeperNotInstalled as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


def credentials_of(authority: Authority, identity: Identity) -> Credentials:
    issued = authority.issue(f"herd-{identity}", hosts=())
    options = (f"--tls-ca={issued.ca}", f"--tls-certificate={issued.certificate}", f"--tls-key={issued.key}")
    return Credentials(f"CN=herd-{identity},OU=tests,O=Herdmaster", options, Security(issued.tls()))


def test_a_primary_and_a_worker_are_killed(servers: ApacheEnsemble, authority: Authority) -> None:
    credentials = {identity: credentials_of(authority, identity) for identity in Identity}
    hosts = f"{servers.secure_hosts}/certificates"
    anonymous = (f"--tls-ca={authority.ca}", "--connect-timeout=1")
    with ExitStack() as stack:
        cluster = SecuredCluster(hosts, "x509", credentials, stack, anonymous)
        play(cluster, Ledger(hosts, credentials[Identity.OBSERVER].security))


async def test_a_session_moves_from_one_server_to_another_with_its_identity(
    servers: ApacheEnsemble, authority: Authority
) -> None:
    security = Security(authority.client.tls())
    async with Client(servers.secure_hosts, session_timeout=4.0, security=security) as client:
        states: list[SessionState] = []
        client.add_listener(states.append)
        before = client.session_id, set(await client.who_am_i())
        for member in servers.members:  # one of them is the client's
            member.kill()
            assert (client.session_id, set(await client.who_am_i())) == before
            await asyncio.to_thread(member.start)
        assert SessionState.DISCONNECTED in states
        assert SessionState.EXPIRED not in states
