from __future__ import annotations

from pathlib import Path

import pytest

from herdmaster.core.access import Identity
from herdmaster.inspection.security_findings import is_open, look_at_security, security_findings
from herdmaster.zookeeper.client import PLAIN, Security, parse_connect_string
from herdmaster.zookeeper.client.credentials import Digest, Kerberos
from herdmaster.zookeeper.tls import TLS
from tests.closed import close_namespace, reopen_namespace, session_of


def codes(hosts: str, security: Security = PLAIN, *, namespace_is_open: bool = False) -> list[str]:
    seen = look_at_security(parse_connect_string(hosts).addresses, security)
    return [found.code for found in security_findings(seen, namespace_is_open=namespace_is_open)]


@pytest.mark.parametrize("hosts", ["127.0.0.1:1", "localhost", "[::1]:2181,127.0.0.2"])
def test_servers_on_this_machine_may_be_open_and_plain(hosts: str) -> None:
    assert codes(hosts, namespace_is_open=True) == []


@pytest.mark.parametrize("hosts", ["zk1,127.0.0.1", "10.0.0.1", "[2001:db8::1]:2181"])
def test_servers_on_other_machines_may_not(hosts: str) -> None:
    assert codes(hosts, namespace_is_open=True) == ["open", "plain"]
    assert codes(hosts) == ["plain"]
    assert codes(hosts, Security(tls=TLS()), namespace_is_open=True) == ["open"]


def test_files_with_secrets_that_everyone_may_read_are_named(tmp_path: Path) -> None:
    files = {"key", "password", "keytab", "line", "signing"}
    for name in files:
        (tmp_path / name).touch(0o600)
    security = Security(
        TLS(certificate=tmp_path / "certificate", key=tmp_path / "key"),
        (
            Digest("al", tmp_path / "password"),
            Digest.from_file(tmp_path / "line"),
            Digest("al", "not in a file"),
            Kerberos(keytab=tmp_path / "keytab"),
        ),
    )
    assert codes("localhost", security) == []
    for name in files:
        (tmp_path / name).chmod(0o644)
    seen = look_at_security(parse_connect_string("localhost").addresses, security, [str(tmp_path / "signing")])
    assert {Path(path).name for path in seen.exposed} == files


async def test_a_namespace_is_open_until_it_is_closed(namespace: str) -> None:
    closed = await close_namespace(namespace)
    for hosts, expected in ((namespace, True), (closed, False)):
        for identities in ((), (Identity.OBSERVER,)):
            async with session_of(hosts, *identities) as client:
                assert await is_open(client) is expected
    await reopen_namespace(closed)
