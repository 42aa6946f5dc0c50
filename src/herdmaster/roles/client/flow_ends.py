"""Reads how flows ended: their headers, and the results of those steps that they return."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.each_items import EachItems, decode_items
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowHeader, Returns, decode_header, is_ended, result_name
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome
from herdmaster.core.signing import SignedOnly
from herdmaster.errors import BadOutcome, BadPayload, HerdError, OutcomeGone
from herdmaster.roles.client.questions import Failed, Questions
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_READ_BYTES: Final = 4 * 1024 * 1024
_FIRST: Final = 20
_MOST: Final = 200
_FLOWS_AT_ONCE: Final = 50


Known = dict[str, Node | errors.ServerError]
"""What was read, by path."""


class FlowEnd(msgspec.Struct, frozen=True):
    """The outcome of a flow, and what it returns. `results` are the outcomes of steps by id and by whether it is an
    `each`; None for a step that did not run. `items` says what the steps of each `each` are."""

    outcome: Outcome
    returns: Returns | None = None
    results: Mapping[tuple[str, bool], tuple[Outcome | None, ...]] = {}
    items: Mapping[str, EachItems] = {}


class EndOfFlow:
    """The question how a flow ended. `outcome` is what its status said; None if there is no status any more. `steps`
    are those that the flow returns, as far as they are known before the header is read."""

    def __init__(
        self, flow: str, outcome: Outcome | None, signed_only: SignedOnly | None, steps: Sequence[str] = ()
    ) -> None:
        self._flow = flow
        self._outcome = outcome
        self._signed_only = signed_only
        self._steps = steps

    @property
    def paths(self) -> tuple[str, ...]:
        """The znodes to read first: the header and the results of `steps`; none if the status says everything."""
        if self._outcome is not None and self._outcome.state is not OutcomeState.DONE:
            return ()
        return layout.flow_path(self._flow), *(layout.flow_result_path(self._flow, step) for step in self._steps)

    async def ask(self, client: Client) -> FlowEnd:
        """Return the end. Raises OutcomeGone if too little is left of the flow, BadOutcome, BadSignature."""
        return await self.conclude(client, await read_first(client, [self]))

    async def conclude(self, client: Client, known: Known) -> FlowEnd:
        """As `ask`, where `paths` were read already."""
        if self._outcome is not None and self._outcome.state is not OutcomeState.DONE:
            return FlowEnd(self._outcome)
        header = self._header_in(known)
        outcome = self._outcome or _outcome_of(header)
        if outcome is None:
            raise OutcomeGone(f"{self._flow}: {_state_text(header)}")
        if header is None:
            raise OutcomeGone(f"{self._flow} is done, and its results were deleted since")
        if outcome.state is OutcomeState.DONE and self._signed_only is not None:
            self._signed_only.check_header(self._flow, header)
        if outcome.state is not OutcomeState.DONE or header.returns is None:
            return FlowEnd(outcome)
        return await _Results(client, self._flow, header, self._signed_only, known).read(outcome, header.returns)

    def _header_in(self, known: Known) -> FlowHeader | None:
        node = known[layout.flow_path(self._flow)]
        if isinstance(node, errors.NoNode):
            return None
        if isinstance(node, errors.ServerError):
            raise node
        try:
            return decode_header(node[0])
        except BadPayload as error:
            raise BadOutcome(f"{self._flow}: {error}") from None


class FlowEndQuestions:
    """The questions of one client how its flows ended. Those that wait at the same time share requests."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._wanted: deque[tuple[EndOfFlow, Callable[[FlowEnd], None], Failed]] = deque()

    def ask(self, question: EndOfFlow, told: Callable[[FlowEnd], None], failed: Failed) -> None:
        """Either `told` or `failed` is called, once."""
        self._wanted.append((question, told, failed))
        if len(self._wanted) == 1:
            self._questions.ask(self._ask, self._fail)

    async def _ask(self, client: Client) -> None:
        some = list(islice(self._wanted, _FLOWS_AT_ONCE))
        known: Known | None = None
        with suppress(errors.ServerError):  # then each is asked by itself, and only those that are refused fail
            known = await read_first(client, [question for question, _, _ in some])
        for question, told, failed in some:
            try:
                end = await (question.ask(client) if known is None else question.conclude(client, known))
            except errors.ServerError as error:
                self._wanted.popleft()
                failed(error)
            except errors.ZooKeeperError:
                raise  # the next session asks again
            except HerdError as error:
                self._wanted.popleft()
                failed(error)
            else:
                self._wanted.popleft()
                told(end)
        if self._wanted:
            self._questions.ask(self._ask, self._fail)

    def _fail(self, error: HerdError) -> None:
        wanted, self._wanted = self._wanted, deque()
        for _, _, failed in wanted:
            failed(error)


class _Results:
    """Reads the results of one flow. What is in `known` is not read again."""

    def __init__(
        self, client: Client, flow: str, header: FlowHeader, signed_only: SignedOnly | None, known: Known
    ) -> None:
        self._client = client
        self._flow = flow
        self._header = header
        self._signed_only = signed_only
        self._known = known

    async def read(self, outcome: Outcome, returns: Returns) -> FlowEnd:
        wanted = dict.fromkeys((ref.step, ref.each) for ref in returns.refs)
        steps = list(dict.fromkeys(step for step, _ in wanted))
        found = dict(zip(steps, await self._read(steps), strict=True))
        results: dict[tuple[str, bool], tuple[Outcome | None, ...]] = {}
        items: dict[str, EachItems] = {}
        for step, is_each in wanted:
            if is_each:
                items[step] = _items(step, found[step])
                results[step, True] = tuple(await self._read(items[step].ids(step)))
            else:
                results[step, False] = (found[step],)
        return FlowEnd(outcome, returns, results, items)

    async def _read(self, steps: Sequence[str]) -> list[Outcome | None]:
        paths = [layout.flow_result_path(self._flow, step) for step in steps]
        nodes = self._known | await _read_nodes(self._client, [path for path in paths if path not in self._known])
        return [self._outcome_of(step, nodes[path]) for step, path in zip(steps, paths, strict=True)]

    def _outcome_of(self, step: str, node: Node | errors.ServerError) -> Outcome | None:
        if isinstance(node, errors.NoNode):
            return None
        if isinstance(node, errors.ServerError):
            raise BadOutcome(f"the result of step {step} of {self._flow} cannot be read: {node}")
        return self._decode(result_name(self._flow, self._header.created, step), node[0] or b"")

    def _decode(self, name: str, data: bytes) -> Outcome:
        if self._signed_only is None:
            return decode_outcome(name, data)
        return self._signed_only.read_outcome(name, data)


async def read_first(client: Client, questions: Sequence[EndOfFlow]) -> Known:
    """Read what these questions read first."""
    paths = [path for question in questions for path in question.paths]
    if not paths:
        return {}
    await client.sync()  # a new session may talk to a server that lags behind
    return await _read_nodes(client, paths)


async def _read_nodes(client: Client, paths: Sequence[str]) -> Known:
    """Read znodes, as many at a time as recent ones make seem right."""
    found: Known = {}
    count = _FIRST
    start = 0
    while start < len(paths):
        some = paths[start : start + count]
        start += len(some)
        nodes = await client.multi_read(some)
        found.update(zip(some, nodes, strict=True))
        size = 1 + sum(len(node[0] or b"") for node in nodes if isinstance(node, tuple))
        count = max(1, min(_MOST, _READ_BYTES * len(some) // size))
    return found


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
