"""How a flow ends: its last header, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from herdmaster.core.failure import ErrorInfo, cut_text
from herdmaster.core.flow_graph import step_of
from herdmaster.core.flow_picture import Flow
from herdmaster.core.flows import FlowHeader, FlowState
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import decode_call
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload

TIMEOUT: Final = b"timeout"
"""The data of a request to cancel a flow whose time is over."""
MAX_NAMED: Final = 3
"""Steps that the error of a flow names."""
_MAX_MESSAGE: Final = 200
_FAILED: Final = "FlowFailed"


def last_header(
    flow: Flow, header: FlowHeader, now_ms: int, cancel: bytes | None, payloads: Mapping[str, bytes]
) -> FlowHeader:
    """Return the header of a flow that is at rest, as it ends. `cancel` is the data of the request to cancel it,
    `payloads` are those of some steps that failed."""
    graph = flow.graph
    assert graph is not None
    error = None
    if flow.is_cancelled:
        state = FlowState.EXPIRED if cancel == TIMEOUT else FlowState.CANCELLED
    elif graph.failed:
        state = FlowState.FAILED
        error = ErrorInfo(_FAILED, _explain_failures(len(graph.failed), len(graph.waiting), payloads))
    elif stuck := graph.find_stuck():
        state = FlowState.FAILED
        error = ErrorInfo(_FAILED, _explain_stuck(stuck))
    else:
        state = FlowState.DONE
    return msgspec.structs.replace(header, state=state, ended=now_ms, error=error)


def outcome_of_flow(name: str, header: FlowHeader) -> bytes | None:
    """Return the outcome of a flow that ends with this header; None if none is wanted."""
    if not header.outcome:
        return None
    outcome = Outcome(OutcomeState(header.state.value), error=header.error, ttl=header.ttl, keep=header.keep)
    return encode_outcome(name, outcome)


def _explain_failures(count: int, waiting: int, payloads: Mapping[str, bytes]) -> str:
    named = [_explain_step(step, payload) for step, payload in payloads.items()]
    if count > len(named):
        named.append(f"{count - len(named)} more" if named else "their errors are not known")
    blocked = f"; {_count(waiting)} did not start" if waiting else ""
    return f"{_count(count)} failed: {', '.join(named)}{blocked}"


def _explain_step(step: str, payload: bytes) -> str:
    try:
        call = decode_call(payload)
    except (BadPayload, *UNREADABLE):
        return step
    name = call.call if call.flow is None else call.flow.name
    if call.error is None:
        return f"{step} ({name})"
    message = cut_text(call.error.message, _MAX_MESSAGE)
    return f"{step} ({name}): {call.error.type}: {message}" if message else f"{step} ({name}): {call.error.type}"


def _explain_stuck(stuck: Sequence[str]) -> str:
    named = ", ".join(sorted(map(step_of, stuck))[:MAX_NAMED])
    return f"{_count(len(stuck))} never started, because the flow has no such parents: {named}"


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"
