"""Reads how a flow ended: its header, and the results of those steps that the flow returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.each_items import EachItems, decode_items
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowHeader, Returns, decode_header, is_ended, result_name
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome
from herdmaster.core.signing import SignedOnly
from herdmaster.errors import BadOutcome, BadPayload, OutcomeGone
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_READ_BYTES: Final = 4 * 1024 * 1024
_FIRST: Final = 20
_MOST: Final = 200


class FlowEnd(msgspec.Struct, frozen=True):
    """The outcome of a flow, and what it returns. `results` are the outcomes of steps by id and by whether it is an
    `each`; None for a step that did not run. `items` says what the steps of each `each` are."""

    outcome: Outcome
    returns: Returns | None = None
    results: Mapping[tuple[str, bool], tuple[Outcome | None, ...]] = {}
    items: Mapping[str, EachItems] = {}


class EndOfFlow:
    """The question how a flow ended. `outcome` is what its status said; None if there is no status any more."""

    def __init__(self, flow: str, outcome: Outcome | None, signed_only: SignedOnly | None) -> None:
        self._flow = flow
        self._outcome = outcome
        self._signed_only = signed_only

    async def ask(self, client: Client) -> FlowEnd:
        """Return the end. Raises OutcomeGone if too little is left of the flow, BadOutcome, BadSignature."""
        if self._outcome is not None and self._outcome.state is not OutcomeState.DONE:
            return FlowEnd(self._outcome)
        header = await self._read_header(client)
        outcome = self._outcome or _outcome_of(header)
        if outcome is None:
            raise OutcomeGone(f"{self._flow}: {_state_text(header)}")
        if header is None:
            raise OutcomeGone(f"{self._flow} is done, and its results were deleted since")
        if outcome.state is not OutcomeState.DONE or header.returns is None:
            return FlowEnd(outcome)
        return await self._read_results(client, header, outcome, header.returns)

    async def _read_header(self, client: Client) -> FlowHeader | None:
        await client.sync()  # a new session may talk to a server that lags behind
        try:
            data, _ = await client.get(layout.flow_path(self._flow))
            return decode_header(data)
        except errors.NoNode:
            return None
        except BadPayload as error:
            raise BadOutcome(f"{self._flow}: {error}") from None

    async def _read_results(self, client: Client, header: FlowHeader, outcome: Outcome, returns: Returns) -> FlowEnd:
        wanted = dict.fromkeys((ref.step, ref.each) for ref in returns.refs)
        steps = list(dict.fromkeys(step for step, _ in wanted))
        found = dict(zip(steps, await self._read(client, header, steps), strict=True))
        results: dict[tuple[str, bool], tuple[Outcome | None, ...]] = {}
        items: dict[str, EachItems] = {}
        for step, is_each in wanted:
            if is_each:
                items[step] = _items(step, found[step])
                results[step, True] = tuple(await self._read(client, header, items[step].ids(step)))
            else:
                results[step, False] = (found[step],)
        return FlowEnd(outcome, returns, results, items)

    async def _read(self, client: Client, header: FlowHeader, steps: Sequence[str]) -> list[Outcome | None]:
        """Read the outcomes of steps, as many at a time as recent ones make seem right."""
        outcomes: list[Outcome | None] = []
        count = _FIRST
        while len(outcomes) < len(steps):
            some = steps[len(outcomes) : len(outcomes) + count]
            nodes = await client.multi_read(layout.flow_result_path(self._flow, step) for step in some)
            size = 1
            for step, node in zip(some, nodes, strict=True):
                if isinstance(node, errors.NoNode):
                    outcomes.append(None)
                elif isinstance(node, errors.ServerError):
                    raise BadOutcome(f"the result of step {step} of {self._flow} cannot be read: {node}")
                else:
                    name = result_name(self._flow, header.created, step)
                    outcomes.append(self._decode(name, node[0] or b""))
                    size += len(node[0] or b"")
            count = max(1, min(_MOST, _READ_BYTES * len(some) // size))
        return outcomes

    def _decode(self, name: str, data: bytes) -> Outcome:
        if self._signed_only is None:
            return decode_outcome(name, data)
        return self._signed_only.read_outcome(name, data)


def _items(step: str, outcome: Outcome | None) -> EachItems:
    """Return what an `each` made. Raises BadOutcome."""
    return EachItems(0) if outcome is None or outcome.result is None else decode_items(step, outcome.result)


def _outcome_of(header: FlowHeader | None) -> Outcome | None:
    """Return the outcome of a flow that has ended, as its header tells it."""
    if header is None or not is_ended(header.state):
        return None
    state = OutcomeState(header.state)
    error = header.error
    if error is None and state is OutcomeState.FAILED:
        error = ErrorInfo("FlowFailed", "steps of the flow failed")
    return Outcome(state, error=error)


def _state_text(header: FlowHeader | None) -> str:
    if header is None:
        return "there is no such flow: it was never accepted, or was deleted since"
    return f"there is no outcome, and the flow is {header.state}"
