"""The parts of the modelled system, as plain values.

Two inboxes (A and B), up to two tasks, one client, and one seat for the primary: backups differ in nothing until one of
them takes the seat. Fields of a task end with its number, those of an inbox with its letter.
"""

from __future__ import annotations

import enum
from functools import cache
from typing import Final, NamedTuple

from herdmaster.core import layout
from herdmaster.core.keys import Unique, hash_key
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.recovery import MAX_MOVABLE
from herdmaster.core.transitions import CheckNode, DeleteNode, Move

INBOXES: Final = ("A", "B")
WORKERS: Final = {letter: f"worker-{letter.lower()}" for letter in INBOXES}
OTHER: Final = {"A": "B", "B": "A"}

TASKS: Final = "tasks"
STATUS: Final = "status"
DELAYED: Final = "delayed"
DEAD: Final = "dead"
CANCEL: Final = "cancel"
ASSIGN: Final = {letter: f"assign {letter}" for letter in INBOXES}
UNENDED: Final = frozenset({TASKS, DELAYED, *ASSIGN.values()})
"""Where a task stands that has not ended. A place is one of these, `STATUS`, `DEAD` or `CANCEL`."""

DUE: Final = 1000
"""When a delayed task is due; time is not modelled, so it is due at any time."""
LACKING: Final = "A"
"""The worker that lacks the function, if one does."""

NOWHERE: Final[frozenset[str]] = frozenset()
KEY: Final = "key"
HOLD: Final = "hold"
RIVAL: Final = "key of another"
OF_KEYS: Final = frozenset({KEY, HOLD, RIVAL})
"""Further places: of a task's key and its hold, and of the key when it is another task's."""
KEY_HASH: Final = hash_key("k", "shop:resize")

FIRST_PAYLOAD: Final = encode_call(Call(1, "shop:resize", *encode_arguments((), {})))
KEYED_PAYLOAD: Final = encode_call(Call(1, "shop:resize", *encode_arguments((), {}), key=KEY_HASH, unique=Unique("k")))
RAW_PAYLOAD: Final = b"raw"
LARGE_PAYLOAD: Final = bytes(MAX_MOVABLE + 1)


def call_name(number: int) -> str:
    return f"task-01arz3ndektsv4rrffq69g5fa{number}.default"


def raw_name(number: int) -> str:
    return f"task-{number:010d}"


class Link(enum.Enum):
    """A role and its session."""

    NONE = "has no session"
    REGISTERING = "has its inbox, and will register"  # a reference worker
    UP = "is connected"
    AWAY = "has lost its connection, and its session lives"
    CRASHED = "is dead, and its session lives"
    GONE = "is gone: its session ended"


_LIVING: Final = frozenset({Link.UP, Link.AWAY, Link.CRASHED})


class Kind(enum.Enum):
    OURS = "ours"
    REFERENCE = "reference"


class Znodes(NamedTuple):
    """One task in ZooKeeper: its places, with the payload in each. `accepted` and `outcomes` count what happened."""

    data: tuple[tuple[str, bytes], ...] = ()
    accepted: int = 0
    outcomes: int = 0
    excused: bool = False
    """It stands in two places because a reference role has not finished its move."""

    @property
    def places(self) -> frozenset[str]:
        return frozenset(place for place, _ in self.data)

    def payload(self, place: str) -> bytes:
        return dict(self.data)[place]

    def written(self, place: str, payload: bytes) -> Znodes:
        return self._replace(data=tuple(sorted({**dict(self.data), place: payload}.items())))

    def without(self, place: str) -> Znodes:
        return self._replace(data=tuple(each for each in self.data if each[0] != place))


class Seat(NamedTuple):
    """The primary. `listings` counts those that have come: of /tasks, the inboxes, the workers. `owner`: its session
    owns /master."""

    link: Link = Link.NONE
    kind: Kind = Kind.OURS
    listings: int = 0
    owner: bool = True


INBOXES_LISTED: Final = 2
ALL_LISTINGS: Final = 3


class Slot(NamedTuple):
    """An inbox and its worker; what begins with `seen` is the primary's picture. `removing`: the primary has asked for
    the inbox to be deleted."""

    link: Link = Link.NONE
    inbox: bool = False
    seen_alive: bool = False
    seen_inbox: bool = False
    removing: bool = False
    draining: bool = False

    @property
    def is_alive(self) -> bool:
        """ZooKeeper holds the session, and so the ephemeral."""
        return self.link in _LIVING

    def tidied(self) -> Slot:
        """A free slot, if nothing is left of the worker that had it."""
        left = self.inbox or self.seen_inbox or self.seen_alive or self.removing
        return Slot() if self.link in (Link.GONE, Link.NONE) and not left else self

    def pictured(self) -> Slot:
        """The primary's picture is up to date."""
        return self._replace(seen_alive=self.is_alive, seen_inbox=self.inbox).tidied()

    def unseen(self) -> Slot:
        """The primary has no picture."""
        return self._replace(seen_alive=False, seen_inbox=False).tidied()


class Doing(enum.Enum):
    """What a worker is about with a task that it holds."""

    NOTHING = "does not hold it"
    WAITING = "has not begun"
    MARKED = "has marked its start"
    RUNNING = "runs it, or has its outcome"
    HANDING = "hands it back"
    ENDING = "takes it for ended"
    LEFT = "has forgotten it"


class Hand(NamedTuple):
    """One task in one worker's hands. `move` is under way; `payload` is the one it read."""

    doing: Doing = Doing.NOTHING
    payload: bytes = b""
    move: Move | None = None
    done: int = 0


class Sub(enum.Enum):
    """One submission as its caller sees it."""

    NEW = "not submitted yet"
    QUEUED = "to be sent"
    SENT = "sent"
    ACCEPTED = "accepted"
    ENDED = "has its outcome"
    TOLD_NO = "the caller was told that it was not submitted"
    TOLD_UNKNOWN = "the caller was told that it is not known"
    FORGOTTEN = "its client crashed"


class Batch(NamedTuple):
    """`old`: it was sent in the session before."""

    tasks: tuple[int, ...]
    counted_on: int
    old: bool = False
    refused: bool = False


class Client(NamedTuple):
    """`sent` is what the client has not settled, `wire` what has not reached ZooKeeper. `alive` and `journal` are the
    znodes; `old`: a session before this one lives on in ZooKeeper."""

    link: Link = Link.NONE
    prepared: bool = False
    doubt: bool = True
    version: int = 0
    sent: tuple[Batch, ...] = ()
    wire: tuple[Batch, ...] = ()
    alive: frozenset[str] = NOWHERE
    journal: int = 0
    old: bool = False


def paths_of(task: str) -> dict[str, str]:
    """Path to place."""
    assignments = {layout.assignment_path(WORKERS[letter], task): ASSIGN[letter] for letter in INBOXES}
    return assignments | {
        layout.task_path(task): TASKS,
        layout.delayed_path(DUE, task): DELAYED,
        layout.status_path(task): STATUS,
        layout.dead_path(task): DEAD,
        layout.cancel_path(task): CANCEL,
        layout.key_path(KEY_HASH): KEY,
        layout.hold_path(KEY_HASH, task): HOLD,
    }


WORKER_PATHS: Final = {layout.worker_path(name): letter for letter, name in WORKERS.items()}
INBOX_OF: Final = {f"assign {letter}": letter for letter in INBOXES}
EMPTY_HAND: Final = Hand()


@cache
def letters_of(move: Move) -> list[str]:
    """The inboxes that a move touches."""
    return [letter for letter in INBOXES if any(WORKERS[letter] in each.path.split("/") for each in move.operations)]


@cache
def without_checks(move: Move) -> Move:
    operations = tuple(each for each in move.operations if not isinstance(each, CheckNode))
    return Move(move.transition, move.task, operations, move.guard - len(move.operations) + len(operations))


def describe(move: Move, number: int) -> str:
    """The move of a task as a story tells it."""
    workers = " and ".join(f"worker {letter}" for letter in letters_of(move))
    return f"{move.transition}, task {number}" + (f", {workers}" if workers else "")


def describe_request(move: Move, index: int, number: int) -> str:
    """One of the requests of a reference role's move."""
    operation = move.operations[index]
    place = paths_of(move.task)[operation.path]
    verb = "delete" if isinstance(operation, DeleteNode) else "create"
    if place in INBOX_OF:
        return f"{verb} the assignment of task {number} to worker {INBOX_OF[place]}"
    return f"{verb} task {number} in /{place}"
