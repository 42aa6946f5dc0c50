"""Submits flows by the client's journal: a small flow as one part, a large one as several.

| phase | sent | a failure means |
|---|---|---|
| whole | all of a small flow | as for a task |
| first | the header | certainly not accepted |
| middle | the steps, several parts at a time | certainly not accepted |
| last | what lets the flow run | as for a task |

The parts of a flow that was given up stay: a primary deletes flows that are being built for too long.

Of several flows with the same key one is sent at a time: in one batch the second would refuse the first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from herdmaster.core import flow_creation
from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.operations import FlowPart
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted, SubmissionUnknown
from herdmaster.roles.client.journal_items import Answer, KeyTaken

SubmitPart = Callable[[FlowPart, Answer], None]


class FlowSubmissions:
    """The flows of one client that are not accepted yet. They outlive sessions. `submit_part` and `give_up_part` are
    those of the journal."""

    def __init__(self, submit_part: SubmitPart, give_up_part: Callable[[str], None]) -> None:
        self._submit_part = submit_part
        self._give_up_part = give_up_part
        self._flows: dict[str, _Submitted] = {}
        self._behind: dict[str, list[_Submitted]] = {}  # by the name of a flow with a key that is on its way

    def submit(self, flow: NewFlow, accepted: Answer, went_on: Callable[[], None]) -> None:
        """Submit a flow. `accepted` is called once: with None when the flow runs, else with NotSubmitted,
        SubmissionUnknown, or DuplicateTask: there is a flow with its key. `went_on` is called for each accepted part
        but the last."""
        submitted = self._flows[flow.name] = _Submitted(flow, accepted, went_on)
        if flow.keyed_name is None:
            self._begin(submitted)
        elif flow.keyed_name in self._behind:
            self._behind[flow.keyed_name].append(submitted)
        else:
            self._behind[flow.keyed_name] = []
            self._begin(submitted)

    def _begin(self, submitted: _Submitted) -> None:
        flow = submitted.flow
        part = flow_creation.whole(flow)
        if part is None:
            self._send(submitted, flow_creation.first(flow), partial(self._begun, submitted))
        else:
            submitted.is_last = True
            self._send(submitted, part, partial(self._end, submitted))

    def give_up(self, name: str) -> bool:
        """Tell the caller, which no longer waits, what is known. Return False for a flow that is not here."""
        submitted = self._flows.get(name)
        if submitted is None:
            return False
        for part in list(submitted.under_way):
            self._give_up_part(part)
        if name in self._flows:  # it is behind another one
            self._answer(submitted, NotSubmitted(f"{submitted.flow.flow} was not accepted in time"))
        return True

    def _send(self, submitted: _Submitted, part: FlowPart, answer: Answer) -> None:
        submitted.under_way[part.name] = None

        def answered(error: HerdError | None) -> None:
            submitted.under_way.pop(part.name, None)
            answer(error)

        self._submit_part(part, answered)

    def _begun(self, submitted: _Submitted, error: HerdError | None) -> None:
        if error is not None:
            self._end(submitted, error)
            return
        submitted.went_on()
        parts = list(flow_creation.middle(submitted.flow))
        submitted.missing = len(parts)
        for part in parts:
            self._send(submitted, part, partial(self._went_on, submitted))
        if not parts:
            self._send_last(submitted)

    def _went_on(self, submitted: _Submitted, error: HerdError | None) -> None:
        if submitted.flow.name not in self._flows:
            return  # another part has failed
        if error is not None:
            self._end(submitted, error)
            return
        submitted.went_on()
        submitted.missing -= 1
        if not submitted.missing:
            self._send_last(submitted)

    def _send_last(self, submitted: _Submitted) -> None:
        submitted.is_last = True
        self._send(submitted, flow_creation.last(submitted.flow), partial(self._end, submitted))

    def _end(self, submitted: _Submitted, error: HerdError | None) -> None:
        flow = submitted.flow
        if flow.name not in self._flows:
            return
        found = _explained(flow, error, is_certain=not submitted.is_last)
        self._answer(submitted, found)
        for part in list(submitted.under_way):  # they are not wanted any more
            self._give_up_part(part)
        if flow.keyed_name is None:
            return
        for other in self._behind.pop(flow.keyed_name):
            if other.flow.name not in self._flows:
                continue  # given up meanwhile
            if found is None or isinstance(found, DuplicateTask):
                self._answer(other, DuplicateTask(flow.flow))
            else:  # the key may be free
                del self._flows[other.flow.name]
                self.submit(other.flow, other.accepted, other.went_on)

    def _answer(self, submitted: _Submitted, error: HerdError | None) -> None:
        del self._flows[submitted.flow.name]
        submitted.accepted(error)


class _Submitted:
    """A flow on its way. `is_last`: the part is under way by which it begins to run."""

    __slots__ = ("accepted", "flow", "is_last", "missing", "under_way", "went_on")

    def __init__(self, flow: NewFlow, accepted: Answer, went_on: Callable[[], None]) -> None:
        self.flow = flow
        self.accepted = accepted
        self.went_on = went_on
        self.under_way: dict[str, None] = {}
        self.missing = 0
        self.is_last = False


def _explained(flow: NewFlow, error: HerdError | None, *, is_certain: bool) -> HerdError | None:
    """Return what the error of a part says of the flow."""
    if isinstance(error, KeyTaken) and flow.header.key is not None:
        return DuplicateTask(flow.flow)
    if isinstance(error, SubmissionUnknown):
        if is_certain:
            return NotSubmitted(f"{flow.flow} was not accepted: at most a part of it was, which is deleted later")
        return SubmissionUnknown([flow.flow])
    if error is not None and is_certain:
        return NotSubmitted(f"{flow.flow} was not accepted as a whole: {error}")
    if isinstance(error, NotSubmitted) and flow.keyed_name is not None:
        return NotSubmitted(str(error).replace(flow.name, flow.flow))
    return error
