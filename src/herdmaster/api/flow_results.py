"""The result of a flow: when the flow is done, it is put together from the results of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Final

import msgspec

from herdmaster import forks
from herdmaster.api.future import Future
from herdmaster.api.internals import resolve
from herdmaster.api.results import Reader
from herdmaster.api.step import StepNode
from herdmaster.core.codec import Codecs
from herdmaster.core.each_items import EachItems, split_chunk_result
from herdmaster.core.failure import error_info
from herdmaster.core.flows import Reference, Returns
from herdmaster.core.kept import NONE_KNOWN, Known
from herdmaster.core.outcome import Outcome, OutcomeState, exception_of
from herdmaster.core.values import UNREADABLE, from_json
from herdmaster.errors import BadOutcome, HerdError, TaskExpired
from herdmaster.roles.client.flow_ends import FlowEnd

_READ_FIRST: Final = 4
"""Steps whose results are read together with the header of their flow, where they are known by then."""


class FlowReader(Reader):
    """Reads the result of a flow. `returns` is what its header says; None where only the name is known. `nodes` are the
    steps that it refers to, in the same order."""

    def __init__(
        self,
        returns: Returns | None = None,
        nodes: Sequence[StepNode] = (),
        codecs: Codecs | None = None,
        known: Known = NONE_KNOWN,
    ) -> None:
        readers = [node.callee.reader for node in nodes]
        super().__init__(None, codecs or {}, known)
        self._readers = {} if returns is None else dict(zip(returns.refs, readers, strict=True))
        self._plain = Reader(None, codecs or {}, known)
        self.steps = () if returns is None else tuple(dict.fromkeys(ref.step for ref in returns.refs))[:_READ_FIRST]

    def read_end(self, end: FlowEnd) -> object:
        """Return the result of a flow that is done. Runs user code, as `Reader.read` does. Raises BadOutcome."""
        if end.returns is None:
            return None
        try:
            value = from_json(end.returns.value)
        except UNREADABLE as error:
            raise BadOutcome(f"what the flow returns cannot be read: {error}") from None
        for ref in end.returns.refs:
            reader = self._readers.get(ref) or self._plain
            outcomes = end.results[ref.step, ref.each]
            if ref.each and end.items[ref.step].chunk:
                outcomes = tuple(_outcomes_of_items(ref.step, outcomes, end.items[ref.step]))
            results = [_read(reader, ref, outcome) for outcome in outcomes]
            value = _put(value, ref.at, results if ref.each else results[0])
        return value


def resolve_flow(future: Future[object], end: FlowEnd, reader: FlowReader) -> None:
    """Resolve the future of a flow, on a thread where user code may run, whatever that code raises."""
    result: object = None
    error = exception_of(end.outcome, reader.known)
    if error is not None and end.outcome.state is OutcomeState.FAILED:
        error.add_note(
            f"Mend the cause, then `herd flows retry {future.name}` runs the failed steps again. This future stays "
            "failed: `herd.flow_run(name)` is a new one."
        )
    if end.outcome.state is OutcomeState.EXPIRED:
        error = TaskExpired(f"{future.name} did not end in the time that it had, herd.flow(timeout=...)")
    if error is None:
        try:
            with forks.UserCode():
                result = reader.read_end(end)
        except HerdError as fault:
            error = fault
        except BaseException as raised:  # noqa: BLE001 - also SystemExit: the validator of a model may call `sys.exit`
            info = error_info(raised)
            error = BadOutcome(f"the code that reads this result raised {info.type}: {info.message}")
            error.__cause__ = raised
    resolve(future, result, error)


def _read(reader: Reader, ref: Reference, outcome: Outcome | None) -> object:
    if outcome is None:  # the step did not run
        return None
    if outcome.state is not OutcomeState.DONE:
        raise BadOutcome(f"step {ref.step} is {outcome.state}, and its result was expected")
    return reader.read(outcome)


def _outcomes_of_items(step: str, chunks: Sequence[Outcome | None], items: EachItems) -> Iterator[Outcome | None]:
    """Yield the outcome of each item, as it would be alone. Raises BadOutcome."""
    for index, (outcome, size) in enumerate(zip(chunks, items.sizes(), strict=True)):
        if outcome is None or outcome.result is None:
            yield from repeat(outcome, size)
        else:
            for result in split_chunk_result(f"{step}.{index}", outcome.result, size):
                yield msgspec.structs.replace(outcome, result=result)


def _put(value: object, at: Sequence[str | int], result: object) -> object:
    """Put the result of a step in its place."""
    if not at:
        return result
    container = value
    for key in at[:-1]:
        container = _inside(container, key)
    match container, at[-1]:
        case list(), int() as index if index < len(container):
            container[index] = result
        case dict(), str() as name:
            container[name] = result
        case _:
            raise BadOutcome(f"what the flow returns has no place {list(at)}")
    return value


def _inside(container: object, key: str | int) -> object:
    try:
        return container[key]  # type: ignore[index]  # a list or dict, and any other value raises TypeError
    except (TypeError, LookupError):
        raise BadOutcome(f"what the flow returns has no place {key!r}") from None
