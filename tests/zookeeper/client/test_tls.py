"""Connections over TLS: what works, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster import TLS
from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.zookeeper.client import Client, Security, dialing
from herdmaster.zookeeper.client.connection import NO_ANSWER_YET
from herdmaster.zookeeper.errors import InvalidTls, NoServerReachable
from herdmaster.zookeeper.model import ClientInfo
from herdmaster.zookeeper.tls import client_context
from tests.authority import Authority
from tests.zookeeper.client.sessions import wait_until

pytestmark = pytest.mark.long


@contextlib.contextmanager
def serving(tls: TLS, secure_port: int | None = None) -> Iterator[EmbeddedZooKeeper]:
    with EmbeddedZooKeeper(tls=tls, secure_port=secure_port) as server:
        yield server


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[EmbeddedZooKeeper]:
    """A server with a plain port and a port for TLS, which takes clients without certificates."""
    with serving(authority.server.tls(ca=None), 0) as found:
        yield found


@pytest.fixture(scope="module")
def strict(authority: Authority) -> Iterator[EmbeddedZooKeeper]:
    """A server that takes only clients with certificates."""
    with serving(authority.server.tls()) as found:
        yield found


async def who_am_i(hosts: str, tls: TLS | None) -> list[tuple[str, str]]:
    async with Client(hosts, connect_timeout=10.0, security=Security(tls)) as client:
        return [(each.scheme, each.user) for each in await client.who_am_i()]


async def fault_of(hosts: str, tls: TLS | None) -> str:
    """Return why the first attempt failed, without the address."""
    client = Client(hosts, security=Security(tls))
    opening = asyncio.ensure_future(client.open())
    async with asyncio.timeout(20):
        while client._connection is None or client._connection.last_fault == NO_ANSWER_YET:
            await asyncio.sleep(0.01)
    fault, advice = client._connection.last_fault, client._connection.advice
    assert advice == "", "advice that leads astray"
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    return fault.removeprefix(f"{hosts}: ")


async def test_a_client_speaks_tls(authority: Authority, server: EmbeddedZooKeeper) -> None:
    assert await who_am_i(server.secure_hosts, TLS(ca=authority.ca)) == [("ip", "127.0.0.1")]
    assert await who_am_i(server.hosts, None) == [("ip", "127.0.0.1")]


async def test_large_requests_and_replies_pass(authority: Authority, server: EmbeddedZooKeeper) -> None:
    data = bytes(range(256)) * 3900
    async with Client(server.secure_hosts, security=Security(TLS(ca=authority.ca))) as client:
        await client.create("/large", data)
        assert (await client.get("/large"))[0] == data
        await client.delete("/large")


async def test_the_subject_of_a_client_certificate_is_an_identity(
    authority: Authority, strict: EmbeddedZooKeeper
) -> None:
    found = await who_am_i(strict.hosts, authority.client.tls())
    assert found == [("ip", "127.0.0.1"), ("x509", "CN=client,OU=tests,O=Herdmaster")]


async def test_a_certificate_that_was_renewed_is_presented_by_the_next_connection(
    authority: Authority, strict: EmbeddedZooKeeper, tmp_path: Path
) -> None:
    def install(name: str) -> TLS:
        issued = authority.issue(name, hosts=())
        for source, target in ((issued.ca, "ca"), (issued.certificate, "certificate"), (issued.key, "key")):
            shutil.copy(source, tmp_path / target)
        return TLS(ca=tmp_path / "ca", certificate=tmp_path / "certificate", key=tmp_path / "key")

    async with Client(strict.hosts, connect_timeout=10.0, security=Security(install("before"))) as client:
        session_id = client.session_id
        assert ClientInfo("x509", "CN=before,OU=tests,O=Herdmaster") in await client.who_am_i()
        install("after")
        strict.drop_connections()
        while ClientInfo("x509", "CN=after,OU=tests,O=Herdmaster") not in await client.who_am_i():
            await asyncio.sleep(0.01)
        assert client.session_id == session_id


async def test_a_port_that_is_taken_for_the_other_one_is_told(
    authority: Authority, server: EmbeddedZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    assert "check that this is its port for TLS" in await fault_of(server.hosts, TLS(ca=authority.ca))
    caplog.clear()
    assert "this is a port for TLS: give TLS settings" in await fault_of(server.secure_hosts, None)
    # The server logs it beside the client.
    expected = "cannot take a client on 127.0.0.1: it does not speak TLS, and this is a port for TLS"
    await wait_until(lambda: expected in caplog.text)


async def test_a_server_that_is_away_is_no_fault_of_tls(authority: Authority) -> None:
    with EmbeddedZooKeeper(tls=authority.server.tls()) as gone:
        hosts = gone.hosts
    with pytest.raises(NoServerReachable, match=r"onnect.* is ZooKeeper running\?"):
        await Client(hosts, connect_timeout=0.3, security=Security(TLS(ca=authority.ca))).open()


async def test_the_error_of_a_client_tells_the_fault(authority: Authority, server: EmbeddedZooKeeper) -> None:
    hosts = server.hosts
    with pytest.raises(NoServerReachable) as caught:
        await Client(hosts, connect_timeout=1, security=Security(TLS(ca=authority.ca))).open()
    assert str(caught.value) == (
        f"no session with {hosts} within 1 s ({hosts}: the server ended the connection during the TLS handshake: "
        "check that this is its port for TLS (secureClientPort))"
    )


async def test_an_unknown_authority_is_told(authority: Authority, server: EmbeddedZooKeeper, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    assert f"is of no authority in {other.ca}" in await fault_of(server.secure_hosts, TLS(ca=other.ca))
    assert "is of no authority in the system" in await fault_of(server.secure_hosts, TLS())


async def test_another_host_name_is_told(authority: Authority, server: EmbeddedZooKeeper) -> None:
    hosts = server.secure_hosts
    assert "is not for 'zk9'" in await fault_of(hosts, TLS(ca=authority.ca, server_name="zk9"))
    assert await who_am_i(hosts, TLS(ca=authority.ca, server_name="localhost"))
    with serving(authority.issue("elsewhere", hosts=("DNS:elsewhere",)).tls(ca=None)) as elsewhere:
        assert "is not for '127.0.0.1'" in await fault_of(elsewhere.hosts, TLS(ca=authority.ca))
        assert await who_am_i(elsewhere.hosts, TLS(ca=authority.ca, server_name="elsewhere"))


async def test_no_host_name_check_is_possible_and_loud(
    authority: Authority, server: EmbeddedZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    tls = TLS(ca=authority.ca, server_name="zk9", verify_host_name=False)
    for _ in range(2):
        caplog.clear()
        assert await who_am_i(server.secure_hosts, tls)
        assert "not verified" in caplog.text


async def test_an_expired_certificate_is_told(authority: Authority, strict: EmbeddedZooKeeper) -> None:
    expired = authority.issue("expired", days=-1)
    with serving(expired.tls(ca=None)) as server:
        assert "the server's certificate has expired" in await fault_of(server.hosts, TLS(ca=authority.ca))
    assert f"refused the certificate in {expired.certificate} (TLS alert: certificate expired)" in await fault_of(
        strict.hosts, expired.tls()
    )


async def test_a_missing_client_certificate_is_told(authority: Authority, strict: EmbeddedZooKeeper) -> None:
    assert "refused a client without a certificate" in await fault_of(strict.hosts, TLS(ca=authority.ca))


async def test_a_client_certificate_of_another_authority_is_told(
    authority: Authority, strict: EmbeddedZooKeeper, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "other").issue("stranger")
    fault = await fault_of(strict.hosts, stranger.tls(ca=authority.ca))
    assert f"refused the certificate in {stranger.certificate} (TLS alert: unknown ca)" in fault


async def test_a_password_callable_runs_on_a_thread_and_may_fail_for_a_while(
    authority: Authority, strict: EmbeddedZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    threads: list[int] = []

    def ask() -> str:
        threads.append(threading.get_ident())
        if 2 <= len(threads) < 5:  # the first is the check when the client is opened, the second its connection
            raise OSError("the vault is sealed")
        return "sesame-4711"

    tls = authority.issue("vault", password="sesame-4711").tls(key_password=ask)
    async with Client(strict.hosts, connect_timeout=10.0, security=Security(tls)) as client:
        assert await client.exists("/") is not None
    assert threading.get_ident() not in threads
    assert caplog.text.count("is not available: OSError: the vault is sealed") == 1


async def test_a_file_that_cannot_be_used_ends_the_attempt_at_once(server: EmbeddedZooKeeper, tmp_path: Path) -> None:
    with pytest.raises(InvalidTls, match=r"missing\.pem"):
        await Client(server.secure_hosts, security=Security(TLS(ca=tmp_path / "missing.pem"))).open()


async def test_a_file_that_goes_later_is_logged_once_and_the_session_waits_for_it(
    authority: Authority,
    server: EmbeddedZooKeeper,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = 0

    def count(tls: TLS) -> ssl.SSLContext:
        nonlocal attempts
        attempts += 1
        return client_context(tls)

    monkeypatch.setattr(dialing, "client_context", count)
    ca = tmp_path / "ca.pem"
    shutil.copy(authority.ca, ca)
    async with Client(server.secure_hosts, session_timeout=20.0, security=Security(TLS(ca=ca))) as client:
        ca.unlink()
        server.drop_connections()
        waiting = asyncio.ensure_future(client.exists("/"))
        while attempts < 5:
            await asyncio.sleep(0.01)
        shutil.copy(authority.ca, ca)
        assert await waiting is not None
    assert caplog.text.count(f"CA file {ca} cannot be read") == 1
