"""How flows end: the state, and one sentence that names what failed."""

from __future__ import annotations

import pytest

from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flow_end import TIMEOUT, last_header, outcome_of_flow
from herdmaster.core.flow_graph import FlowGraph
from herdmaster.core.flow_picture import Flow
from herdmaster.core.flow_scope import FAILED, PARTS, STEPS
from herdmaster.core.flows import FlowHeader, FlowState, FlowStep
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.payload import Call, encode_arguments, encode_call

F = "flow-01arz3ndektsv4rrffq69g5fav"
HEADER = FlowHeader(1, "report", 1000, FlowState.RUNNING, 9, ttl=5.0, keep=True)


def flow_with(*, failed: tuple[str, ...] = (), waiting: tuple[str, ...] = (), is_cancelled: bool = False) -> Flow:
    graph = FlowGraph(lambda _entry: None)
    for part in PARTS:
        graph.replace(part, {FAILED: failed, STEPS: waiting}.get(part, ()))
    for entry in waiting:
        graph.replace_edges(entry, ("0",))
    graph.refresh()
    return Flow(F, graph, is_read=True, is_cancelled=is_cancelled)


def payload(step: str, error: ErrorInfo | None) -> bytes:
    flow = FlowStep(F, step, "measure", "task-01arz3ndektsv4rrffq69g5fav.default.f")
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), flow=flow, error=error))


@pytest.mark.parametrize(
    ("flow", "cancel", "state"),
    [
        (flow_with(), None, FlowState.DONE),
        (flow_with(failed=("0",)), None, FlowState.FAILED),
        (flow_with(failed=("0",), is_cancelled=True), b"", FlowState.CANCELLED),
        (flow_with(is_cancelled=True), TIMEOUT, FlowState.EXPIRED),
        (flow_with(is_cancelled=True), None, FlowState.CANCELLED),
        (flow_with(waiting=("1", "2")), None, FlowState.FAILED),
    ],
)
def test_a_flow_ends_in_one_state_and_its_outcome_says_the_same(
    flow: Flow, cancel: bytes | None, state: FlowState
) -> None:
    header = last_header(flow, HEADER, 2000, cancel, {})
    assert (header.state, header.ended, header.name) == (state, 2000, "report")
    data = outcome_of_flow(F, header)
    assert data is not None
    outcome = decode_outcome(F, data)
    assert (outcome.state, outcome.error, outcome.ttl, outcome.keep) == (
        OutcomeState(state.value),
        header.error,
        5.0,
        True,
    )


@pytest.mark.parametrize(
    ("failed", "waiting", "payloads", "message"),
    [
        (
            ("0",),
            (),
            {"0": payload("0", ErrorInfo("ValueError", "bad"))},
            "1 step failed: 0 (measure): ValueError: bad",
        ),
        (("0",), (), {"0": payload("0", ErrorInfo("TaskCancelled"))}, "1 step failed: 0 (measure): TaskCancelled"),
        (("0",), (), {"0": payload("0", None)}, "1 step failed: 0 (measure)"),
        (("0",), (), {"0": b"garbage"}, "1 step failed: 0"),
        (("0", "5"), ("1", "2"), {}, "2 steps failed: their errors are not known; 2 steps did not start"),
        (("0", "5", "6"), ("1",), {"0": b""}, "3 steps failed: 0, 2 more; 1 step did not start"),
        ((), ("1", "2"), {}, "2 steps never started, because the flow has no such parents: 1, 2"),
    ],
)
def test_a_failure_is_one_sentence(
    failed: tuple[str, ...], waiting: tuple[str, ...], payloads: dict[str, bytes], message: str
) -> None:
    header = last_header(flow_with(failed=failed, waiting=waiting), HEADER, 2000, None, payloads)
    assert header.error == ErrorInfo("FlowFailed", message)


def test_a_long_message_is_cut() -> None:
    payloads = {"0": payload("0", ErrorInfo("ValueError", "x" * 10_000))}
    header = last_header(flow_with(failed=("0",)), HEADER, 2000, None, payloads)
    assert header.error is not None
    assert len(header.error.message) < 300
