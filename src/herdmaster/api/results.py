"""Reads outcomes: turns them into the results and exceptions of futures."""

from __future__ import annotations

import logging
from typing import Final

from herdmaster import forks
from herdmaster.api.future import Future
from herdmaster.api.internals import resolve
from herdmaster.core.chunk import split_results
from herdmaster.core.codec import Codecs, read_item, read_result
from herdmaster.core.failure import error_info, rebuild_exception
from herdmaster.core.hints import Misfit
from herdmaster.core.kept import NONE_KNOWN, Known
from herdmaster.core.outcome import ItemResult, Outcome, OutcomeState, decode_result, exception_of
from herdmaster.core.signature import Signature
from herdmaster.core.values import from_json
from herdmaster.errors import BadOutcome, HerdError, OutcomeGone

_log = logging.getLogger("herdmaster.client")


class Reader:
    """Reads the results of one function, known or not. Threads may share a reader."""

    def __init__(self, signature: Signature | None, codecs: Codecs, known: Known = NONE_KNOWN) -> None:
        """`known` are the registered exception classes, including later ones."""
        self._signature = signature
        self._codecs = codecs
        self.known = known
        self._warned = False

    def runs_code(self, outcome: Outcome) -> bool:
        """Say whether reading may run user code: a codec, a registered class, or one that the return hint names."""
        if outcome.error is not None and outcome.error.type in self.known:
            return True
        if outcome.state is not OutcomeState.DONE:
            return False
        return outcome.codec is not None or (self._signature is not None and self._signature.result_runs_code)

    def read(self, outcome: Outcome) -> object:
        """Return the result. Raises BadOutcome."""
        try:
            return read_result(outcome, self._signature, self._codecs)
        except Misfit as error:
            self._warn(error)
            return decode_result(outcome)

    def read_item(self, item: ItemResult, codec: str | None) -> object:
        """Return the result of one item of a chunk. Raises what its function raised, BadOutcome."""
        if item.error is not None:
            raise rebuild_exception(item.error, self.known)
        try:
            return read_item(item.result, codec, self._signature, self._codecs)
        except Misfit as error:
            self._warn(error)
            return from_json(item.result)

    def _warn(self, error: Misfit) -> None:
        # The task is done, and only this caller has its result: a wrong hint must not withhold that.
        if not self._warned:
            call = None if self._signature is None else self._signature.call
            _log.warning("%s gave what its return hint does not say (%s); the result is plain JSON", call, error)
        self._warned = True


class ChunkResults:
    """The results of the items of one chunk. They are read on demand, on the caller's thread."""

    __slots__ = ("_codec", "_items", "_reader")

    def __init__(self, items: list[ItemResult], codec: str | None, reader: Reader) -> None:
        self._items = items
        self._codec = codec
        self._reader = reader

    def read(self, position: int) -> object:
        """Return the result of an item. Raises what the function raised for the item, BadOutcome."""
        return self._reader.read_item(self._items[position], self._codec)


class ChunkReader(Reader):
    """Reads the outcome of a chunk of `count` items as `ChunkResults`."""

    def __init__(self, reader: Reader | None, count: int) -> None:
        self._items = reader or Reader(None, {})
        super().__init__(None, {}, self._items.known)
        self._count = count

    def runs_code(self, outcome: Outcome) -> bool:
        return outcome.error is not None and super().runs_code(outcome)

    def read(self, outcome: Outcome) -> object:
        if outcome.result is None:
            raise BadOutcome("the outcome of the chunk has no results")
        return ChunkResults(split_results(outcome.result, self._count), outcome.codec, self._items)


_PLAIN: Final = Reader(None, {})


def read_outcome(outcome: Outcome, reader: Reader | None) -> tuple[object, Exception | None]:
    """Return the result, plain JSON if there is no reader, and the exception to raise in its place."""
    error = exception_of(outcome, NONE_KNOWN if reader is None else reader.known)
    if error is not None:
        return None, error
    try:
        return (reader or _PLAIN).read(outcome), None
    except HerdError as fault:
        return None, fault


def not_kept(name: str) -> OutcomeGone:
    """Return the error that takes the place of the outcome of a task with ignore_result=True."""
    return OutcomeGone(f"{name}: no outcome is kept, as ignore_result=True asks for")


def resolve_with_outcome(future: Future[object], outcome: Outcome, reader: Reader) -> None:
    """Read an outcome on a thread where user code may run, and resolve the future, whatever that code raises."""
    result: object = None
    error: Exception | None
    try:
        with forks.UserCode():
            result, error = read_outcome(outcome, reader)
    except BaseException as raised:  # noqa: BLE001 - also SystemExit: the validator of a model may call `sys.exit`
        info = error_info(raised)
        error = BadOutcome(f"the code that reads this result raised {info.type}: {info.message}")
        error.__cause__ = raised
    resolve(future, result, error)
