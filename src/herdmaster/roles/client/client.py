"""The client role: submits tasks and waits for their outcomes, over as many sessions as that takes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.outcome import KEPT_SECONDS
from herdmaster.core.signing import SignedOnly
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError
from herdmaster.roles.client.backlog_limit import BacklogLimit
from herdmaster.roles.client.due_times import DueTimes
from herdmaster.roles.client.flow_submissions import FlowSubmissions
from herdmaster.roles.client.journal_items import Accepted, Answer
from herdmaster.roles.client.key_claims import KeyedSubmissions
from herdmaster.roles.client.outcomes import Ended, OutcomeWatch
from herdmaster.roles.client.questions import Questions
from herdmaster.roles.client.submission_journal import SubmissionJournal
from herdmaster.roles.shared.cancel_requests import CancelRequests
from herdmaster.roles.shared.role import Role, run_until_first
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper.client import Client


class ClientSettings(msgspec.Struct, frozen=True):
    """The settings of a client. Times are in seconds. With `signed_only` the keys in it sign what
    is submitted and verify what is read."""

    session_timeout: float = 10.0
    connect_timeout: float | None = 10.0
    outcome_ttl: float = KEPT_SECONDS
    signed_only: SignedOnly | None = None


class TaskClient(Role):
    """A client. `run` keeps a session; the other methods may be called from the same loop at any time, also while there
    is no session."""

    # A line of a library. Had it a higher level, the line about the return would need the same.
    loss_level = logging.INFO

    def __init__(self, hosts: str, settings: ClientSettings | None = None, system: System | None = None) -> None:
        super().__init__("client", hosts, system)
        self._settings = settings or ClientSettings()
        self.says_late = True  # whether to log that no server answers
        self._is_running = False
        signed_only = self._settings.signed_only
        keyring = None if signed_only is None else signed_only.keyring
        due_times = DueTimes(self.system.clock, self.system.unix_ms, keyring)
        self.journal = SubmissionJournal(self.system.new_id, due_times)
        self._keyed = KeyedSubmissions(self.journal.submit, due_times.asked_at)
        self._flows = FlowSubmissions(self.journal.submit_part, self.journal.give_up)
        self.backlog_limit = BacklogLimit()
        self.outcomes = OutcomeWatch(
            outcome_ttl=self._settings.outcome_ttl, rng=self.system.rng, signed_only=signed_only
        )
        self.cancels = CancelRequests(self.outcomes.waits_for)
        self.questions = Questions()

    async def open(self) -> Client:
        settings = self._settings
        return await self.open_session(settings.session_timeout, settings.connect_timeout, says_late=self.says_late)

    def meanwhile(self) -> str:
        return "what is submitted waits until it is back"

    def found(self) -> str:
        waiting, unresolved = self.outcomes.waiting, self.journal.unresolved
        return f"outcomes awaited: {waiting}, submissions not yet accepted: {unresolved}"

    def stop(self) -> None:
        """Ask `run` to end. Callers that still wait to be accepted are told what is known, at the latest when `run`
        returns."""
        super().stop()
        if not self._is_running:
            self._end()

    async def run(self) -> None:
        self._is_running = True
        try:
            await super().run()
        finally:
            self._is_running = False
            if self.is_stopping:
                self._end()

    @property
    def signed_only(self) -> SignedOnly | None:
        """Which results are taken."""
        return self._settings.signed_only

    def _end(self) -> None:
        self.journal.end()
        self._keyed.end()
        self.cancels.end()
        self.questions.end()

    async def serve(self, client: Client) -> None:
        await run_until_first(
            self.journal.run(client),
            self.outcomes.run(client),
            self._keyed.run(client),
            self.backlog_limit.run(client),
            self.cancels.run(client),
            self.questions.run(client),
        )

    async def drain(self, client: Client) -> None:
        await self.journal.close(client)

    def submit(self, task: NewTask, accepted: Accepted, ended: Ended | None) -> None:
        """Submit a task. `accepted` is called once: with None, or with what is known: NotSubmitted, SubmissionUnknown,
        DuplicateTask. If the task was accepted, `ended` is called once when it has ended; `ended` is None for a task
        without an outcome."""

        def handle(done: NewTask, error: HerdError | None) -> None:
            if error is None and ended is not None:
                self.outcomes.wait_for(done.name, ended)
            accepted(done, error)

        if task.key_hash is None:
            self.journal.submit(task, handle)
        else:
            self._keyed.submit(task, handle)

    def submit_flow(self, flow: NewFlow, accepted: Answer, ended: Ended, went_on: Callable[[], None]) -> None:
        """As `submit`, a flow. `went_on` is called when a part of it is accepted. `ended` is not called for a flow with
        a key: others may wait for it, too, so it is awaited by its name."""

        def handle(error: HerdError | None) -> None:
            if error is None and flow.keyed_name is None:
                self.outcomes.wait_for(flow.name, ended)
            accepted(error)

        self._flows.submit(flow, handle, went_on)

    def give_up(self, name: str) -> None:
        """Tell the caller that waits for acceptance at once what is known. A submission that was not yet admitted is
        dropped without a call."""
        self.backlog_limit.forget(name)
        if not self._keyed.give_up(name) and not self._flows.give_up(name):
            self.journal.give_up(name)

    def attach(self, task: str, ended: Ended) -> None:
        """Wait for a task that another process, or an earlier run of this one, submitted."""
        self.outcomes.wait_for(task, ended, locate=True)
