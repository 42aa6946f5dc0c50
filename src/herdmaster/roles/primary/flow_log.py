"""What a primary tells the log and the instruments of flows, summed up where there are too many lines."""

from __future__ import annotations

import logging

from herdmaster.core.flows import FlowHeader, FlowState
from herdmaster.core.printable import printable
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.line_limit import MAX_SHOWN, LimitedLog, LineKind

_log = logging.getLogger("herdmaster.master")


class FlowLog:
    """Logs the end of each flow. Flows that failed have a limit apart from the others."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._failed = LineKind(logging.ERROR, "flows failed")
        self._others = LineKind(logging.INFO, "flows ended")
        self._lines = LimitedLog(_log, (self._failed, self._others))

    def started(self, name: str) -> None:
        self._instruments.flow_started(name)

    def ended(self, flow: str, header: FlowHeader) -> None:
        """`header` is the last one."""
        seconds = max(0, (header.ended or header.created) - header.created) / 1000
        self._instruments.flow_ended(header.name, header.state.value, seconds)
        kind = self._failed if header.state is FlowState.FAILED else self._others
        if self._lines.admits(kind, header.name):
            name = printable(header.name, MAX_SHOWN)
            reason = f": {header.error.message}" if header.error is not None else ""
            _log.log(kind.level, "%s (%s) has ended as %s after %.1f s%s", flow, name, header.state, seconds, reason)

    def close(self) -> None:
        """Log what is counted."""
        self._lines.close()
