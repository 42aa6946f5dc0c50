"""A Herd in a closed namespace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from herdmaster import Digest, Herd, NotSubmitted
from herdmaster.api.internals import core_of
from herdmaster.core.access import Identity
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.testing.running import RunningRoles
from tests.closed import close_namespace, credential_of, reopen_namespace, security_of

pytestmark = pytest.mark.long


@pytest.fixture
def closed(namespace: str) -> Iterator[str]:
    hosts = asyncio.run(close_namespace(namespace))
    yield hosts
    asyncio.run(reopen_namespace(hosts, is_checked=True))


def double(number: int) -> int:
    return 2 * number


def test_a_client_submits_cancels_and_looks(closed: str) -> None:
    herd = Herd(closed, auth=credential_of(Identity.CLIENT), session_timeout=4.0)
    task = herd.task(double)
    functions = core_of(herd).registry.functions
    master = Master(closed, MasterSettings(session_timeout=4.0), System(security=security_of(Identity.MASTER)))
    settings = WorkerSettings(session_timeout=4.0, slots=2)
    worker = Worker(closed, functions, settings, system=System(security=security_of(Identity.WORKER)))
    with RunningRoles(worker, master), herd:
        assert task.submit(4).result(timeout=20) == 8
        assert list(task.map(range(50))) == list(range(0, 100, 2))
        late = task.options(delay=600, key="one").submit(1)
        found = herd.find(late.name)
        assert found is not None
        assert found.state == "delayed"
        assert herd.release_key("one", task=task) == late.name
        assert late.cancel(timeout=20)
        assert herd.history() is not None


@pytest.mark.parametrize("auth", [(), Digest("client", "another password")])
def test_a_program_without_an_identity_is_told_when_it_submits(closed: str, auth: Digest | tuple[()]) -> None:
    herd = Herd(closed, auth=auth, submit_timeout=2.0)
    with herd, pytest.raises(NotSubmitted, match=r"NoAuth: /access: this session lacks the right READ on /access"):
        _ = herd.task(double).submit(1)


def test_a_program_that_may_only_look_is_refused_at_once(closed: str) -> None:
    herd = Herd(closed, auth=credential_of(Identity.OBSERVER), submit_timeout=30.0)
    began = time.monotonic()
    with herd, pytest.raises(NotSubmitted, match="lacks the right CREATE on /clients"):
        _ = herd.task(double).submit(1)
    assert time.monotonic() - began < 10.0
