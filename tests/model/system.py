"""The whole system of one run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Final

from herdmaster.core import transitions
from herdmaster.core.keys import HeldKey
from tests.model.client import Clients
from tests.model.engine import Model, Process, Reaction, Step
from tests.model.events import Reactions
from tests.model.mind import EMPTY_MIND
from tests.model.primary import Primary
from tests.model.reference import ReferenceClients, ReferencePrimary, ReferenceWorker
from tests.model.rules import Setup
from tests.model.seats import Masters
from tests.model.server import Applied, Server
from tests.model.slots import Workers
from tests.model.stand_in import StandIn
from tests.model.vocabulary import (
    DEAD,
    EMPTY_HAND,
    HOLD,
    INBOXES,
    KEY_HASH,
    RIVAL,
    STATUS,
    Client,
    Kind,
    Link,
    Seat,
    Slot,
    Sub,
    Znodes,
    call_name,
    raw_name,
)
from tests.model.worker import Worker

_COUNTED = ("held", "seen", "named")
_PRIMARIES: Final[dict[Kind, type[Primary | ReferencePrimary]]] = {Kind.OURS: Primary, Kind.REFERENCE: ReferencePrimary}
_WORKERS: Final[dict[Kind, type[Worker | ReferenceWorker]]] = {Kind.OURS: Worker, Kind.REFERENCE: ReferenceWorker}


def build(setup: Setup) -> Model:
    """The model of what the setup says. Calls go to our workers only, so to a reference worker goes a raw task."""
    ours = setup.workers is setup.clients is Kind.OURS
    names = [call_name(number) if ours else raw_name(number) for number in range(1, setup.tasks + 1)]
    clients = (Clients if setup.clients is Kind.OURS else ReferenceClients)(setup, names)
    initial: dict[str, Hashable] = {"seat": Seat(), "slot A": Slot(), "slot B": Slot(), "client": clients.initial}
    processes = [Masters(setup).process(), *Workers(setup).processes(), *clients.processes()]
    reactions: list[Reaction] = []
    for number, name in enumerate(names, 1):
        initial |= {f"znodes {number}": Znodes(), f"mind {number}": EMPTY_MIND, f"sub {number}": Sub.NEW}
        initial |= {f"hand {number}{letter}": EMPTY_HAND for letter in INBOXES}
        processes += _processes_of(setup, number, name)
        reactions += [Reactions(setup, number, name).reaction(), clients.reaction(number)]
    counters = {"faults": setup.faults} | {f"{kind} {letter}": 0 for kind in _COUNTED for letter in INBOXES}
    return Model(initial, counters, processes, reactions, _settled(setup))


def _processes_of(setup: Setup, number: int, name: str) -> list[Process]:
    primaries = [_PRIMARIES[kind](setup, number, name) for kind in setup.masters]
    workers = [_WORKERS[setup.workers](setup, number, name, letter) for letter in INBOXES]
    found = [Process(each.reads, each.steps) for each in (*primaries, *workers)]
    if {Kind.OURS, Kind.REFERENCE} <= set(setup.masters):
        stand_in = StandIn(setup, number, name)
        found.append(Process(stand_in.reads, stand_in.steps))
    if setup.keyed:
        found.append(_rivalry(setup, number, name))
    return [*found, _sweeping(setup, number, name)]


def _sweeping(setup: Setup, number: int, name: str) -> Process:
    """The primary takes a status away when it is past its time, and that is when no client waits for it any more."""
    server = Server(setup, name)

    def steps(seat: Seat, sub: Sub, znodes: Znodes) -> Iterator[Step]:
        if STATUS in znodes.places and seat.link is Link.UP and sub not in (Sub.SENT, Sub.ACCEPTED):
            key = HeldKey(KEY_HASH) if HOLD in znodes.places else None
            result = server.carry_out(transitions.expire(name, key), znodes, {})
            assert isinstance(result, Applied)
            yield Step(
                f"The status is past its time, and ZooKeeper carries out: expire, task {number}",
                {f"znodes {number}": result.znodes},
            )

    return Process(("seat", f"sub {number}", f"znodes {number}"), steps)


def _rivalry(setup: Setup, number: int, name: str) -> Process:
    """An operator takes the key from the task, and another task gets it when it is free, and has it for any time."""
    server = Server(setup, name)

    def steps(znodes: Znodes) -> Iterator[Step]:
        if HOLD in znodes.places:
            result = server.carry_out(transitions.release(name, KEY_HASH), znodes, {})
            assert isinstance(result, Applied)
            story = f"An operator asks, and ZooKeeper carries out: release, task {number}"
            yield Step(story, {f"znodes {number}": result.znodes}, broken=result.broken, progress=False)
        elif RIVAL in znodes.places:
            gone = znodes.without(RIVAL)
            yield Step("The other task frees the key", {f"znodes {number}": gone}, progress=False)
        elif znodes.accepted:
            taken = znodes.written(RIVAL, b"")
            yield Step("Another task gets the key", {f"znodes {number}": taken}, progress=False)

    return Process((f"znodes {number}",), steps)


def _settled(setup: Setup) -> dict[str, Callable[..., bool]]:
    """Every submission is answered, every task has ended, and nothing is left of either; every live worker has an
    inbox and every inbox a worker."""
    checks: dict[str, Callable[..., bool]] = {
        "client": _client_settled,
        "slot A": _slot_settled,
        "slot B": _slot_settled,
    }
    for number in range(1, setup.tasks + 1):
        checks[f"znodes {number}"] = lambda znodes: znodes.places <= {DEAD, RIVAL}
        checks[f"sub {number}"] = lambda sub: sub not in (Sub.QUEUED, Sub.SENT, Sub.ACCEPTED)
    return checks


def _client_settled(client: Client) -> bool:
    return not client.wire and client.link in (Link.UP, Link.CRASHED)


def _slot_settled(slot: Slot) -> bool:
    return slot == Slot() or (slot.link is Link.UP and slot.inbox and not slot.removing)
