"""Our client: its journal and its submissions, as in `roles/client/submission_journal.py`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from herdmaster.core import layout, transitions
from herdmaster.core.transitions import (
    CheckNode,
    CreateNode,
    Failure,
    NewTask,
    Operation,
    SetNode,
    Submission,
    Verdict,
    verdict,
)
from tests.model.engine import Process, Reaction, Step
from tests.model.events import End
from tests.model.rules import Rule, Setup
from tests.model.server import LOST, Applied, Refused, Server
from tests.model.vocabulary import (
    CANCEL,
    DELAYED,
    DUE,
    FIRST_PAYLOAD,
    HOLD,
    KEY,
    KEY_HASH,
    KEYED_PAYLOAD,
    NOWHERE,
    OF_KEYS,
    RAW_PAYLOAD,
    STATUS,
    TASKS,
    Batch,
    Client,
    Kind,
    Link,
    Sub,
    Znodes,
)

TWICE: Final = "a submission is accepted at most once"
NOT_TRUE: Final = "who is told that a task was not submitted is told the truth"

_MAX_IN_FLIGHT: Final = 2
_NOW, _OLD = "now", "old"
_SESSIONS: Final = {_NOW: 2, _OLD: 1}
_NAME: Final = "client-1"
_ALIVE_PATHS: Final = {layout.alive_path(_NAME, number): session for session, number in _SESSIONS.items()}
_UNANSWERED: Final = (Sub.QUEUED, Sub.SENT)


class _Now(NamedTuple):
    """The client with all that it submits, by the tasks' numbers."""

    client: Client
    subs: Mapping[int, Sub]
    znodes: Mapping[int, Znodes]

    def told(self, numbers: Iterable[int], sub: Sub) -> dict[str, Hashable]:
        """What changes when the callers of these tasks, as far as they still wait, are told something."""
        return {f"sub {number}": sub for number in numbers if self.subs[number] is Sub.SENT}

    def is_false(self, told: Mapping[str, Hashable]) -> str | None:
        """The promise that is broken by telling that."""
        for number, znodes in self.znodes.items():
            answer = told.get(f"sub {number}")
            if answer is Sub.ACCEPTED and not znodes.accepted:
                return LOST
            if answer is Sub.TOLD_NO and znodes.accepted:
                return NOT_TRUE
        return None


class Clients:
    """`tasks` are the names. The client's session before this one is called the old one."""

    initial = Client(Link.UP, prepared=True, doubt=False, alive=frozenset({_NOW}))
    """One that has been at work before, so that the interesting begins at once."""

    def __init__(self, setup: Setup, tasks: Sequence[str]) -> None:
        self._setup = setup
        self._tasks = dict(enumerate(tasks, 1))
        self._servers = {number: Server(setup, task) for number, task in self._tasks.items()}
        self._place = DELAYED if setup.delaying else TASKS
        self._payload = FIRST_PAYLOAD if setup.workers is Kind.OURS else RAW_PAYLOAD
        if setup.keyed:
            self._payload = KEYED_PAYLOAD

    def processes(self) -> list[Process]:
        subs = tuple(f"sub {number}" for number in self._tasks)
        znodes = tuple(f"znodes {number}" for number in self._tasks)
        return [
            Process(("faults", "client"), self._session),
            Process(("client", *subs, *znodes), self._submitting),
            *(
                Process(("client", f"sub {number}", f"znodes {number}"), partial(self._waiting, number))
                for number in self._tasks
            ),
        ]

    def reaction(self, number: int) -> Reaction:
        return Reaction((f"sub {number}",), partial(self._react, number))

    def _react(self, number: int, event: object, sub: Sub) -> Step:
        is_over = event is End.CLIENT_OVER and sub in (Sub.QUEUED, Sub.SENT, Sub.ACCEPTED)
        return Step("", {f"sub {number}": Sub.FORGOTTEN if is_over else sub})

    def _is_off(self, rule: Rule) -> bool:
        return self._setup.off is rule

    # --- its session -----------------------------------------------------------------------------------------------

    def _session(self, faults: int, client: Client) -> Iterator[Step]:
        less = {"faults": -1}
        match client.link:
            case Link.NONE:
                opened = client._replace(link=Link.UP, prepared=False, doubt=True)
                yield Step("The client opens a session", {"client": opened})
            case Link.UP if self._setup.may_fail("client", faults):
                away = client._replace(link=Link.AWAY)
                yield Step("The client loses its connection", {"client": away}, less, progress=False)
            case Link.AWAY:
                yield from self._away(client)
            case Link.CRASHED if not client.old:
                yield Step("Another client opens a session", {"client": self.initial})
        can_crash = client.link in (Link.UP, Link.AWAY) and not client.old
        if can_crash and self._setup.may_fail("client", faults):
            aged = _aged(client)
            dead = Client(Link.CRASHED, journal=client.journal, wire=aged.wire, alive=aged.alive, old=True)
            yield Step("The client crashes", {"client": dead}, less, progress=False, event=End.CLIENT_OVER)
        if client.old:
            wire = tuple(batch for batch in client.wire if not batch.old)
            over = client._replace(old=False, wire=wire, alive=client.alive - {_OLD})
            yield Step("The client's old session ends", {"client": over})

    def _away(self, client: Client) -> Iterator[Step]:
        yield Step("The client reconnects", {"client": client._replace(link=Link.UP)})
        wire = tuple(batch for batch in client.wire if batch.old)
        ended = client._replace(link=Link.NONE, wire=wire, sent=_as_old(client.sent), alive=client.alive - {_NOW})
        yield Step("The client's session ends", {"client": ended}, progress=False)
        if not client.old:
            story = "The client gives its session up, which lives on in ZooKeeper"
            yield Step(story, {"client": _aged(client)._replace(link=Link.NONE)}, progress=False)

    # --- submitting ------------------------------------------------------------------------------------------------

    def _submitting(self, client: Client, *values: Sub | Znodes) -> Iterator[Step]:
        subs = {number: value for number, value in enumerate(values, 1) if isinstance(value, Sub)}
        znodes = {number - len(subs): value for number, value in enumerate(values, 1) if isinstance(value, Znodes)}
        now = _Now(client, subs, znodes)
        if client.link is not Link.CRASHED:
            yield from self._callers(now)
        if client.link is Link.UP:
            yield from self._prepare(now)
            yield from self._send(now)
        for old in (False, True):
            batch = next((batch for batch in client.wire if batch.old is old), None)
            if batch is not None:
                yield from self._served(now, batch)

    def _callers(self, now: _Now) -> Iterator[Step]:
        client = now.client
        for number, sub in now.subs.items():
            if sub is Sub.NEW and now.subs.get(number - 1) is not Sub.NEW:
                yield Step(f"The caller submits task {number}", {f"sub {number}": Sub.QUEUED})
            if sub in _UNANSWERED and (client.doubt or client.link is not Link.UP):
                is_sent = any(number in batch.tasks for batch in client.sent if not batch.refused)
                told = {f"sub {number}": Sub.TOLD_UNKNOWN if is_sent else Sub.TOLD_NO}
                what = "that it is not known" if is_sent else "that it was not submitted"
                story = f"The caller of task {number} gives up, and is told {what}"
                yield Step(story, told, progress=False, broken=now.is_false(told))

    def _prepare(self, now: _Now) -> Iterator[Step]:
        client = now.client
        if not client.prepared:
            if client.sent or any(sub in _UNANSWERED for sub in now.subs.values()):
                older = client.alive if self._is_off(Rule.OLDER_ALIVE_DELETED) else NOWHERE
                announced = client._replace(prepared=True, doubt=True, alive=older | {_NOW})
                yield Step("The client deletes older alive nodes and makes its own", {"client": announced})
        elif client.doubt and all(batch.old for batch in client.wire):
            for version in range(0 if self._is_off(Rule.SYNC) else client.journal, client.journal + 1):
                yield self._settle_doubt(now, version)

    def _settle_doubt(self, now: _Now, version: int) -> Step:
        accepted: list[int] = []
        again: list[int] = []
        for batch in now.client.sent:
            is_in = not batch.refused and batch.counted_on < version and self._setup.keeps(Rule.JOURNAL_READ)
            (accepted if is_in else again).extend(batch.tasks)
        told = now.told(accepted, Sub.ACCEPTED) | now.told(again, Sub.QUEUED)
        client = now.client._replace(doubt=False, version=version, sent=())
        story = f"The client reads version {version} of its journal"
        return Step(story, {"client": client, **told}, broken=now.is_false(told))

    def _send(self, now: _Now) -> Iterator[Step]:
        client = now.client
        tasks = tuple(number for number, sub in now.subs.items() if sub is Sub.QUEUED)
        if client.prepared and not client.doubt and tasks and len(client.sent) < _MAX_IN_FLIGHT:
            batch = Batch(tasks, client.version)
            sent = client._replace(version=client.version + 1, sent=(*client.sent, batch), wire=(*client.wire, batch))
            changes: dict[str, Hashable] = {f"sub {number}": Sub.SENT for number in tasks}
            yield Step(f"The client sends: {_name(batch)}", {"client": sent, **changes})

    # --- ZooKeeper -------------------------------------------------------------------------------------------------

    def _served(self, now: _Now, batch: Batch) -> Iterator[Step]:
        submission = self._submission(batch)
        refused = self._find_failure(now, batch, submission)
        client = now.client._replace(wire=_without(now.client.wire, batch))
        heard = now.client.link is Link.UP and not batch.old
        unheard = client if batch.old else client._replace(doubt=True)
        if refused is None:
            yield self._accepted(now, batch, client if heard else unheard, heard=heard)
        elif heard:
            yield self._refused(now._replace(client=client), batch, submission, refused)
        else:
            yield Step(f"ZooKeeper refuses, and the client does not hear: {_name(batch)}", {"client": unheard})
        if now.client.link is Link.AWAY and not batch.old:
            yield Step(f"The client's request is lost: {_name(batch)}", {"client": unheard})

    def _submission(self, batch: Batch) -> Submission:
        keys = {1: KEY_HASH} if self._setup.key_taken or self._setup.keyed else {}
        due = DUE if self._setup.delaying else None
        tasks = [
            NewTask(self._tasks[number], self._payload, due, keys.get(number), key_record=b"{}")
            for number in batch.tasks
        ]
        return transitions.submit(_NAME, _SESSIONS[_OLD if batch.old else _NOW], batch.counted_on, tasks)

    def _find_failure(self, now: _Now, batch: Batch, submission: Submission) -> Refused | None:
        for index, (operation, owner) in enumerate(zip(submission.operations, submission.owners, strict=True)):
            failure = self._failure(now, operation, batch.tasks[owner])
            if failure is not None:
                return Refused(index, failure)
        return None

    def _failure(self, now: _Now, operation: Operation, number: int) -> Failure | None:
        match operation:
            case CheckNode(path):
                is_alive = _ALIVE_PATHS[path] in now.client.alive or self._is_off(Rule.ALIVE_CHECK)
                return None if is_alive else Failure.NO_NODE
            case SetNode(_, _, version):
                is_expected = version == now.client.journal or self._is_off(Rule.JOURNAL_VERSION)
                return None if is_expected else Failure.BAD_VERSION
            case CreateNode(path):
                if path.startswith(layout.KEYS):
                    return Failure.NODE_EXISTS if self._is_key_taken(now.znodes[number]) else None
                return Failure.NODE_EXISTS if self._place in now.znodes[number].places else None
        raise AssertionError(f"a batch has no {operation}")

    def _is_key_taken(self, znodes: Znodes) -> bool:
        return self._setup.key_taken or not znodes.places.isdisjoint(OF_KEYS)

    def _accepted(self, now: _Now, batch: Batch, client: Client, *, heard: bool) -> Step:
        changes: dict[str, Hashable] = {}
        broken = None
        for number in batch.tasks:
            before = now.znodes[number]
            told_no = now.subs[number] is Sub.TOLD_NO
            broken = broken or (TWICE if before.accepted else NOT_TRUE if told_no else None)
            after = before.written(self._place, self._payload)._replace(accepted=1)
            changes[f"znodes {number}"] = after.written(KEY, b"").written(HOLD, b"") if self._setup.keyed else after
        client = client._replace(journal=client.journal + 1)
        if heard:
            client = client._replace(sent=_without(client.sent, batch))
            changes |= now.told(batch.tasks, Sub.ACCEPTED)
        story = f"ZooKeeper carries out{'' if heard else ', and the client does not hear'}: {_name(batch)}"
        return Step(story, {"client": client, **changes}, broken=broken)

    def _refused(self, now: _Now, batch: Batch, submission: Submission, refused: Refused) -> Step:
        found = verdict(submission, refused.at, refused.failure)
        story = f"ZooKeeper refuses: {_name(batch)} ({found.value})"
        client = now.client._replace(doubt=True)
        if found is Verdict.READ_JOURNAL and self._is_off(Rule.BAD_VERSION):
            told = now.told(batch.tasks, Sub.ACCEPTED)
            client = client._replace(sent=_without(client.sent, batch))
            return Step(
                f"{story}, which its callers are told is accepted",
                {"client": client, **told},
                broken=now.is_false(told),
            )
        culprits = [batch.tasks[submission.owners[refused.at]]] if submission.owners[refused.at] >= 0 else []
        is_naive = self._is_off(Rule.JOURNAL_READ) and found is Verdict.UNEXPECTED
        told = now.told(culprits, Sub.ACCEPTED if is_naive else Sub.TOLD_NO)
        sent = tuple(each._replace(refused=True) if each == batch else each for each in client.sent)
        prepared = client.prepared and found is not Verdict.SESSION_REPLACED
        client = client._replace(sent=sent, prepared=prepared)
        return Step(story, {"client": client, **told}, broken=now.is_false(told))

    # --- waiting for the outcome -----------------------------------------------------------------------------------

    def _waiting(self, number: int, client: Client, sub: Sub, znodes: Znodes) -> Iterator[Step]:
        if client.link is not Link.UP or sub is not Sub.ACCEPTED:
            return
        if self._setup.cancelling and CANCEL not in znodes.places:
            asked = znodes.written(CANCEL, b"")
            yield Step(f"The client asks to cancel task {number}", {f"znodes {number}": asked}, progress=False)
        if STATUS in znodes.places and self._setup.keyed:
            yield Step(f"The client has the outcome, and leaves it, task {number}", {f"sub {number}": Sub.ENDED})
        elif STATUS in znodes.places:
            result = self._servers[number].carry_out(transitions.collect(self._tasks[number]), znodes, {})
            assert isinstance(result, Applied)
            story = f"The client has the outcome, and ZooKeeper carries out: collect, task {number}"
            yield Step(story, {f"sub {number}": Sub.ENDED, f"znodes {number}": result.znodes})


def _name(batch: Batch) -> str:
    return f"submit, task {' and '.join(map(str, batch.tasks))}, counting on version {batch.counted_on}"


def _as_old(batches: tuple[Batch, ...]) -> tuple[Batch, ...]:
    return tuple(batch._replace(old=True) for batch in batches)


def _aged(client: Client) -> Client:
    """Its session is an old one from now on."""
    alive = frozenset({_OLD}) if _NOW in client.alive else client.alive
    return client._replace(wire=_as_old(client.wire), sent=_as_old(client.sent), alive=alive, old=True)


def _without(batches: tuple[Batch, ...], batch: Batch) -> tuple[Batch, ...]:
    place = batches.index(batch)
    return batches[:place] + batches[place + 1 :]
