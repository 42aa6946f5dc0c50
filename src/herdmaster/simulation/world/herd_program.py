"""The program of a client that uses a Herd: the real futures, submissions and I/O thread, on virtual time.

Some jobs are submitted by coroutines of another event loop, some by threads that are told of the acceptance by a
callback, and some without waiting for it. At some times the Herd is closed and opened again.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Final, Protocol, cast

from herdmaster.api import fork_and_exit
from herdmaster.api.direction import Target
from herdmaster.api.errors import HerdClosed
from herdmaster.api.future import Future, failure_of
from herdmaster.api.herd_core import HerdCore, HerdSettings
from herdmaster.api.io_thread import IoThread
from herdmaster.api.options import OnDuplicate, OnFull
from herdmaster.api.order import Order
from herdmaster.api.registry import Registry
from herdmaster.api.results import Reader
from herdmaster.api.submitting import submit_and_wait_async
from herdmaster.core.names import UlidFactory
from herdmaster.core.outcome import Outcome
from herdmaster.core.transitions import NewTask
from herdmaster.errors import BacklogFull, DuplicateTask, HerdError, NotSubmitted, OutcomeGone, SubmissionUnknown
from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.shared.system import System
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.world.client_program import ClientReports
from herdmaster.simulation.world.herd_thread import CallQueue, SimulatedLoopThread, Threads
from herdmaster.simulation.world.job_tasks import task_of_job
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import ProgramState, Submission
from herdmaster.zookeeper.client import Predecessors

_LOOK_SECONDS: Final = 0.1
_CLOSE_LOOKS: Final = 50
"""Longer than the farewell and all its steps may take."""
_CANCEL_SECONDS: Final = 10_000.0
_CANCELLERS_APART: Final = 0.02
_MAX_BACKLOGS: Final = (6, 12)
"""More than operators create by mistake."""
_SUBMIT_TIMEOUTS: Final = (1.0, 5.0, 30.0)


class HerdReports(ClientReports, Protocol):
    """Also takes what futures are resolved with."""

    def future_ended(self, task: str, value: object, error: BaseException | None, *, may_be_gone: bool) -> None: ...


class _Way(enum.Enum):
    """How a job is submitted."""

    COROUTINE = enum.auto()
    THREAD = enum.auto()
    BEGIN = enum.auto()


class _CodeReader(Reader):
    """A reader whose result is read on a callback thread."""

    def runs_code(self, outcome: Outcome) -> bool:  # noqa: ARG002 - as the base class has it
        return True


_CODE_READER: Final = _CodeReader(None, {})


class _Core(HerdCore):
    """A core that makes simulated I/O threads."""

    def __init__(self, settings: HerdSettings, make: Callable[[str], IoThread]) -> None:
        super().__init__(settings, Registry(None, ()))
        self._make = make

    def _new_io_thread(self, target: Target) -> IoThread:
        return self._make(target.hosts)


class HerdProgram:
    """One process that uses a Herd."""

    def __init__(
        self,
        state: ProgramState,
        process: Process,
        hosts: str,
        settings: ClientSettings,
        system: System,
        jobs: Sequence[Job],
        reports: HerdReports,
    ) -> None:
        self._state = state
        self._process = process
        self._settings = settings
        self._system = system
        self._jobs = jobs
        self._reports = reports
        self._rng = process.rng
        self._patience = self._rng.choice(_SUBMIT_TIMEOUTS)
        session = HerdSettings(hosts, settings.session_timeout, self._patience, settings.session_timeout, tls=False)
        self._core = _Core(session, self._make_io_thread)
        self._threads = Threads(process)
        self._thread: SimulatedLoopThread | None = None
        self._ulids = UlidFactory(process.unix_ms, process.rng.randbytes)
        self._stopped = asyncio.Event()
        self._is_closed = False
        self._pending: dict[object, None] = {}  # what users of the Herd wait for
        self.predecessors = Predecessors()

    def stop(self) -> None:
        """Close the Herd and end."""
        self._stopped.set()

    @property
    def is_settled(self) -> bool:
        """Whether everything was submitted, and every caller was told."""
        return not self._pending and all(job.index in self._state.submitted_jobs for job in self._jobs)

    async def run(self) -> None:
        main = self._threads.start_other(self._run())
        await asyncio.shield(main)

    async def _run(self) -> None:
        submitting = self._threads.start_other(self._submit_all())
        self._wait_for_earlier()
        for at in self._state.program.closes:
            await self._until(at)
            if self._stopped.is_set():
                break
            await self._close()
            self._core.open()
            self._is_closed = False
            self._wait_for_earlier()
        await self._stopped.wait()
        submitting.cancel()
        await asyncio.wait((submitting,))
        await self._close()

    async def _until(self, at: float) -> None:
        """Wait until a time of the world, or for the end."""
        try:
            async with asyncio.timeout(max(at - self._process.loop.now, 0.0)):
                await self._stopped.wait()
        except TimeoutError:
            return

    # --- the I/O thread ----------------------------------------------------------------------------------------------

    def _make_io_thread(self, hosts: str) -> IoThread:
        threads = self._threads
        made: list[SimulatedLoopThread] = []

        def make_thread(heard: Callable[[], None]) -> SimulatedLoopThread:
            made.append(SimulatedLoopThread(threads, heard, self._reports.complain))
            return made[0]

        io_thread = IoThread(hosts, self._settings, self._patience, self._system, make_thread)
        fork_and_exit.remove_session(io_thread)  # the simulation ends it
        self._thread = made[0]
        io_thread._calls = CallQueue(threads, made[0])  # noqa: SLF001 - so that threads interrupt each other there
        self._state.given_up = io_thread._client.predecessors  # noqa: SLF001 - the simulation looks at its sessions
        return io_thread

    async def _close(self) -> None:
        """Close the Herd. Its thread has to end, and all who wait have to be told, within a bounded time."""
        self._is_closed = True
        self._core.close()
        thread = self._thread
        for _ in range(_CLOSE_LOOKS):  # a process that is paused meanwhile looks no more often
            if (thread is None or (thread.has_ended and thread.callbacks.is_idle)) and not self._pending:
                return
            await asyncio.sleep(_LOOK_SECONDS)
        if thread is not None and not thread.has_ended:
            self._reports.complain("closes its Herd, and the I/O thread does not end")
        else:
            self._reports.complain(f"closed its Herd, and {len(self._pending)} callers were not told")

    # --- submissions -------------------------------------------------------------------------------------------------

    async def _submit_all(self) -> None:
        loop = self._process.loop
        for job in sorted(self._jobs, key=lambda job: (job.at, job.index)):
            if job.index in self._state.submitted_jobs:
                continue
            if job.at > loop.now:
                await asyncio.sleep(job.at - loop.now)
            self._submit(job)

    def _submit(self, job: Job) -> None:
        task = task_of_job(job, self._ulids)
        submission = Submission(job, task.name, self._state.life)
        self._state.submitted_jobs[job.index] = None
        self._state.submissions[task.name] = submission
        self._reports.announce(task.name, job, at_once=False)
        order = self._order(job, task)
        way = _Way.COROUTINE if job.patience is not None else self._rng.choice(tuple(_Way))
        if way is _Way.COROUTINE:
            self._start(self._submit_and_wait(submission, order))
            return
        self._pending[submission.name] = None
        submit = self._submit_from_thread if way is _Way.THREAD else self._begin
        self._threads.call_some_time(partial(submit, submission, order))

    def _order(self, job: Job, task: NewTask) -> Order:
        rng = self._rng
        is_timed = job.delay is not None or job.expires is not None  # from when the backlog has room
        return Order(
            task,
            _CODE_READER if rng.random() < 0.3 else None,
            rng.choice(tuple(OnDuplicate)),
            ignore_result=job.silent,
            max_backlog=rng.choice(_MAX_BACKLOGS) if rng.random() < 0.2 and not is_timed else None,
            on_full=rng.choice(tuple(OnFull)),
        )

    def _start(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self._threads.start_other(coroutine)
        self._pending[task] = None
        task.add_done_callback(lambda done: self._pending.pop(done, None))

    async def _submit_and_wait(self, submission: Submission, order: Order) -> None:
        try:
            async with asyncio.timeout(submission.job.patience):
                future: Future[object] = await submit_and_wait_async(self._core, order)
        except TimeoutError:
            submission.answered = submission.unknown = True
        except HerdError as error:
            self._was_refused(submission, error)
        else:
            self._was_submitted(submission, order, future)

    def _submit_from_thread(self, submission: Submission, order: Order) -> None:
        """Submit as `submit_and_wait` does on a thread, which the callback continues."""
        futures: list[Future[object]] = []

        def go_on(error: HerdError | None) -> None:
            try:
                if error is None:
                    self._was_submitted(submission, order, futures[0])
                elif isinstance(error, DuplicateTask) and order.on_duplicate is OnDuplicate.RETURN:
                    held = self._core.started().attach_holder(error.name, self._core, order)
                    self._was_submitted(submission, order, held)
                else:
                    self._was_refused(submission, error)
            except HerdClosed as closed:
                self._was_refused(submission, closed)
            self._pending.pop(submission.name, None)

        try:
            io_thread = self._core.started()
            futures.append(io_thread.submit(order, self._core, lambda error: self._continue(partial(go_on, error))))
        except HerdClosed as error:
            go_on(error)

    def _continue(self, call: Callable[[], None]) -> None:
        """Let a thread go on that the I/O thread has woken."""
        loop = self._process.loop
        loop.call_for(self._process, loop.now, self._threads.run_other, call)

    def _begin(self, submission: Submission, order: Order) -> None:
        """Submit and do not wait for the acceptance, which shows in the future."""
        try:
            future: Future[object] = self._core.started().submit(order, self._core)
        except HerdClosed as error:
            self._was_refused(submission, error)
        else:
            self._start(self._wait(submission, future))
            # One with a key may become the future of the task that holds the key.
            if isinstance(order.task, NewTask) and order.task.key_hash is None:
                self._cancel_later(submission, future)
        self._pending.pop(submission.name, None)

    # --- what callers are told ---------------------------------------------------------------------------------------

    def _was_refused(self, submission: Submission, error: HerdError) -> None:
        self._answer(submission)
        if isinstance(error, DuplicateTask):
            submission.refused = True
            self._reports.was_duplicate(submission.name, submission.job, error.name)
        elif isinstance(error, (NotSubmitted, HerdClosed, BacklogFull)):
            submission.refused = True
            self._reports.was_refused(submission.name)
        elif isinstance(error, SubmissionUnknown):
            submission.unknown = True
            self._reports.was_unknown(submission.name, has_reason=True)  # perhaps its time was over
        else:
            self._reports.complain(f"was told {error!r} of {submission.name}")

    def _answer(self, submission: Submission) -> None:
        if submission.answered:
            self._reports.complain(f"was told twice what became of the submission of {submission.name}")
        submission.answered = True

    def _was_submitted(self, submission: Submission, order: Order, future: Future[object]) -> None:
        self._answer(submission)
        if future.name != order.task.name:
            submission.refused = True
            self._reports.was_duplicate(submission.name, submission.job, future.name)
        else:
            submission.accepted = True
            self._reports.was_accepted(submission.name)
            self._cancel_later(submission, future)
        if self._rng.random() < 0.7 or submission.job.silent:
            self._start(self._wait(submission, future))
        else:
            self._pending[future] = None
            future.add_done_callback(partial(self._called_back, submission))

    def _called_back(self, submission: Submission, future: object) -> None:
        done = cast("Future[object]", future)
        error = failure_of(done)
        self._ended(submission, done.name, None if error is not None else done.result(), error)
        self._pending.pop(done, None)

    def _wait_for_earlier(self) -> None:
        """Wait by name for what was accepted, by an earlier process or before the Herd was closed."""
        for submission in list(self._state.submissions.values()):
            waits = submission.accepted and not submission.delivered and not submission.job.silent
            if waits and (self._state.program.attaches or submission.life == self._state.life):
                submission.attached = self._state.life
                future = self._core.started().attach(submission.name, self._core)
                self._start(self._wait(submission, future))

    async def _wait(self, submission: Submission, future: Future[object]) -> None:
        value: object = None
        error: BaseException | None = None
        try:
            value = await future
        except Exception as raised:  # noqa: BLE001 - whatever the task raised
            error = raised
        self._ended(submission, future.name, value, error)

    def _ended(self, submission: Submission, name: str, value: object, error: BaseException | None) -> None:
        if isinstance(error, HerdClosed):
            if not self._is_closed:
                self._reports.complain(f"was told of {name} that the Herd is closed, and it is not")
            if not submission.answered:
                submission.answered = submission.unknown = True
            return
        if name == submission.name and not submission.answered:  # it was begun without waiting
            if isinstance(error, (NotSubmitted, SubmissionUnknown, DuplicateTask, BacklogFull)):
                self._was_refused(submission, error)
                return
            submission.answered = submission.accepted = True
            self._reports.was_accepted(name)
        elif not submission.answered:
            submission.answered = submission.refused = True
            self._reports.was_duplicate(submission.name, submission.job, name)
        if submission.job.silent:
            if not isinstance(error, OutcomeGone):
                self._reports.complain(f"was told {error!r} of {name}, which has no outcome")
            return
        if submission.delivered:
            self._reports.complain(f"was told twice that {name} has ended")
        submission.delivered = True
        # An earlier process may have collected it, and been killed before its users were told.
        may_be_gone = name != submission.name or submission.attached > submission.life
        self._reports.future_ended(name, value, error, may_be_gone=may_be_gone)

    # --- cancelling --------------------------------------------------------------------------------------------------

    def _cancel_later(self, submission: Submission, future: Future[object]) -> None:
        job = submission.job
        if job.cancel is not None and not job.silent:
            for number in range(2):
                at = max(job.at + job.cancel, self._process.loop.now) + number * _CANCELLERS_APART
                self._start(self._cancel(submission, future, at))

    async def _cancel(self, submission: Submission, future: Future[object], at: float) -> None:
        await self._until(at)
        if self._is_closed or submission.delivered or self._stopped.is_set():
            return
        try:
            is_cancelled = await future.cancel_async(_CANCEL_SECONDS)
        except HerdClosed:
            return
        # Where the submission is unknown, its future has failed, and the task may go on.
        is_unknown = submission.unknown or _is_unknown(future)
        is_certain = False if is_unknown else not self._is_closed
        self._reports.was_cancelled(submission.name, is_cancelled=is_cancelled, is_certain=is_certain)


def _is_unknown(future: Future[object]) -> bool:
    """Return whether a future has failed because it is not known whether the task was accepted."""
    return future.done() and not future.cancelled() and isinstance(future.exception(), SubmissionUnknown)
