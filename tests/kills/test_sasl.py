"""Three Apache servers that require SASL, a closed namespace, and an identity for every program, while some are killed
and all servers are restarted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from herdmaster.core.access import Identity
from herdmaster.testing.apache import QUICK_START, ApacheEnsemble, ZooKeeperNotInstalled
from herdmaster.zookeeper.client import Kerberos, Sasl, Security
from tests.conformance.rig import SASL_PROVIDER, jaas_of
from tests.kerberos import REALM, Realm, require
from tests.kills.ledger import Ledger
from tests.kills.secured import Credentials, SecuredCluster, play

pytestmark = [pytest.mark.apache, pytest.mark.timeout(300)]

SETTINGS = {**SASL_PROVIDER, "sessionRequireClientSASLAuth": "true"}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ensemble(stack: ExitStack, *java_options: str) -> ApacheEnsemble:
    try:
        servers = ApacheEnsemble(java_options=(*QUICK_START, *java_options), settings=SETTINGS)
        return stack.enter_context(servers)
    except ZooKeeperNotInstalled as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


def restart_each(servers: ApacheEnsemble, cluster: SecuredCluster) -> None:
    """Every session authenticates anew, with whatever server it finds."""
    for server in servers.members:
        server.restart()
        cluster.submit(20, 0.02)
        cluster.wait_ended()


@pytest.mark.long
def test_kerberos(stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require()
    realm = stack.enter_context(Realm(tmp_path, Identity))
    monkeypatch.setenv("KRB5_CONFIG", str(realm.config))  # for this process and those that it starts
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/no-tickets")
    servers = ensemble(stack, *realm.java_options)
    hosts = ",".join(f"localhost:{member.port}" for member in servers.members)
    credentials = {
        identity: Credentials(
            f"{identity}@{REALM}",
            ("--auth-kerberos-principal", identity, "--auth-kerberos-keytab", str(realm.keytab(identity))),
            Security(auth=(Kerberos(identity, keytab=realm.keytab(identity)),)),
        )
        for identity in Identity
    }
    cluster = SecuredCluster(f"{hosts}/prod", "sasl", credentials, stack)
    play(cluster, Ledger(cluster.hosts, credentials[Identity.OBSERVER].security))
    restart_each(servers, cluster)
    cluster.check_settled()


@pytest.mark.slow
def test_digest_md5(stack: ExitStack, tmp_path: Path) -> None:
    jaas = tmp_path / "jaas.conf"
    jaas.write_text(jaas_of({**{identity: f"the {identity}'s" for identity in Identity}, "super": "of these tests"}))
    servers = ensemble(stack, f"-Djava.security.auth.login.config={jaas}")
    credentials = {}
    for identity in Identity:
        file = tmp_path / f"{identity}.credential"
        file.write_text(f"{identity}:the {identity}'s\n")
        security = Security(auth=(Sasl.from_file(file),))
        credentials[identity] = Credentials(identity, ("--auth-sasl-file", str(file)), security)
    cluster = SecuredCluster(f"{servers.hosts}/prod", "sasl", credentials, stack)
    play(cluster, Ledger(cluster.hosts, credentials[Identity.OBSERVER].security))
    restart_each(servers, cluster)
    cluster.check_settled()
