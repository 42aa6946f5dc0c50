from __future__ import annotations

import os
import signal
import time

import pytest

from herdmaster.running import child
from herdmaster.running.child import Reporter
from herdmaster.running.current import ProgressReport


def test_the_last_note_is_sent_but_not_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_NOTE_SECONDS", 0.05)
    sent: list[bytes] = []
    reporter = Reporter(sent.append)
    for done in range(100):
        reporter.report(ProgressReport(done))
    limit = time.monotonic() + 10
    while len(sent) < 2 and time.monotonic() < limit:
        time.sleep(0.005)
    reporter.close()

    assert [child._note_decoder.decode(data) for data in sent] == [ProgressReport(0), ProgressReport(99)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_reports_nothing_and_waits_for_no_lock() -> None:
    sent: list[bytes] = []
    reporter = Reporter(sent.append)
    with reporter._lock:  # as the thread of its timer may hold it at this moment
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)  # ends a child that waits
            reporter.report(ProgressReport(1))
            os._exit(len(sent))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
