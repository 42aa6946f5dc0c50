"""Submissions when connections and sessions are lost: accepted once, or told what is known."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from herdmaster import Future, Herd, HerdError, NotSubmitted, OutcomeGone, SubmissionUnknown
from herdmaster.testing.child_server import ChildServer
from tests.api import tasks
from tests.api.proxy import Proxy
from tests.api.tasks import App
from tests.api.znodes import Znodes, expire, session_of, wait_until
from tests.begin_call import begin_call


@pytest.fixture
def proxy(shared_zookeeper: ChildServer) -> Iterator[Proxy]:
    with Proxy(shared_zookeeper.hosts) as proxy:
        yield proxy


def _through(proxy: Proxy, hosts: str) -> str:
    return proxy.hosts + hosts[hosts.index("/") :]


# --- no server --------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_task_is_not_submitted_when_no_server_is_reachable(unreachable: str, make_herd: Callable[..., Herd]) -> None:
    app = App(make_herd(unreachable, submit_timeout=1.5, connect_timeout=0.2))
    started = time.monotonic()

    with pytest.raises(NotSubmitted) as caught:
        app.add.submit(2, 3)
    assert 1.4 < time.monotonic() - started < 20
    assert str(caught.value).startswith("task-")
    assert f"no session with {unreachable} within 0.2 s" in str(caught.value)
    assert "is ZooKeeper running?" in str(caught.value)


@pytest.mark.long
async def test_a_loop_is_told_the_same(unreachable: str, make_herd: Callable[..., Herd]) -> None:
    app = App(make_herd(unreachable, submit_timeout=1.0, connect_timeout=0.2))

    with pytest.raises(NotSubmitted, match="is ZooKeeper running"):
        await app.add.submit_async(2, 3)
    with pytest.raises(NotSubmitted, match="is ZooKeeper running"):
        async for _ in app.add.map([1], [2]):
            pass


@pytest.mark.long
def test_the_items_of_a_map_are_told_too(unreachable: str, make_herd: Callable[..., Herd]) -> None:
    app = App(make_herd(unreachable, submit_timeout=0.4, connect_timeout=0.2))

    with pytest.raises(NotSubmitted):
        list(app.add.map([1], [2]))
    future: Future[object] = begin_call(app.herd, "m:f", queue="default", priority=5)
    with pytest.raises(NotSubmitted):
        future.result(10)


@pytest.mark.long
def test_what_was_not_submitted_is_not_submitted_later(
    shared_zookeeper: ChildServer,
    proxy: Proxy,
    namespace: str,
    make_herd: Callable[..., Herd],
    znodes: Callable[[str], Znodes],
) -> None:
    proxy.cut(refuse=True)
    app = App(make_herd(_through(proxy, namespace), submit_timeout=0.4))
    with pytest.raises(NotSubmitted):
        app.add.submit(2, 3)
    proxy.accept()

    core = app.herd._core
    core.settings = msgspec.structs.replace(core.settings, submit_timeout=20.0)
    core.started()._submissions._unsettled._patience = 20.0
    accepted = app.add.submit(4, 5)
    assert znodes(namespace).children("tasks") == [accepted.name]


@pytest.mark.fallback("_RETRY_SECONDS")  # the pause before the next attempt
def test_a_reason_that_is_over_is_not_given_any_more(
    proxy: Proxy, namespace: str, make_herd: Callable[..., Herd]
) -> None:
    proxy.cut(refuse=True)
    herd = make_herd(_through(proxy, namespace), connect_timeout=0.1)
    runtime = herd._core.started()
    wait_until(lambda: runtime._client.fault is not None, "an attempt has failed")
    proxy.accept()
    herd.submit_raw(b"x")

    assert runtime._client.fault is None


# --- the connection --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _losing_the_reply(proxy: Proxy, applied: Callable[[], bool], *, refuse: bool) -> Iterator[None]:
    """Submissions in the block are accepted, but the connection is cut before the reply."""
    proxy.hold_replies_to(b"tests.api.tasks:count")

    def cut() -> None:
        wait_until(applied, "the submission is applied")
        proxy.cut(refuse=refuse)

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        yield
    finally:
        cutting.join()


@pytest.mark.long
def test_it_is_unknown_whether_a_submission_without_reply_was_accepted(
    proxy: Proxy, namespace: str, make_herd: Callable[..., Herd], znodes: Callable[[str], Znodes]
) -> None:
    app = App(make_herd(_through(proxy, namespace), submit_timeout=3.0))
    app.add.submit(0, 0)

    with (
        _losing_the_reply(proxy, lambda: len(znodes(namespace).children("tasks")) == 2, refuse=True),
        pytest.raises(SubmissionUnknown) as caught,
    ):
        app.count.submit("x")
    (name,) = caught.value.names
    assert name in str(caught.value)
    assert "herd.future(name)" in str(caught.value)
    assert znodes(namespace).has(f"tasks/{name}")


@pytest.mark.long
async def test_it_is_unknown_in_a_loop_too(
    proxy: Proxy, namespace: str, make_herd: Callable[..., Herd], znodes: Callable[[str], Znodes]
) -> None:
    app = App(make_herd(_through(proxy, namespace), submit_timeout=3.0))
    await app.add.submit_async(0, 0)

    with (
        _losing_the_reply(proxy, lambda: len(znodes(namespace).children("tasks")) == 2, refuse=True),
        pytest.raises(SubmissionUnknown),
    ):
        await app.count.submit_async("x")


@pytest.mark.long
def test_an_unknown_submission_can_be_waited_for_by_its_name(
    proxy: Proxy, served: str, make_herd: Callable[..., Herd]
) -> None:
    app = App(make_herd(_through(proxy, served), submit_timeout=3.0))
    assert app.add.submit(0, 0).result(10) == 0
    key = f"{served}-unknown"

    with (
        _losing_the_reply(proxy, lambda: tasks.executions[key] == 1, refuse=True),
        pytest.raises(SubmissionUnknown) as caught,
    ):
        app.count.submit(key)
    proxy.accept()
    assert app.herd.future(caught.value.names[0]).result(20) == key
    assert tasks.executions[key] == 1


def test_a_submission_whose_reply_was_lost_is_accepted_once(
    proxy: Proxy, namespace: str, make_herd: Callable[..., Herd], znodes: Callable[[str], Znodes]
) -> None:
    app = App(make_herd(_through(proxy, namespace)))
    names = [app.add.submit(0, 0).name]
    for _ in range(5):
        seen = len(names)
        with _losing_the_reply(
            proxy,
            lambda seen=seen: len(znodes(namespace).children("tasks")) > seen,  # type: ignore[misc]
            refuse=False,
        ):
            names.append(app.count.submit("x").name)

    assert znodes(namespace).children("tasks") == sorted(names)


def test_outcomes_arrive_although_connections_are_cut_again_and_again(
    proxy: Proxy, served: str, make_herd: Callable[..., Herd]
) -> None:
    app = App(make_herd(_through(proxy, served)))
    stop = threading.Event()

    def cut_often() -> None:
        pause = 0.1
        while not stop.wait(pause):
            proxy.cut()
            pause *= 1.1  # at a fixed pace a slow machine would get no request through

    cutting = threading.Thread(target=cut_often)
    cutting.start()
    try:
        keys = [f"{served}-cut-{number}" for number in range(400)]
        assert list(app.count.map(keys, window=100, timeout=30)) == keys
    finally:
        stop.set()
        cutting.join()
    assert proxy.connections > 2
    assert [tasks.executions[key] for key in keys] == [1] * 400


# --- the session -----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_session_that_expires_loses_and_doubles_nothing(
    app: App, shared_zookeeper: ChildServer, served: str, gate: str
) -> None:
    waiting = app.wait.submit(gate)
    keys = [f"{served}-expiry-{number}" for number in range(300)]
    results = iter(app.count.map(keys, window=50, timeout=30))
    sessions = set()
    seen = [next(results)]
    for _ in range(3):
        session = session_of(app.herd)
        sessions.add(session[0])
        expire(shared_zookeeper.hosts, session)
        seen += [next(results) for _ in range(80)]
        assert app.add.submit(2, 3).result(20) == 5
        wait_until(lambda: app.herd._core.started()._client.outcomes._client is not None, "there is a session again")
    seen += results
    tasks.gates[gate].set()

    assert seen == keys
    assert waiting.result(20) == gate
    assert [tasks.executions[key] for key in keys] == [1] * 300
    assert len(sessions) == 3


@pytest.mark.long
def test_submissions_are_accepted_once_while_sessions_expire(
    quiet: App, shared_zookeeper: ChildServer, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    quiet.add.submit(0, 0)
    stop = threading.Event()
    names: list[str] = []

    def submit(number: int) -> None:
        names.append(quiet.add.submit(number, number).name)

    def expire_often() -> None:
        seen = -1
        while not stop.wait(0.2):
            if len(names) == seen:
                continue  # a session may need longer than this to accept the next
            seen = len(names)
            runtime = quiet.herd._core.started()
            client = runtime._client.outcomes._client
            if client is not None and client.state.name == "CONNECTED":
                expire(shared_zookeeper.hosts, (client.client_id.session_id, client.client_id.password))

    expiring = threading.Thread(target=expire_often)
    expiring.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(submit, range(200)))
    finally:
        stop.set()
        expiring.join()

    assert len(set(names)) == 200
    assert set(names) < set(znodes(namespace).children("tasks"))
    assert len(znodes(namespace).children("tasks")) == 201


@pytest.mark.long
def test_a_session_that_lapses_while_no_server_is_reachable_loses_nothing(
    proxy: Proxy, served: str, make_herd: Callable[..., Herd], gate: str
) -> None:
    app = App(make_herd(_through(proxy, served), session_timeout=0.4, connect_timeout=0.3))
    future = app.wait.submit(gate)
    session, _ = session_of(app.herd)
    proxy.cut(refuse=True)
    wait_until(lambda: app.herd._core.started()._client.outcomes._client is None, "the session has lapsed")
    tasks.gates[gate].set()
    with ThreadPoolExecutor(1) as threads:
        submitting = threads.submit(app.add.submit, 2, 3)
        proxy.accept()
        assert submitting.result(20).result(20) == 5

    assert future.result(20) == gate
    assert session_of(app.herd)[0] != session


# --- giving up -------------------------------------------------------------------------------------------------------


async def test_a_cancelled_submission_that_had_not_left_is_not_submitted(
    proxy: Proxy, namespace: str, make_herd: Callable[..., Herd], znodes: Callable[[str], Znodes]
) -> None:
    proxy.cut(refuse=True)
    app = App(make_herd(_through(proxy, namespace)))
    submitting = asyncio.ensure_future(app.add.submit_async(2, 3))
    await asyncio.sleep(0.05)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    proxy.accept()

    accepted = await app.add.submit_async(4, 5)
    assert znodes(namespace).children("tasks") == [accepted.name]


def test_closing_ends_the_wait_of_those_who_submit(unreachable: str, make_herd: Callable[..., Herd]) -> None:
    app = App(make_herd(unreachable, submit_timeout=60.0))
    errors: list[HerdError] = []
    begun = threading.Barrier(3)

    def submit() -> None:
        begun.wait(10)
        try:
            app.add.submit(2, 3)
        except HerdError as error:
            errors.append(error)

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    wait_until(
        lambda: app.herd._core._io_thread is not None and len(app.herd._core._io_thread._submissions) == 2, "both wait"
    )
    started = time.monotonic()
    app.herd.close()
    for thread in threads:
        thread.join(10)

    assert time.monotonic() - started < 20
    assert [type(error) for error in errors] == [NotSubmitted] * 2
    assert all("was not accepted before the Herd was closed" in str(error) for error in errors)


def test_a_task_that_never_was_accepted_is_gone(quiet: App) -> None:
    with pytest.raises(OutcomeGone):
        quiet.herd.future("task-01h00000000000000000000000.default").result(20)
