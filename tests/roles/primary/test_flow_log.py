"""What a primary logs of flows that ended."""

from __future__ import annotations

import logging

import msgspec
import pytest

from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowHeader, FlowState
from herdmaster.roles.primary.flow_log import FlowLog
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.line_limit import MOST_LINES

DONE = FlowHeader(1, "report", 1000, FlowState.DONE, 3, ended=3500)
FAILED = msgspec.structs.replace(DONE, state=FlowState.FAILED, error=ErrorInfo("FlowFailed", "1 step failed: 0"))


class Counting(Instruments):
    def __init__(self) -> None:
        self.ended = 0

    def flow_ended(self, name: str, state: str, seconds: float, /) -> None:
        assert (name, seconds) == ("report", 2.5)
        self.ended += 1


async def test_flows_above_the_limit_are_summed_up_and_failures_have_a_limit_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "herdmaster.master")
    counting = Counting()
    log = FlowLog(counting)
    for _ in range(MOST_LINES + 5):
        log.ended("flow-1", DONE)
    log.ended("flow-2", FAILED)
    log.close()

    assert counting.ended == MOST_LINES + 6
    assert caplog.messages[0] == "flow-1 (report) has ended as done after 2.5 s"
    assert caplog.records[-2].levelname == "ERROR"
    assert caplog.messages[-2] == "flow-2 (report) has ended as failed after 2.5 s: 1 step failed: 0"
    assert caplog.messages[-1].startswith("5 more flows ended in ")
    assert caplog.messages[-1].endswith(" s: report 5")
    assert len(caplog.messages) == MOST_LINES + 2
