from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import msgspec
import pytest

from herdmaster.core.each_items import EachItems
from herdmaster.core.flows import FlowStep
from herdmaster.core.inputs import Input, StepResult
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.core.run import Returned
from herdmaster.running import child
from herdmaster.running.child import Handover, Reporter, encode_handover, run_handover
from herdmaster.running.current import ProgressReport, current_task
from herdmaster.running.delivery import Delivered
from herdmaster.running.program import Program
from herdmaster.running.registration import DEFAULT_OPTIONS
from herdmaster.running.spool import SpoolWriter


def test_only_the_last_note_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_NOTE_SECONDS", 0.05)
    sent: list[bytes] = []
    reporter = Reporter(sent.append)
    for done in range(100):
        reporter.report(ProgressReport(done))
    limit = time.monotonic() + 10
    while child._note_decoder.decode(sent[-1]) != ProgressReport(99):
        assert time.monotonic() < limit
        time.sleep(0.005)
    reporter.close()

    assert child._note_decoder.decode(sent[0]) == ProgressReport(0)
    assert len(sent) < 50  # two, unless the thread was held up for longer than `_NOTE_SECONDS`


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


def test_a_step_in_a_child_knows_its_flow_and_which_parents_are_missing() -> None:
    def look() -> list[object]:
        task = current_task()
        return [task.flow, task.step, task.missing]

    flow = FlowStep(
        "flow-01h00000000000000000000000", "5", "m:look", "task-a", parent_names={"1": "measure", "3": "sum"}
    )
    call = Call(1, "m:look", *encode_arguments((), {}), flow=flow, missing=("1", "1.7", "3", "4"))
    handover = Handover("task-a", encode_call(call), DEFAULT_OPTIONS, 0)
    run = run_handover(Program({"m:look": look}), handover, Reporter(lambda _: None), bytes)
    assert run.ending == Returned(
        msgspec.Raw(b'["flow-01h00000000000000000000000","5",["measure","measure[7]","sum","4"]]')
    )


def test_a_child_reads_the_results_of_an_each_from_the_file_of_its_worker() -> None:
    def add(sizes: Sequence[int]) -> int:
        return sum(sizes)

    writer = SpoolWriter("2", EachItems(3, 2))
    writer.write([(0, StepResult(b"[1,2]")), (1, StepResult(b"[39]"))])
    payload = encode_call(Call(1, "m:add", *encode_arguments((None,), {})))
    inputs = (Input(("args", 0), "2", (), is_list=True, spooled=writer.finish()),)
    call = msgspec.structs.replace(decode_call(payload), inputs=inputs)
    handover = child._handover_decoder.decode(encode_handover(Delivered("task-a", payload, 1, call)))
    run = run_handover(Program({"m:add": add}), handover, Reporter(lambda _: None), bytes)
    assert run.ending == Returned(msgspec.Raw(b"42"))


def test_a_child_gets_the_inputs_of_a_step() -> None:
    payload = encode_call(Call(1, "m:sum", *encode_arguments(([1, None],), {})))
    call = decode_call(payload)
    call = msgspec.structs.replace(call, inputs=(Input(("args", 0, 1), "2", (StepResult(b"41"),)),))
    handover = child._handover_decoder.decode(encode_handover(Delivered("task-a", payload, 1, call)))
    run = run_handover(Program({"m:sum": sum}), handover, Reporter(lambda _: None), bytes)
    assert run.ending == Returned(msgspec.Raw(b"42"))
