"""SASL GSSAPI against Apache's server, with a KDC of this test's own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.testing.apache import QUICK_START, ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Credential, Kerberos, Sasl, Security
from herdmaster.zookeeper.model import CREATOR_ALL_ACL, Acl, ClientInfo, Id
from tests.conformance.rig import SASL_PROVIDER
from tests.kerberos import REALM, Realm, require
from tests.zookeeper.client.sessions import PATIENCE, kick, wait_until

pytestmark = [pytest.mark.apache, pytest.mark.long]

AL = f"al@{REALM}"
LIFETIME = 2
"""Seconds of the tickets that expire."""


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    require()
    with Realm(tmp_path_factory.mktemp("realm"), ["al", "bo", "short"]) as running:
        running.limit("short", seconds=LIFETIME)
        yield running


@pytest.fixture(scope="module")
def server(realm: Realm) -> Iterator[str]:
    """A connect string."""
    settings = {**SASL_PROVIDER, "sessionRequireClientSASLAuth": "true"}
    try:
        apache = ApacheZooKeeper(settings=settings, java_options=(*QUICK_START, *realm.java_options))
    except ZooKeeperNotInstalled as reason:
        pytest.skip(str(reason))
    with apache:
        yield f"localhost:{apache.port}"


@pytest.fixture(autouse=True)
def _in_the_realm(realm: Realm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(realm.config))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/cache")


def client_of(hosts: str, auth: Credential, session_timeout: float = 4.0) -> Client:
    return Client(hosts, session_timeout=session_timeout, connect_timeout=PATIENCE, security=Security(auth=(auth,)))


def cache() -> Path:
    return Path(os.environ["KRB5CCNAME"].removeprefix("FILE:"))


async def test_a_keytab_proves_its_principal_again_after_a_reconnect(realm: Realm, server: str) -> None:
    async with client_of(server, Kerberos("al", keytab=realm.keytab("al"))) as client:
        for _ in range(2):
            assert ClientInfo("sasl", AL) in await client.who_am_i()
            await kick(server, client)
        path = await client.create(f"/{time.monotonic_ns()}", acl=CREATOR_ALL_ACL)
        assert (await client.get_acl(path))[0] == (Acl(31, Id("sasl", AL)),)
        async with client_of(server, Kerberos(keytab=realm.keytab("bo"))) as other:
            with pytest.raises(errors.NoAuth):
                await other.get(path)
        await client.delete(path)


async def test_a_ticket_of_the_cache_proves_its_principal(realm: Realm, server: str) -> None:
    realm.kinit("al", cache(), seconds=60)
    async with client_of(server, Kerberos()) as client:
        assert ClientInfo("sasl", AL) in await client.who_am_i()


async def test_an_expired_ticket_is_replaced_from_the_keytab_and_awaited_in_the_cache(
    realm: Realm, server: str
) -> None:
    realm.kinit("al", cache(), seconds=LIFETIME)
    by_keytab = client_of(server, Kerberos("short", keytab=realm.keytab("short")))
    by_cache = client_of(server, Kerberos())
    async with by_keytab, by_cache:
        sessions = by_keytab.session_id, by_cache.session_id
        await asyncio.sleep(LIFETIME + 2)  # the servers and the library allow for a second of skew
        await kick(server, by_keytab)
        assert ClientInfo("sasl", f"short@{REALM}") in await by_keytab.who_am_i()
        await kick(server, by_cache, comes_back=False)
        asking = asyncio.ensure_future(by_cache.who_am_i())
        await wait_until(lambda: "no ticket" in ((by_cache._connection and by_cache._connection.last_fault) or ""))
        realm.kinit("al", cache(), seconds=60)
        assert ClientInfo("sasl", AL) in await asking
        assert (by_keytab.session_id, by_cache.session_id) == sessions


@pytest.mark.parametrize("kind", ["no ticket", "no keytab", "no such service", "no such key"])
async def test_no_ticket_is_one_error_at_once(realm: Realm, server: str, kind: str) -> None:
    keytab = realm.keytab("unknown" if kind == "no keytab" else "al")
    service = "other" if kind == "no such service" else "zookeeper"
    name = "bo" if kind == "no such key" else "al"
    auth = Kerberos() if kind == "no ticket" else Kerberos(name, keytab=keytab, service=service)
    says = "Kerberos: no ticket for .*: it has no key of bo" if kind == "no such key" else "Kerberos: "
    began = time.monotonic()
    with pytest.raises(errors.CredentialUnavailable, match=says):
        await client_of(server, auth).open()
    assert time.monotonic() - began < PATIENCE / 2


async def test_another_mechanism_than_the_server_s_is_one_error_at_once(server: str) -> None:
    with pytest.raises(errors.AuthenticationFailed, match="SASL DIGEST-MD5"):
        await client_of(server, Sasl("al", "pw")).open()
