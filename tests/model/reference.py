"""The reference's roles: their moves are two requests, and so are not all or nothing.

What they repeat after a lost connection, and what not, is taken from `tests/reference`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from herdmaster.core.transitions import CreateNode, Failure, Move, TransitionName
from tests.model.engine import Process, Reaction, Step
from tests.model.events import End, Ended
from tests.model.mind import Mind, mind_counts
from tests.model.reference_moves import assign, complete, recover
from tests.model.rules import Setup
from tests.model.server import Applied, Server
from tests.model.vocabulary import (
    ASSIGN,
    EMPTY_HAND,
    INBOXES,
    LARGE_PAYLOAD,
    RAW_PAYLOAD,
    STATUS,
    TASKS,
    Batch,
    Client,
    Doing,
    Hand,
    Kind,
    Link,
    Seat,
    Slot,
    Sub,
    Znodes,
    describe_request,
)


class ReferencePrimary:
    """A reference master as primary, and one task."""

    def __init__(self, setup: Setup, number: int, task: str) -> None:
        self._setup = setup
        self._number = number
        self._task = task
        self._server = Server(setup, task, two_requests=True)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("seat", "slot A", "slot B", f"znodes {self._number}", f"mind {self._number}")

    def steps(self, seat: Seat, a: Slot, b: Slot, znodes: Znodes, mind: Mind) -> Iterator[Step]:
        slots = {"A": a, "B": b}
        if seat.kind is not Kind.REFERENCE:
            return
        if mind.move is not None:
            yield from self._served(seat, mind, mind.move, znodes, slots)
        elif seat.link is Link.UP:
            yield from self._decide(seat, mind, znodes, slots)
        if seat.link is Link.UP and (TASKS in znodes.places) != (TASKS in mind.seen):
            is_there = TASKS in znodes.places
            after = mind._replace(seen=frozenset({TASKS} if is_there else ()), looked=mind.looked and is_there)
            what = "came to" if is_there else "left"
            yield self._mind(f"The primary hears that task {self._number} {what} /tasks", mind, after)

    def _mind(self, story: str, before: Mind, after: Mind) -> Step:
        return Step(story, {f"mind {self._number}": after}, mind_counts(before, after))

    def _decide(self, seat: Seat, mind: Mind, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[Step]:
        name = f"task {self._number}"
        for letter, slot in slots.items():
            is_lost = slot.seen_inbox and not slot.seen_alive and not self._setup.c_master
            if is_lost and ASSIGN[letter] in znodes.places:
                move = recover(self._task, letter, znodes.payload(ASSIGN[letter]))
                story = f"The reference primary decides to recover {name} from worker {letter}"
                yield self._mind(story, mind, mind._replace(move=move))
        if TASKS not in mind.seen & znodes.places or mind.looked:
            return
        alive = [letter for letter in INBOXES if slots[letter].seen_alive]
        for letter in alive:
            move = assign(self._task, letter, znodes.payload(TASKS))
            story = f"The reference primary decides to assign {name} to worker {letter}"
            yield self._mind(story, mind, mind._replace(move=move, looked=True))
        if not alive and self._setup.c_master:
            changes = {f"slot {letter}": slot.unseen() for letter, slot in slots.items()}
            story = f"The C master divides by its number of workers for {name}, and crashes"
            yield Step(story, {"seat": seat._replace(link=Link.CRASHED), **changes}, event=End.PRIMARY_CUT)
        elif not alive:
            yield self._mind(
                f"The reference primary sees no worker and passes {name} over", mind, mind._replace(looked=True)
            )

    def _served(self, seat: Seat, mind: Mind, move: Move, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[Step]:
        """One request after the other. While it is away its requests are repeated after the reconnect; of a crashed one
        the next will never be sent."""
        name = describe_request(move, mind.done, self._number)
        result = self._server.carry_out(move, znodes, slots, first=mind.done, last=mind.done + 1)
        done = mind.done + 1
        finished = mind._replace(move=None, done=0)
        after = mind._replace(done=done) if done < len(move.operations) else finished
        if isinstance(result, Applied):
            if seat.link is not Link.UP:
                after = mind if seat.link is Link.AWAY else finished
            yield self._applied(f"ZooKeeper carries out a reference primary's request: {name}", mind, after, result)
        elif seat.link is Link.UP:
            if isinstance(move.operations[mind.done], CreateNode):
                repeats = move.transition is TransitionName.RECOVER and result.failure is Failure.NODE_EXISTS
                after = mind if repeats else finished
            yield self._mind(f"ZooKeeper refuses a reference primary's request: {name}", mind, after)

    def _applied(self, story: str, before: Mind, after: Mind, result: Applied) -> Step:
        changes = {f"mind {self._number}": after, f"znodes {self._number}": result.znodes}
        return Step(story, changes, mind_counts(before, after) | result.counts, broken=result.broken)


class ReferenceWorker:
    """A reference worker and one task in its inbox."""

    def __init__(self, setup: Setup, number: int, task: str, letter: str) -> None:
        self._number = number
        self._task = task
        self._letter = letter
        self._server = Server(setup, task, two_requests=True)
        self._who = f"Reference worker {letter}"
        self._what = f"task {number}"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("seat", f"slot {self._letter}", f"znodes {self._number}", f"hand {self._number}{self._letter}")

    def steps(self, _seat: Seat, slot: Slot, znodes: Znodes, hand: Hand) -> Iterator[Step]:
        is_here = ASSIGN[self._letter] in znodes.places
        if hand.move is not None:
            yield from self._served(slot, znodes, hand, hand.move)
        elif slot.link is not Link.UP:
            return
        elif hand.doing is Doing.NOTHING and is_here:
            yield self._hand(
                f"{self._who} reads {self._what} in its inbox",
                Hand(Doing.WAITING, znodes.payload(ASSIGN[self._letter])),
            )
        elif hand.doing is Doing.WAITING:
            yield self._hand(f"{self._who} runs {self._what}", hand._replace(doing=Doing.RUNNING))
        elif hand.doing is Doing.RUNNING:
            move = complete(self._task, self._letter)
            yield self._hand(f"{self._who} sends the two requests that complete {self._what}", hand._replace(move=move))
        elif hand.doing is Doing.LEFT and not is_here:
            yield self._hand(f"{self._who} hears that {self._what} left its inbox", EMPTY_HAND)
        elif hand.doing is Doing.LEFT:
            gone = {f"slot {self._letter}": slot._replace(link=Link.GONE)}
            story = f"An operator stops reference worker {self._letter}, which will not look at {self._what} again"
            yield Step(story, gone, event=Ended(self._letter))

    def _hand(self, story: str, hand: Hand) -> Step:
        return Step(story, {f"hand {self._number}{self._letter}": hand})

    def _served(self, slot: Slot, znodes: Znodes, hand: Hand, move: Move) -> Iterator[Step]:
        """The create of the status is repeated after a lost connection, the delete of the assignment is not."""
        name = describe_request(move, hand.done, self._number)
        result = self._server.carry_out(move, znodes, {self._letter: slot}, first=hand.done, last=hand.done + 1)
        again = hand._replace(doing=Doing.ENDING, move=_status_only(move), done=0)
        is_last = hand.done + 1 == len(move.operations)
        if slot.link is Link.UP:
            after = self._heard(hand, znodes)
        elif not is_last:
            after = hand._replace(done=hand.done + 1)
        else:
            after = again if slot.link is Link.AWAY else EMPTY_HAND
        if slot.link is Link.AWAY and hand.doing is not Doing.ENDING:
            yield self._hand(f"The request of reference worker {self._letter} is lost: {name}", again)
        if isinstance(result, Applied):
            changes = {f"hand {self._number}{self._letter}": after, f"znodes {self._number}": result.znodes}
            story = f"ZooKeeper carries out a request of reference worker {self._letter}: {name}"
            yield Step(story, changes, result.counts, broken=result.broken)
        else:
            yield self._hand(f"ZooKeeper refuses a request of reference worker {self._letter}: {name}", after)

    def _heard(self, hand: Hand, znodes: Znodes) -> Hand:
        if hand.doing is Doing.ENDING:
            return Hand(Doing.LEFT) if ASSIGN[self._letter] in znodes.places else EMPTY_HAND
        return EMPTY_HAND if hand.done else hand._replace(done=1)


class ReferenceClients:
    """Its submission is one create, repeated after a lost connection under another name, so no client waits for a task
    whose create it did not hear of. When its session ends the program is over."""

    def __init__(self, setup: Setup, tasks: list[str]) -> None:
        self._tasks = tasks
        self._payload = LARGE_PAYLOAD if setup.too_large else RAW_PAYLOAD

    initial = Client(Link.UP)

    def processes(self) -> list[Process]:
        found = [Process(("faults", "client"), self._faults)]
        for number in range(1, len(self._tasks) + 1):
            reads = ("client", f"sub {number}", f"znodes {number}")
            found.append(Process(reads, lambda *values, number=number: self._submitting(number, *values)))
        return found

    def reaction(self, number: int) -> Reaction:
        return Reaction((f"sub {number}",), lambda event, sub: self._react(number, event, sub))

    def _react(self, number: int, event: object, sub: Sub) -> Step:
        is_over = event is End.CLIENT_OVER and sub in (Sub.SENT, Sub.ACCEPTED)
        return Step("", {f"sub {number}": Sub.FORGOTTEN if is_over else sub})

    def _faults(self, faults: int, client: Client) -> Iterator[Step]:
        less = {"faults": -1}
        match client.link:
            case Link.UP if faults:
                away = client._replace(link=Link.AWAY)
                yield Step("The reference client loses its connection", {"client": away}, less, progress=False)
                dead = client._replace(link=Link.CRASHED)
                yield Step(
                    "The reference client crashes", {"client": dead}, less, progress=False, event=End.CLIENT_OVER
                )
            case Link.AWAY:
                yield Step("The reference client reconnects", {"client": client._replace(link=Link.UP)})
                over = Client(Link.CRASHED)
                yield Step(
                    "The reference client's session ends", {"client": over}, progress=False, event=End.CLIENT_OVER
                )
            case Link.CRASHED if client.wire:
                yield Step("The reference client's session ends", {"client": client._replace(wire=())})
            case Link.CRASHED:
                yield Step("Another reference client opens a session", {"client": self.initial})

    def _submitting(self, number: int, client: Client, sub: Sub, znodes: Znodes) -> Iterator[Step]:
        field, batch = f"sub {number}", Batch((number,), 0)
        rest = client._replace(wire=tuple(each for each in client.wire if each != batch))
        if client.link is Link.UP and sub is Sub.NEW:
            sent = {"client": client._replace(wire=(*client.wire, batch)), field: Sub.SENT}
            yield Step(f"The reference client submits task {number}", sent)
        if batch in client.wire:
            heard = client.link is Link.UP
            created = znodes.written(TASKS, self._payload)._replace(accepted=1)
            changes = {"client": rest, f"znodes {number}": created, field: Sub.ACCEPTED if heard else Sub.FORGOTTEN}
            yield Step(f"ZooKeeper creates task {number}{'' if heard else ', unheard'}", changes)
        if batch in client.wire and client.link is Link.AWAY:
            yield Step(f"The reference client's request is lost: task {number}", {"client": rest, field: Sub.NEW})
        if client.link is Link.UP and sub is Sub.ACCEPTED and STATUS in znodes.places:
            gone = {field: Sub.ENDED, f"znodes {number}": znodes.without(STATUS)}
            yield Step(f"The reference client reads the outcome of task {number} and deletes it", gone)


def _status_only(move: Move) -> Move:
    return Move(move.transition, move.task, move.operations[:1], move.guard)
