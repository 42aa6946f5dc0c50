"""A role's life: one session after the other, until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from herdmaster.core.layout import FOLDERS
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.shared import role
from herdmaster.roles.shared.bootstrap import open_client
from herdmaster.roles.shared.callbacks import StrayCancellation
from herdmaster.roles.shared.role import Role, run_until_first
from herdmaster.roles.shared.system import System
from herdmaster.testing.ports import free_ports
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.connection import boot_clock
from herdmaster.zookeeper.model import READ_ONLY_ACL, CreateMode, SessionState
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, request_of
from tests.roles.module_asyncio import replace_asyncio
from tests.roles.stage import Stage, StagedMaster, end_session, until

SESSION_TIMEOUT = 4.0

Serve = Callable[["Actor"], Awaitable[None]]


class Actor(Role):
    """Plays one scene per session, and the last one again and again."""

    def __init__(self, hosts: str, *scenes: Serve, connect_timeout: float = 5.0) -> None:
        super().__init__("actor", hosts)
        self._scenes = list(scenes)
        self._connect_timeout = connect_timeout
        self.sessions: list[Client] = []
        self.drained = 0

    async def open(self) -> Client:
        return await open_client(self.hosts, self.system, session_timeout=2.0, connect_timeout=self._connect_timeout)

    async def serve(self, client: Client) -> None:
        self.sessions.append(client)
        scene = self._scenes.pop(0) if len(self._scenes) > 1 else self._scenes[0]
        await scene(self)

    async def drain(self, client: Client) -> None:
        self.drained += 1


async def for_ever(_actor: Actor) -> None:
    await asyncio.Event().wait()


def raises(error: BaseException) -> Serve:
    async def scene(_actor: Actor) -> None:
        raise error

    return scene


async def returns(_actor: Actor) -> None:
    return


async def play(actor: Actor, sessions: int) -> None:
    """Until it is in its so-manieth session; then it is stopped."""
    running = asyncio.ensure_future(actor.run())
    try:
        await until(lambda: len(actor.sessions) == sessions or running.done(), f"{sessions} sessions")
    finally:
        actor.stop()
        await running


async def test_stopping_drains_ends_the_session_and_returns(namespace: str) -> None:
    actor = Actor(namespace, for_ever)
    await play(actor, 1)

    assert actor.drained == 1
    assert actor.sessions[0].state.is_final


@pytest.mark.parametrize(
    "scene",
    [
        returns,
        raises(errors.SessionExpired("over")),
        raises(errors.ConnectionLoss("lost")),
        raises(errors.NoNode("/tasks")),
        raises(errors.WireError("nonsense")),
        raises(errors.NoServerReachable("unreachable")),
    ],
    ids=["it returns", "expired", "connection lost", "refused", "nonsense", "no server there"],
)
async def test_whatever_ends_a_session_is_followed_by_another(namespace: str, scene: Serve) -> None:
    actor = Actor(namespace, scene, for_ever)
    await play(actor, 2)

    assert all(client.state.is_final for client in actor.sessions)
    assert actor.sessions[0].session_id != actor.sessions[1].session_id


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), asyncio.CancelledError()], ids=lambda error: type(error).__name__
)
async def test_a_fault_of_our_own_is_told_and_ends_no_role(
    namespace: str, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    actor = Actor(namespace, raises(error), for_ever)
    await play(actor, 2)

    assert any("a fault of Herdmaster's own" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("error", "is_refused"),
    [
        (errors.NoAuth("/tasks"), True),
        (errors.TransactionFailed(1, errors.NoAuth("/tasks")), True),
        (errors.NoNode("/tasks"), False),
        (errors.TransactionFailed(1, errors.NoNode("/tasks")), False),
    ],
    ids=["no right", "no right in a transaction", "no node", "no node in a transaction"],
)
def test_the_role_waits_for_an_operator_only_where_it_lacks_a_right(
    error: errors.ServerError, is_refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    actor = Actor("127.0.0.1:1", returns)
    for _ in range(2):
        actor._tell_refused(error)

    assert actor._is_refused == is_refused
    assert len(caplog.messages) == (1 if is_refused else 2)
    assert all(("trying again every" in message) == is_refused for message in caplog.messages)


@pytest.mark.long
async def test_what_ends_at_once_again_and_again_is_no_busy_loop(namespace: str) -> None:
    actor = Actor(namespace, raises(errors.SessionExpired("over")))
    began = time.monotonic()
    await play(actor, 6)

    assert time.monotonic() - began > 5 * 0.05
    assert actor._short_sessions >= 5


async def test_a_session_that_was_not_short_ends_the_row_of_short_ones(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "_SHORT_SESSION_SECONDS", 0.0)
    actor = Actor(namespace, returns)
    actor._short_sessions = 1
    await play(actor, 2)

    assert actor._short_sessions == 0


@pytest.mark.parametrize(("short", "times"), [(0, 1), (1, 2), (2, 4), (3, 8), (9, 8)])
async def test_the_pause_is_doubled_after_each_short_session_up_to_a_limit(
    short: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    actor = Actor("nowhere", returns)
    actor._short_sessions = short
    replace_asyncio(monkeypatch, role, sleep=sleep)
    for _ in range(50):
        await actor._pause()

    assert 0.05 * times <= min(pauses) < max(pauses) <= 0.2 * times


@pytest.mark.long
async def test_a_primary_that_gave_its_session_up_is_primary_again_before_that_lapses(stage: Stage) -> None:
    ahead = 0.0
    system = System(clock=lambda: boot_clock() + ahead)
    settings = MasterSettings(session_timeout=SESSION_TIMEOUT, connect_timeout=5.0)
    master = StagedMaster(stage.hosts, settings, system)
    stage.start(master)
    await until(lambda: master.is_primary, "a primary")
    old = master.session
    ahead = SESSION_TIMEOUT * 4 / 3  # as if no server had answered for so long
    await until(lambda: old.state is SessionState.EXPIRED, "the end of the session by the client's own clock")
    began = time.monotonic()
    await until(lambda: master.is_primary and master.session is not old, "the same master as primary")

    assert time.monotonic() - began < SESSION_TIMEOUT / 2
    assert len(master.predecessors) == 0


async def test_a_refused_credential_is_for_the_caller_to_mend(namespace: str) -> None:
    with pytest.raises(errors.AuthenticationFailed):
        await play(Actor(namespace, raises(errors.AuthenticationFailed("no")), for_ever), 2)


async def test_a_role_that_reaches_no_server_at_first_says_so() -> None:
    (port,) = free_ports(1)
    with pytest.raises(errors.NoServerReachable, match=rf"127.0.0.1:{port}.*is ZooKeeper running\?"):
        await Actor(f"127.0.0.1:{port}", for_ever, connect_timeout=0.3).run()


@pytest.mark.long
async def test_a_role_that_reaches_no_server_later_tries_again(namespace: str) -> None:
    async with Proxy(namespace) as proxy:

        async def lose_everything(actor: Actor) -> None:
            proxy.refuse()
            actor._connect_timeout = 0.2
            asyncio.get_running_loop().call_later(0.7, lambda: proxy.refuse(refusing=False))
            raise errors.SessionExpired("over")

        await play(Actor(proxy.hosts, lose_everything, for_ever), 2)


async def test_what_refuses_the_folders_at_first_is_raised_and_later_waited_out(stage: Stage) -> None:
    await stage.put("/shut")
    await stage.zk.set_acl("/shut", READ_ONLY_ACL)
    with pytest.raises(errors.NoAuth):
        await Actor(f"{stage.hosts}/shut", for_ever).run()


async def test_stopping_while_it_connects_returns_at_once() -> None:
    (port,) = free_ports(1)
    actor = Actor(f"127.0.0.1:{port}", for_ever, connect_timeout=60.0)
    running = asyncio.ensure_future(actor.run())
    await asyncio.sleep(0.05)
    began = time.monotonic()
    actor.stop()
    await running

    assert time.monotonic() - began < 20.0


async def test_stopping_before_it_runs_does_nothing_at_all(namespace: str) -> None:
    actor = Actor(namespace, for_ever)
    actor.stop()
    await actor.run()

    assert actor.sessions == []


async def test_a_cancelled_role_ends_its_session_too(stage: Stage) -> None:
    async def register(actor: Actor) -> None:
        await actor.sessions[-1].create("/mark", mode=CreateMode.EPHEMERAL)
        await for_ever(actor)

    running = asyncio.ensure_future(Actor(stage.hosts, register).run())
    await stage.until_exists("/mark")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert not await stage.exists("/mark")


async def test_a_session_that_was_opened_while_the_role_was_cancelled_is_not_forgotten(namespace: str) -> None:
    opened: list[Client] = []

    class Late(Actor):
        async def open(self) -> Client:
            opened.append(await super().open())
            running.cancel()  # at the very moment when the session is there
            return opened[-1]

    running = asyncio.ensure_future(Late(namespace, for_ever).run())
    with pytest.raises(asyncio.CancelledError):
        await running

    assert [client.state.is_final for client in opened] == [True]


async def test_a_session_whose_opening_ends_as_if_cancelled_is_a_fault(namespace: str) -> None:
    class Odd(Actor):
        async def open(self) -> Client:
            raise asyncio.CancelledError

    with pytest.raises(StrayCancellation):
        await Odd(namespace, for_ever).run()


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()], ids=["an error", "cancelled"])
async def test_a_fault_at_a_later_opening_is_told_and_ends_no_role(
    namespace: str, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    class Odd(Actor):
        opened = 0

        async def open(self) -> Client:
            self.opened += 1
            if self.opened == 2:
                raise error
            return await super().open()

    actor = Odd(namespace, returns, for_ever)
    await play(actor, 2)

    assert actor.opened == 3
    assert any("a fault of Herdmaster's own" in message for message in caplog.messages)


async def test_one_of_several_that_ends_as_if_cancelled_is_a_fault() -> None:
    async def be_odd() -> None:
        raise asyncio.CancelledError

    with pytest.raises(StrayCancellation):
        await run_until_first(asyncio.Event().wait(), be_odd())  # type: ignore[arg-type]  # its result is never seen


async def test_of_several_the_first_end_ends_all_and_its_error_is_raised() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("wait")

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_until_first(wait(), fail(), wait())
    assert ended == ["wait", "wait"]


# --- the namespace ---------------------------------------------------------------------------------------------------


async def test_opening_makes_the_namespace_and_its_folders(stage: Stage) -> None:
    client = await open_client(
        Actor(f"{stage.hosts}/a/b", for_ever).hosts, System(), session_timeout=2.0, connect_timeout=5.0
    )
    await client.close()

    assert await stage.names("/a/b") == sorted(folder[1:] for folder in FOLDERS)


async def test_many_may_make_the_namespace_at_the_same_time(stage: Stage) -> None:
    hosts = Actor(f"{stage.hosts}/a/b", for_ever).hosts
    clients = await asyncio.gather(
        *(open_client(hosts, System(), session_timeout=2.0, connect_timeout=5.0) for _ in range(5))
    )
    for client in clients:
        await client.close()

    assert len(await stage.names("/a/b")) == len(FOLDERS)


async def test_a_folder_whose_creation_got_no_reply_is_made_all_the_same(stage: Stage) -> None:
    async with Proxy(f"{stage.hosts}") as proxy:
        proxy.lose_reply(request_of(OpCode.CREATE, "/assign"))
        proxy.lose_request(request_of(OpCode.CREATE, "/status"))
        actor = Actor(proxy.hosts, for_ever)
        await play(actor, 1)

    assert len(await stage.names("/")) == len(FOLDERS)


async def test_a_session_that_ends_while_the_folders_are_made_is_followed_by_another(stage: Stage) -> None:
    async with Proxy(stage.hosts) as proxy:
        opened: list[Client] = []

        class Unlucky(Actor):
            async def open(self) -> Client:
                if not opened:
                    opened.append(Client(self.hosts, session_timeout=2.0))
                    await opened[0].open()
                    await end_session(opened[0], stage.hosts)
                    await opened[0].exists("/")
                return await super().open()

        await play(Unlucky(proxy.hosts, for_ever), 1)
        await opened[0].close()
