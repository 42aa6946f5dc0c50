"""What every role tells its instruments, and whether it is ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.system import System
from tests.roles.stage import TIMEOUT, Stage, end_session, until

pytestmark = pytest.mark.long


class Remembered(Instruments):
    def __init__(self) -> None:
        self.expirations = 0
        self.requests: Counter[str] = Counter()
        self.seconds: list[float] = []

    def session_expired(self) -> None:
        self.expirations += 1

    @property
    def measure_requests(self) -> Callable[[str, float], None]:
        return self._request_ended

    def _request_ended(self, operation: str, seconds: float) -> None:
        self.requests[operation] += 1
        self.seconds.append(seconds)


async def test_a_session_that_expires_is_counted_and_the_role_is_ready_with_the_next(stage: Stage) -> None:
    remembered = Remembered()
    master = Master(stage.hosts, MasterSettings(session_timeout=TIMEOUT), System(instruments=remembered))
    assert master.not_ready() == "the master has no session with ZooKeeper"
    stage.start(master)
    await until(lambda: master.not_ready() is None and master.is_primary, "a primary that is ready")
    first = master.client
    assert first is not None
    assert remembered.expirations == 0

    await end_session(first, stage.hosts)
    await until(lambda: master.client not in {None, first} and master.not_ready() is None, "the next session")
    assert remembered.expirations == 1

    master.stop()
    assert master.not_ready() == "the master is stopping"


async def test_requests_are_measured_by_kind(stage: Stage) -> None:
    remembered = Remembered()
    master = Master(stage.hosts, MasterSettings(session_timeout=TIMEOUT), System(instruments=remembered))
    stage.start(master)
    await until(lambda: master.is_primary, "a primary")

    assert remembered.requests["Create"] >= 1
    assert "Ping" not in remembered.requests
    assert all(0 <= seconds < 15 for seconds in remembered.seconds)
