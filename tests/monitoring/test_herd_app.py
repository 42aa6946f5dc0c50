"""The monitoring of a program that uses a Herd, mounted into a server of that program."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Mount

from herdmaster import BacklogFull, ConfigurationError, DuplicateTask, Herd, NotSubmitted, monitoring
from herdmaster.api.internals import core_of
from herdmaster.monitoring.server import bind, serve
from herdmaster.testing.child_server import ChildServer
from herdmaster.testing.ports import free_ports
from tests.api.znodes import expire, session_of
from tests.monitoring.test_server import ask


@pytest.fixture
def herd(namespace: str) -> Iterator[Herd]:
    with Herd(namespace, session_timeout=2.0, submit_timeout=20.0) as herd:
        yield herd


@asynccontextmanager
async def served(herd: Herd) -> AsyncIterator[int]:
    app = Starlette(routes=[Mount("/monitoring", app=monitoring.app(herd))])
    listening = bind("127.0.0.1:0")
    serving = asyncio.ensure_future(serve(app, listening))
    try:
        yield listening.getsockname()[1]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def scrape(port: int) -> dict[tuple[str, ...], float]:
    status, text = await ask(port, "/monitoring/metrics")
    assert status == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until_ready(port: int) -> None:
    async with asyncio.timeout(20):
        while (await ask(port, "/monitoring/readyz"))[0] != 200:
            await asyncio.sleep(0.01)


@pytest.mark.long
async def test_a_probe_opens_the_session_and_submissions_and_requests_are_measured(herd: Herd) -> None:
    async with served(herd) as port:
        assert (await scrape(port))["herd_zookeeper_connected",] == 0
        await until_ready(port)
        await herd.submit_call_async("m:f", queue="mail")
        await herd.submit_raw_async(b"x")
        await herd.submit_call_async("m:f", key="k")
        with pytest.raises(DuplicateTask):
            await herd.submit_call_async("m:f", key="k", on_duplicate="error")
        with pytest.raises(BacklogFull):
            await herd.submit_call_async("m:f", max_backlog=1)
        found = await scrape(port)

        counted = {key[1:]: value for key, value in found.items() if key[0] == "herd_submissions_total"}
        assert counted == {
            ("mail", "accepted"): 1, ("default", "accepted"): 2, ("default", "duplicate"): 1,
            ("default", "backlog full"): 1,
        }  # fmt: skip
        assert found["herd_zookeeper_request_duration_seconds_count", "multi"] >= 1
        assert found["herd_zookeeper_connected",] == 1
        assert await ask(port, "/monitoring/livez") == (200, "ok\n")
        assert (await ask(port, "/monitoring/scale?queue=mail")) == (200, '{"queue":"mail","slots_wanted":1}')


@pytest.mark.long
async def test_lost_sessions_are_counted(herd: Herd, shared_zookeeper: ChildServer) -> None:
    async with served(herd) as port:
        await until_ready(port)
        await asyncio.to_thread(expire, shared_zookeeper.hosts, session_of(herd))
        async with asyncio.timeout(20):
            while not (await scrape(port))["herd_zookeeper_session_expirations_total",]:
                await asyncio.sleep(0.01)
        await until_ready(port)


@pytest.mark.long
async def test_a_herd_that_is_in_use_already_is_counted_from_then_on_once_for_all_applications(herd: Herd) -> None:
    await herd.submit_raw_async(b"before")
    monitoring.app(herd)
    await herd.submit_raw_async(b"after")
    async with served(herd) as port:
        assert (await scrape(port))["herd_submissions_total", "default", "accepted"] == 1


@pytest.mark.long
async def test_what_is_not_accepted_is_counted_and_readiness_says_why() -> None:
    (unused,) = free_ports(1)
    with Herd(f"127.0.0.1:{unused}", submit_timeout=0.2, connect_timeout=0.1) as herd:
        async with served(herd) as port:
            with pytest.raises(NotSubmitted):
                await herd.submit_raw_async(b"x")
            assert (await scrape(port))["herd_submissions_total", "default", "not accepted"] == 1
            status, text = await ask(port, "/monitoring/readyz")
            assert (status, text.startswith("the client has no session with ZooKeeper: ")) == (503, True)
            assert await ask(port, "/monitoring/livez") == (200, "ok\n")


async def test_a_closed_herd_is_not_ready(herd: Herd) -> None:
    async with served(herd) as port:
        herd.close()
        status, text = await ask(port, "/monitoring/readyz")
        assert (status, "this Herd is closed" in text) == (503, True)
        assert (await ask(port, "/monitoring/scale"))[0] == 503
        assert (await scrape(port))["herd_zookeeper_connected",] == 0


def test_a_herd_is_not_kept_alive_by_its_metrics() -> None:
    herd = Herd("127.0.0.1:1")
    core = weakref.ref(core_of(herd))
    monitoring.app(herd)
    gc.collect()  # the application, which has circles in itself
    gc.disable()
    try:
        del herd
        assert core() is None
    finally:
        gc.enable()


def test_without_the_extra_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "herdmaster.monitoring.herd_app", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'herdmaster\[monitoring\]'"):
        monitoring.app(Herd("127.0.0.1:1"))


async def test_without_an_application_nothing_is_counted(herd: Herd) -> None:
    await herd.submit_raw_async(b"x")
    io_thread = core_of(herd).started()
    assert io_thread._submissions.count is None
    assert io_thread._client.system.instruments.measure_requests is None
