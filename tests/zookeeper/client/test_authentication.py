"""Clients that authenticate: by SASL DIGEST-MD5 and digest, again after every reconnect, with passwords that change."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from herdmaster.testing.apache import ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.testing.ports import free_ports
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Predecessors, Security, credentials
from herdmaster.zookeeper.client.connection import boot_clock
from herdmaster.zookeeper.client.credentials import Credential, Digest, Sasl
from herdmaster.zookeeper.model import CREATOR_ALL_ACL, ClientInfo, CreateMode, EventType, SessionState
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.server import EmbeddedServer
from herdmaster.zookeeper.server.settings import Access
from tests.zookeeper.client.sessions import PATIENCE, Events, States, wait_until

USERS = {"al": "pw", "bo": "p\u00f6\u20ac"}
AL = Sasl("al", "pw")


@asynccontextmanager
async def serving(
    users: dict[str, str] | None = None, *, required: tuple[str, ...] = (), port: int = 0
) -> AsyncIterator[EmbeddedServer]:
    """An embedded server in this loop. `users` may change while it runs."""
    secrets = _Users(USERS if users is None else users)
    access = Access(secrets, required) if secrets.users else Access(required_schemes=required)
    async with EmbeddedServer(port=port, min_session_timeout=300, access=access) as server:
        yield server


class _Users(dict[str, Secret]):
    def __init__(self, users: dict[str, str]) -> None:
        super().__init__({user: Secret(b"") for user in users})
        self.users = users

    def get(self, user: str, default: object = None) -> Secret | None:  # type: ignore[override]  # as it is called
        return Secret(self.users[user].encode()) if user in self.users else None


def client_of(hosts: str, *auth: Credential, session_timeout: float = 4.0) -> Client:
    return Client(hosts, session_timeout=session_timeout, connect_timeout=PATIENCE, security=Security(auth=auth))


async def reconnect(server: EmbeddedServer, client: Client) -> None:
    states = States()
    client.add_listener(states)
    server.drop_connections(client.session_id)
    await states.wait_for(SessionState.DISCONNECTED)
    await wait_until(lambda: client.state is not SessionState.DISCONNECTED)
    client.remove_listener(states)


@pytest.mark.parametrize("user", USERS)
async def test_sasl_proves_a_user(user: str) -> None:
    async with serving() as server, client_of(server.hosts, Sasl(user, USERS[user])) as client:
        assert ClientInfo("sasl", user) in await client.who_am_i()


async def test_sasl_and_digests_count_together() -> None:
    async with serving() as server, client_of(server.hosts, AL, Digest("di", "pw"), Digest("do", "pw")) as client:
        await client.create("/a", acl=CREATOR_ALL_ACL)
        acl, _ = await client.get_acl("/a")
        assert [entry.id.id.partition(":")[0] for entry in acl] == ["al", "di", "do"]


async def test_after_a_reconnect_the_session_authenticates_before_its_watches_and_requests() -> None:
    async with serving(required=("sasl",)) as server, client_of(server.hosts, AL, Digest("di", "pw")) as client:
        await client.create("/a", acl=CREATOR_ALL_ACL)
        await client.add_credential("digest", b"do:pw")
        events = Events()
        await client.add_watch("/a", events)
        before = set(await client.who_am_i())
        for _ in range(3):
            await reconnect(server, client)
            assert set(await client.who_am_i()) == before
        await client.set("/a", b"x")
        await events.wait()
        assert events.seen == [(EventType.DATA_CHANGED.name, "/a")]


async def test_after_a_failover_the_session_authenticates_with_the_other_server(tmp_path: Path) -> None:
    ports = free_ports(2)
    access = Access({"al": Secret(b"pw")}, ("sasl",))
    first, second = (EmbeddedServer(port=port, data_dir=tmp_path, access=access) for port in ports)
    await first.start()
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    client = await client_of(hosts, AL).open()
    session_id = client.session_id
    await first.stop()
    async with second:
        assert ClientInfo("sasl", "al") in await client.who_am_i()
        assert client.session_id == session_id
        await client.close()


@pytest.mark.parametrize("required", [(), ("sasl",)], ids=["free", "required"])
@pytest.mark.parametrize("auth", [Sasl("al", "wrong"), Sasl("unknown", "pw")], ids=["password", "user"])
async def test_a_wrong_user_or_password_is_one_error_at_once(required: tuple[str, ...], auth: Sasl) -> None:
    async with serving(required=required) as server:
        began = time.monotonic()
        with pytest.raises(errors.AuthenticationFailed, match="SASL DIGEST-MD5: user or password is wrong"):
            await client_of(server.hosts, auth).open()
        assert time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_package_that_fails_in_an_unforeseen_way_is_one_error_at_once(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def answer(_self: object, _token: bytes | None) -> bytes | None:
        raise error

    monkeypatch.setattr(credentials._DigestMd5, "answer", answer)
    async with serving() as server:
        with pytest.raises(errors.AuthenticationFailed, match=f"SASL has failed with {error.__name__}"):
            await client_of(server.hosts, AL).open()


async def test_a_server_without_sasl_is_one_error_at_once() -> None:
    async with serving({}) as server:
        with pytest.raises(errors.AuthenticationFailed, match="the server did not answer SASL DIGEST-MD5"):
            await client_of(server.hosts, AL).open()


@pytest.mark.parametrize("auth", [(), (Digest("al", "pw"),)], ids=["nothing", "digest"])
async def test_a_server_that_wants_sasl_says_so_once(auth: tuple[Credential, ...]) -> None:
    async with serving(required=("sasl",)) as server:
        client = client_of(server.hosts, *auth)
        with pytest.raises(errors.AuthenticationFailed, match=r"takes only clients that have authenticated, by SASL"):
            async with client:
                await client.get("/")
        assert client.state is SessionState.AUTH_FAILED
        await asyncio.sleep(0)
        assert len(server.machine.connections) <= 1, "it must not try again"


def make_apache(settings: dict[str, str | None]) -> ApacheZooKeeper:
    try:
        return ApacheZooKeeper(settings=settings)
    except ZooKeeperNotInstalled as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))


@pytest.mark.long
@pytest.mark.apache
async def test_apaches_server_that_enforces_a_scheme_takes_its_clients_again_and_no_others() -> None:
    settings: dict[str, str | None] = {
        "enforce.auth.enabled": "true",
        "enforce.auth.schemes": "digest",
        "maxSessionTimeout": "60000",
    }
    with make_apache(settings) as server:
        async with client_of(server.hosts, Digest("al", "pw"), session_timeout=40.0) as client:
            session_id = client.session_id
            await asyncio.to_thread(server.restart)
            assert ClientInfo("digest", "al") in await client.who_am_i()
            assert client.session_id == session_id
        other = client_of(server.hosts)
        with pytest.raises(errors.AuthenticationFailed, match=r"takes only clients that have authenticated"):
            async with other:
                await other.get("/")
        assert other.state is SessionState.AUTH_FAILED


async def test_a_password_that_changed_on_the_server_ends_the_session_after_a_reconnect() -> None:
    users = {"al": "pw"}
    async with serving(users) as server, client_of(server.hosts, AL) as client:
        users["al"] = "new"
        await reconnect(server, client)
        with pytest.raises(errors.AuthenticationFailed):
            await client.get("/")
        assert client.state is SessionState.AUTH_FAILED


async def test_a_session_that_was_given_up_is_closed_on_a_server_that_wants_sasl() -> None:
    predecessors = Predecessors()
    async with serving(required=("sasl",)) as server:
        security = Security(auth=(AL, Digest("di", "pw")))
        ahead = 0.0
        old = Client(server.hosts, security=security, clock=lambda: boot_clock() + ahead, predecessors=predecessors)
        async with old, client_of(server.hosts, AL) as other:
            await old.create("/held", mode=CreateMode.EPHEMERAL)
            ahead = 100.0  # as if nothing had been heard for so long
            with pytest.raises(errors.SessionExpired):
                await old.get("/held")
            assert await other.exists("/held") is not None
            async with Client(server.hosts, security=security, predecessors=predecessors):
                await wait_until(lambda: len(predecessors) == 0)
                assert await other.exists("/held") is None, "it did not lapse by itself"


class TestPasswords:
    @pytest.mark.parametrize("kind", [Digest, Sasl])
    async def test_files_and_functions_are_read_for_every_connection(self, kind: type[Sasl], tmp_path: Path) -> None:
        users = {"al": "one"}
        file = tmp_path / "password"
        whole = tmp_path / "user-and-password"
        for auth in (kind("al", file), kind("al", lambda: users["al"]), kind.from_file(whole)):
            users["al"] = "one"
            file.write_text("one\n")
            whole.write_text("al:one\n")
            async with serving(users) as server, client_of(server.hosts, auth) as client:
                before = await client.who_am_i()
                users["al"] = "two"
                file.write_text("two\r\n")
                whole.write_text("al:two")
                await reconnect(server, client)
                assert await client.who_am_i() == before

    async def test_a_function_does_not_block_the_session(self) -> None:
        called_on: list[bool] = []

        def slowly() -> str:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                called_on.append(True)
            return "pw"

        async with serving() as server, client_of(server.hosts, Sasl("al", slowly)):
            assert called_on == [True]

    @pytest.mark.parametrize("make", ["absent", "empty", "two lines", "raises", "wrong type"])
    async def test_no_password_is_one_error_before_the_first_session(
        self, make: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "password"
        if make in ("empty", "two lines"):
            file.write_text("" if make == "empty" else "a\nb\n")

        def raises() -> str:
            raise LookupError("the vault is sealed")

        sources: dict[str, Path | Callable[[], str]] = {"raises": raises, "wrong type": lambda: 7}  # type: ignore[dict-item, return-value]  # the mistake
        async with serving() as server:
            began = time.monotonic()
            with pytest.raises(errors.CredentialUnavailable):
                await client_of(server.hosts, Sasl("al", sources.get(make, file))).open()
            assert time.monotonic() - began < PATIENCE / 2
        assert "trying again" not in caplog.text

    async def test_a_file_that_is_away_during_a_reconnect_is_waited_for(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "password"
        file.write_text("pw")
        async with serving() as server, client_of(server.hosts, Sasl("al", file)) as client:
            session_id = client.session_id
            file.unlink()
            with caplog.at_level(logging.WARNING):
                server.drop_connections(session_id)
                await wait_until(lambda: "cannot be read" in caplog.text)
            file.write_text("pw")
            assert ClientInfo("sasl", "al") in await client.who_am_i()
            assert client.session_id == session_id
            assert caplog.text.count("cannot be read") == 1


class TestCredentials:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: Digest("", "pw"),
            lambda: Digest("a:b", "pw"),
            lambda: Digest("al", ""),
            lambda: Digest("al", "x" * 5000),
            lambda: Sasl("al", b"pw"),  # type: ignore[arg-type]  # the mistake
            lambda: Sasl(7, "pw"),  # type: ignore[arg-type]  # the mistake
        ],
    )
    def test_what_cannot_work_is_refused_when_it_is_made(self, make: Callable[[], object]) -> None:
        with pytest.raises(errors.InvalidCredential):
            make()
