"""Decides which transition a task takes after its code has run: the only place where a worker decides that.

Everything that a decision needs is a parameter, chance and the servers' time included. A task that goes back is decided
in two steps, because where it goes depends on whose primary there is, and only such tasks need to know that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from herdmaster.core import transitions
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.chunk import failure_of_chunk, join_done, join_results
from herdmaster.core.ending_moves import step_of
from herdmaster.core.endings import CANCELLED, held_key, key_without_success
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowStep, note_of
from herdmaster.core.history import EndState
from herdmaster.core.keys import HeldKey
from herdmaster.core.names import DEFAULT_QUEUE, queue_and_time
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import with_asked, with_attempt, with_error
from herdmaster.core.retry import Raised, refused, seconds_until_retry
from herdmaster.core.run import ChunkRan, Lacking, Returned, Run
from herdmaster.core.signing import Keyring
from herdmaster.core.table import TransitionName
from herdmaster.core.transitions import Move
from herdmaster.errors import (
    BadPayload,
    ConfigurationError,
    HerdError,
    PayloadTooLarge,
    ResultTooLarge,
    UnknownCall,
    WrongArguments,
)
from herdmaster.roles.worker.step_moves import StepMoves
from herdmaster.running.delivery import Delivered

MAX_ASKED: Final = 5
"""A call is tried on workers at least this often before it fails: a worker that is deployed meanwhile may have it."""
MAX_WORKERS_ASKED: Final = 20
"""At most this many workers are asked, however many there are."""
NO_FUNCTION: Final = Lacking()
NO_ERROR: Final = ErrorInfo("")
EXPIRED: Final = ErrorInfo("TaskExpired", "the step was not run in the time that it had")
_FORWARD_SECONDS: Final = 0.1
_FIRST_REPEAT_SECONDS: Final = 0.5
_MAX_FORWARD_SECONDS: Final = 10.0
_MAX_NAMED: Final = 10


class Again(msgspec.Struct, frozen=True):
    """A task that goes back with this payload, and is due after `seconds`. If it cannot go back, it ends with the move
    `otherwise`, because of `error`."""

    payload: bytes
    seconds: float
    otherwise: Move | None = None
    error: ErrorInfo = NO_ERROR


class NextMoves:
    """`known` are the names of the calls that the worker runs. `now_ms` gives the servers' time, `uniform(low, high)`
    draws. `call_on_error` is called for each attempt that failed, also where it is tried again, and that was not told
    to the hook where its code ran. `keyring` signs outcomes.
    """

    def __init__(
        self,
        worker: str,
        known: Iterable[str],
        now_ms: Callable[[], int],
        uniform: Callable[[float, float], float],
        call_on_error: Callable[[Delivered, Outcome], None] = lambda _task, _outcome: None,
        *,
        app: str | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self._worker = worker
        self._known = sorted(known)
        self._now_ms = now_ms
        self._uniform = uniform
        self._call_on_error = call_on_error
        self._app = app
        self._keyring = keyring
        self._steps = StepMoves(worker, keyring)

    def after_run(self, task: Delivered, run: Run) -> Move | Again:
        """Return the next move of a task that was run."""
        ending = run.ending
        if isinstance(ending, Returned):
            try:
                move = self._complete(task, ending, run)
            except (ResultTooLarge, ConfigurationError, PayloadTooLarge, BadPayload) as error:
                what = refused(error)
                info = msgspec.structs.replace(what.error, message=f"{task.name}: {what.error.message}")
                return self._fail(task, msgspec.structs.replace(what, error=info), run)
            self._note_end(task, EndState.DONE, run)
            return move
        if isinstance(ending, Raised):
            return self._fail(task, ending, run)
        if isinstance(ending, ChunkRan):
            return self._after_items(task, ending, run)
        if isinstance(ending, Lacking):
            return self.pass_on(task, ending)
        self._call_on_error(task, Outcome(OutcomeState.EXPIRED))
        self._note_end(task, EndState.EXPIRED, None)
        if task.flow is not None:
            return self._steps.fail(task, task.flow, EXPIRED)
        return self._end_otherwise(task, self._outcome(task, OutcomeState.EXPIRED, None))

    def refuse(self, task: Delivered, error: HerdError) -> Move:
        """Return the move that ends a task without running it."""
        what = refused(error)
        return self._report_failed(task, what.error, self._bury_or_end(task, what, None))

    def cancel(self, task: Delivered, flow: FlowStep) -> Move:
        """Return the move that ends a step as cancelled."""
        self._note_end(task, EndState.CANCELLED, None)
        return self._steps.fail(task, flow, CANCELLED.reason)

    def drop(self, task: Delivered) -> Move:
        """Return the move of a step that has ended elsewhere."""
        return self._steps.drop(task)

    def sign(self, task: str, payload: bytes) -> bytes:
        """Return the payload of a task, signed if this worker has keys. Raises PayloadTooLarge, BadPayload."""
        return self._steps.sign(task, payload)

    def pass_on(self, task: Delivered, lacking: Lacking = NO_FUNCTION) -> Move | Again:
        """As `forward`; if that ends the task, the end is noted."""
        found = self.forward(task, lacking)
        if isinstance(found, Move):
            return self._report_failed(task, refused(self._lack(task, lacking)).error, found)
        return found

    def forward(self, task: Delivered, lacking: Lacking = NO_FUNCTION) -> Move | Again:
        """Return what follows for a call whose function, or a parameter of it, this worker lacks. Costs no attempt."""
        assert task.call is not None
        asked = (*task.call.asked, self._worker)
        error = self._lack(task, lacking)
        failed = self._bury_or_end(task, refused(error), None)
        repeats = len(asked) - len(set(asked))  # while there is another worker, the primary chooses none twice
        if len(asked) >= (MAX_ASKED if self._worker in task.call.asked else MAX_WORKERS_ASKED):
            return failed
        seconds = (
            min(_MAX_FORWARD_SECONDS, _FIRST_REPEAT_SECONDS * 2.0 ** (repeats - 1)) if repeats else _FORWARD_SECONDS
        )
        return Again(with_asked(task.payload, self._worker), seconds, otherwise=failed, error=refused(error).error)

    def _lack(self, task: Delivered, lacking: Lacking) -> UnknownCall | WrongArguments:
        assert task.call is not None
        asked = ", ".join(dict.fromkeys((*task.call.asked, self._worker)))
        reason, call = lacking.reason, task.call.call
        if not lacking.is_function:
            return WrongArguments(
                f"{reason}. Workers asked: {asked}. Deploy the app whose {call} takes them to all workers, or submit "
                "what it takes"
            )
        if not reason:
            reason = f"{call} is not registered with {self._worker}; {self._described_app(call)}"
        return UnknownCall(
            f"{reason}. Workers asked: {asked}. Deploy the app that defines it to them, or submit to another queue"
        )

    def _described_app(self, call: str) -> str:
        """Say which calls this worker's app has instead, and what it may lack."""
        app = f"its app {self._app}" if self._app is not None else "its app"
        module = call.partition(":")[0]
        missing = f": perhaps it does not import {module}, which `herd worker --import {module}` does"
        if not self._known:
            if self._app is None:
                return "it has no app, which `herd worker --app MODULE` would give it"
            return f"{app} has no tasks{missing}"
        shown = ", ".join(self._known[:_MAX_NAMED])
        if len(self._known) > _MAX_NAMED:
            shown += f" and {len(self._known) - _MAX_NAMED} more"
        if "<locals>" in call:
            return f"{app} has: {shown} (one that is defined inside another is registered once that one is called)"
        is_imported = any(known.partition(":")[0] == module for known in self._known)
        return f"{app} has: {shown}{'' if is_imported else missing}"

    def put_back(self, task: Delivered, again: Again, *, primary_is_ours: bool) -> Move:
        """Return the move of a task that goes back. A reference primary never looks at a name twice, so under it a task
        is retried in place, and cannot be forwarded at all."""
        if not primary_is_ours:
            if again.otherwise is not None:
                return self._report_failed(task, again.error, again.otherwise)
            return transitions.retry_in_place(self._worker, task.name, again.payload)
        if again.otherwise is None and again.seconds == 0:
            return transitions.retry_now(self._worker, task.name, again.payload)
        due = self._now_ms() + math.ceil(again.seconds * 1000)
        row = transitions.retry_later if again.otherwise is None else transitions.forward
        return row(self._worker, task.name, due, again.payload)

    def _after_items(self, task: Delivered, ran: ChunkRan, run: Run) -> Move | Again:
        """Return the next move of a chunk. If an item is to be retried, the whole chunk is; else an item that failed
        fails alone, but in a flow with its chunk."""
        failed = [(index, item.raised) for index, item in enumerate(ran.items) if item.raised is not None]
        for _, what in failed:
            seconds = seconds_until_retry(task.options, task.attempt, what, self._uniform)
            if seconds is not None:
                return self._try_again(task, what, seconds, run, hook_called=True)  # to `after_task`
        if task.flow is None:
            result = join_results([item.result if item.raised is None else item.raised.error for item in ran.items])
        elif not failed:
            result = join_done(item.result for item in ran.items)
        else:
            errors = [(index, what.error) for index, what in failed]
            assert task.call is not None
            error = failure_of_chunk(task.call, task.flow.first, errors, len(ran.items))
            move = self._bury_or_end(task, msgspec.structs.replace(failed[0][1], error=error), run)
            return self._report_failed(task, error, move, run, hook_called=True)
        return self.after_run(task, Run(Returned(result, ran.steps), run.started, run.ended))

    def _fail(self, task: Delivered, what: Raised, run: Run) -> Move | Again:
        seconds = seconds_until_retry(task.options, task.attempt, what, self._uniform)
        if seconds is None or task.call is None:
            move = self._bury_or_end(task, what, run)
            return self._report_failed(task, what.error, move, run, hook_called=what.hook_called)
        return self._try_again(task, what, seconds, run, hook_called=what.hook_called)

    def _try_again(self, task: Delivered, what: Raised, seconds: float, run: Run, *, hook_called: bool) -> Again:
        if not hook_called:
            self._call_on_error(task, Outcome(OutcomeState.FAILED, error=what.error))
        self._note_end(task, EndState.RETRIED, run, what.error, again_in=seconds)
        return Again(with_attempt(task.payload, self._now_ms() + math.ceil(seconds * 1000)), seconds)

    def _bury_or_end(self, task: Delivered, what: Raised, run: Run | None) -> Move:
        flow = task.flow if task.call is not None else step_of(task.name, task.payload)
        if flow is not None:
            return self._steps.fail(task, flow, what.error)
        outcome = self._outcome(task, OutcomeState.FAILED, run, what)
        if task.call is not None and (task.attempt > 1 or task.options.max_attempts > 1):
            key = key_without_success(task.call)
            return transitions.bury(self._worker, task.name, with_error(task.payload, what.error), outcome, key)
        return self._end_otherwise(task, outcome)

    def _report_failed(
        self, task: Delivered, error: ErrorInfo, move: Move, run: Run | None = None, *, hook_called: bool = False
    ) -> Move:
        """Call the hook, unless it was called, and note the failure."""
        if not hook_called:
            self._call_on_error(task, Outcome(OutcomeState.FAILED, error=error))
        is_buried = move.transition is TransitionName.BURY
        ended = EndState.REFUSED if run is None else EndState.BURIED if is_buried else EndState.FAILED
        self._note_end(task, ended, run, error, is_dead=is_buried)
        return move

    def _note_end(
        self,
        task: Delivered,
        result: EndState,
        run: Run | None,
        error: ErrorInfo | None = None,
        *,
        again_in: float | None = None,
        is_dead: bool = False,
    ) -> None:
        """Keep what is reported once the move is committed."""
        call = task.call
        flow = call.flow if call is not None else None
        queue, due = queue_and_time(task.name) if call is not None else (DEFAULT_QUEUE, None)
        task.end = AttemptEnd(
            task.name,
            call.call if call is not None else "",
            queue,
            result,
            run.ended if run is not None else self._now_ms(),
            run.started if run is not None else None,
            call.due if call is not None and call.due is not None else due,
            task.attempt,
            error,
            self._worker,
            task.options.max_attempts,
            again_in,
            is_dead,
            None if call is None or call.scheduled is None else call.scheduled.schedule,
            None if flow is None else flow.flow,
            None if flow is None else flow.step,
        )

    def _complete(self, task: Delivered, returned: Returned, run: Run) -> Move:
        """Raises ResultTooLarge; for a step, which may have added steps, also what `StepMoves.complete` raises."""
        call, outcome = task.call, self._outcome(task, OutcomeState.DONE, run, result=returned.result)
        if call is None or call.flow is None:
            return self._end(task, outcome)
        return self._steps.complete(task, call.flow, outcome, returned.steps)

    def _end(self, task: Delivered, outcome: bytes, key: HeldKey | None = None) -> Move:
        if task.call is not None and not task.call.outcome:
            return transitions.complete(self._worker, task.name, None, held_key(task.call))
        return transitions.complete(self._worker, task.name, outcome, key)

    def _end_otherwise(self, task: Delivered, outcome: bytes) -> Move:
        """End a task with another outcome than done."""
        return self._end(task, outcome, None if task.call is None else key_without_success(task.call))

    def _outcome(
        self,
        task: Delivered,
        state: OutcomeState,
        run: Run | None,
        what: Raised | None = None,
        result: msgspec.Raw | None = None,
    ) -> bytes:
        call = task.call
        flow = call.flow if call is not None else None
        outcome = Outcome(
            state,
            result,
            what.error if what is not None else None,
            self._worker,
            run.started if run is not None else None,
            run.ended if run is not None else None,
            task.attempt,
            call.key if call is not None else None,
            call.ttl if call is not None else None,
            call.codec if call is not None else None,
            keep=call is not None and call.keep,
            step=None if flow is None else note_of(flow),
        )
        data = encode_outcome(task.name, outcome)
        if self._keyring is None or flow is not None:  # the result of a step is signed for its place
            return data
        return self._keyring.sign_outcome(task.name, data)
