"""What is said while no server answers."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import socket

import pytest

from herdmaster import Herd, NotSubmitted
from herdmaster.testing.ports import free_ports
from herdmaster.zookeeper.client import Client, base
from herdmaster.zookeeper.errors import NoServerReachable


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(base, "LATE_SECONDS", 0.15)
    (port,) = free_ports(1)
    return f"127.0.0.1:{port}/namespace"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "herdmaster.connecting"]


@pytest.mark.parametrize("says_late", [True, False])
async def test_a_server_that_does_not_answer_is_told_once_before_the_error(
    nowhere: str, caplog: pytest.LogCaptureFixture, says_late: bool
) -> None:
    with pytest.raises(NoServerReachable):
        await Client(nowhere, connect_timeout=0.3, says_late=says_late).open()
    if not says_late:
        assert told(caplog) == []
        return
    (line,) = told(caplog)
    assert line.startswith(f"still trying {nowhere} ({nowhere.partition('/')[0]}: ")
    assert "Connect call failed" in line
    assert line.endswith("): is ZooKeeper running?")


async def test_a_server_that_accepts_and_does_not_answer_is_not_said_to_be_untried(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system accepts for it
        hosts = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NoServerReachable, match="no server has answered yet"):
            await Client(hosts, connect_timeout=0.3).open()
    assert told(caplog) == [f"still trying {hosts} (no server has answered yet): is ZooKeeper running?"]


async def test_nothing_is_told_once_it_is_over(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NoServerReachable):
        await Client(nowhere, connect_timeout=0.01).open()
    with pytest.raises(NoServerReachable):
        await Client(nowhere, connect_timeout=0.2, says_late=False).open()  # longer than the first one's patience
    assert told(caplog) == []


@pytest.mark.long
def test_a_herd_tells_it_at_its_first_attempt_alone(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    with Herd(nowhere, connect_timeout=0.3, submit_timeout=1.5) as herd, pytest.raises(NotSubmitted):
        herd.submit_raw(b"x")
    assert len(told(caplog)) == 1
